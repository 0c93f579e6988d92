//! Slow and hanging loads: what the registry does about them when it knows how long loads take.
//!
//! ```text
//! cargo run -p sortie --example impatient
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use sortie::{Call, FlightError, Idle, SingleFlight};
use tokio::time::{Instant, sleep};

type Flights = SingleFlight<&'static str, u64, std::io::Error>;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FlightError<std::io::Error>> {
    let flights = Flights::builder()
        // A load that takes three times as long as usual is relieved by another.
        .soft_age_factor(3, ms(5))
        // A caller who cannot be answered in time is told at once.
        .join_in_time(true)
        // What is loaded for nobody goes on for a while, but not for many keys.
        .idle(Idle::Linger(ms(500)))
        .lingering_max(NonZeroUsize::MIN.saturating_add(99))
        // What may pass by itself is tried once more, by the flight, for all its callers.
        .retries(1, ms(10), |error| error.kind() == std::io::ErrorKind::ConnectionReset)
        .build();

    // Every load takes 20 ms, but the fifth, which hangs.
    let count = Arc::new(AtomicU64::new(0));
    let load = move |_cx| {
        let number = count.fetch_add(1, SeqCst) + 1;
        async move {
            if number == 5 {
                std::future::pending::<()>().await;
            }
            sleep(ms(20)).await;
            Ok(number)
        }
    };
    for _ in 0..4 {
        flights.run_with("row", Call::new(), load.clone()).await?;
    }

    let begun = Instant::now();
    let hangs = flights.run_with("row", Call::new(), load.clone());
    let hurried = async {
        sleep(ms(5)).await;
        let call = Call::new().deadline(Instant::now() + ms(10));
        flights.run_with("row", call, load.clone()).await
    };
    let (hangs, hurried) = tokio::join!(hangs, hurried);
    println!("the load hung; load {} answered after {:?}", hangs?.value, begun.elapsed());
    println!(
        "with 10 ms left and 15 to wait: {}",
        hurried.map_or_else(|e| e.to_string(), |_| "?".into())
    );

    // Three callers in turn, each with less patience than the load takes.
    for caller in 1..=3 {
        let call = Call::new().deadline(Instant::now() + ms(8));
        let answer = flights.run_with("other row", call, load.clone()).await;
        println!("caller {caller} of a cold key, 8 ms: {:?}", answer.map(|landed| landed.value));
    }

    let resets = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&resets);
    let reset = move || {
        let first = count.fetch_add(1, SeqCst) == 0;
        async move { if first { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(1) } }
    };
    let (one, two) = tokio::join!(flights.run("third", reset.clone()), flights.run("third", reset));
    println!("a reset, for two callers: {} and {}, {} attempts", one?, two?, resets.load(SeqCst));
    println!("{:?}", flights.stats());
    Ok(())
}
