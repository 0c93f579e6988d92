//! Flights that are ended by hand, keys that are not copied, and a load that would wait for itself.
//!
//! ```text
//! cargo run -p sortie --example by_hand
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use sortie::{Call, FlightError, SingleFlight};
use tokio::time::sleep;

type Flights = SingleFlight<String, u64, std::io::Error>;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FlightError<std::io::Error>> {
    let flights = Flights::new();
    let load = |_cx| async {
        sleep(Duration::from_millis(20)).await;
        Ok(100)
    };

    // The key is looked up as it is; only the one who leads makes a `String` of it.
    let (one, two) = tokio::join!(
        flights.run_by("balance", Call::new(), load),
        flights.run_by("balance", Call::new(), load),
    );
    let flight = one?.flight;
    println!("flight {} gave both {}", flight.number(), two?.value);

    // A value that is found wanting: its flight is closed to others, if it is still that one.
    println!("forgotten by its id: {}", flights.forget_if(&"balance".to_owned(), flight));

    // What is known to be bad is ended at once.
    let cancels = async {
        sleep(Duration::from_millis(5)).await;
        flights.cancel(&"balance".to_owned());
    };
    let (ended, ()) = tokio::join!(flights.run_by("balance", Call::new(), load), cancels);
    println!("cancelled: {}", ended.map_or_else(|error| error.to_string(), |_| "no".into()));

    // a's load asks for b while b's load asks for a: whoever comes second is told.
    let asks = |key: &'static str| {
        let inner = flights.clone();
        move |_cx| {
            let inner = inner.clone();
            async move {
                sleep(Duration::from_millis(10)).await;
                let leaf = |_cx| async { Ok(1) };
                let landed = inner.run_by(key, Call::new(), leaf).await;
                landed.map(|landed| landed.value).map_err(std::io::Error::other)
            }
        }
    };
    let (a, b) = tokio::join!(
        flights.run_by("a", Call::new(), asks("b")),
        flights.run_by("b", Call::new(), asks("a")),
    );
    println!(
        "a circle: {} and {}, told {} time",
        a.is_err(),
        b.is_err(),
        flights.stats().reentrant
    );
    Ok(())
}
