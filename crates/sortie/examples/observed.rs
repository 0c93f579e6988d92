//! What an observer hears of a herd, a slow load and a limit, and what the counters say then.
//!
//! ```text
//! cargo run -p sortie --example observed
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sortie::observe::{Event, Observer, Traced};
use sortie::{AtLimit, FlightError, SingleFlight};
use tokio::time::sleep;

/// Prints what it hears, and hands it on: `Traced` links spans where a subscriber listens.
struct Printed(Traced);

impl Observer for Printed {
    fn event(&self, event: &Event) {
        self.0.event(event);
        match event {
            Event::Begun { how, .. } => println!("  a load begins: {}", how.label()),
            Event::Joined { age: Some(age), fan_out, .. } => {
                println!("  joined a load {} ms old, {fan_out} wait", age.as_millis());
            }
            Event::Limited { why, .. } => println!("  refused: {}", why.label()),
            Event::Ended { how, fan_out, .. } => {
                println!("  ended: {}, {fan_out} callers answered", how.label());
            }
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FlightError<std::io::Error>> {
    let flights = SingleFlight::<u64, u64, std::io::Error>::builder()
        .observer(Arc::new(Printed(Traced::new())))
        .waiters_max(NonZeroUsize::MIN.saturating_add(2))
        .at_limit(AtLimit::Busy)
        .soft_age(Duration::from_millis(100));
    let flights = flights.build();
    let load = |latency| {
        move || async move {
            sleep(latency).await;
            Ok(4_200)
        }
    };
    println!("a herd of four, where three may wait:");
    let quick = load(Duration::from_millis(30));
    let (a, b, c, d) = tokio::join!(
        flights.run(42, quick),
        flights.run(42, quick),
        flights.run(42, quick),
        flights.run(42, quick),
    );
    println!("  {} {} {}, and {}", a?, b?, c?, d.map_or_else(|no| no.to_string(), |_| "?".into()));
    println!("a load past its soft age:");
    flights.run(7, load(Duration::from_millis(150))).await?;
    println!("{:#?}", flights.stats());
    Ok(())
}
