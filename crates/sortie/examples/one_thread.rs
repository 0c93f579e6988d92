//! A client that is bound to its thread, and loads that borrow it: driven by their callers.
//!
//! ```text
//! cargo run -p sortie --example one_thread
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sortie::{Call, FlightError, SingleFlight};
use tokio::time::{sleep, timeout};

type Error = FlightError<std::io::Error>;

/// Neither `Send` nor `Sync`.
#[derive(Clone, Default)]
struct Client(Rc<RefCell<u64>>);

impl Client {
    async fn balance(&self, user: u64) -> Result<u64, std::io::Error> {
        *self.0.borrow_mut() += 1;
        sleep(Duration::from_millis(20)).await;
        Ok(user * 100)
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Error> {
    let (flights, client) = (SingleFlight::<u64, u64, std::io::Error>::new(), Client::default());
    let ask = || flights.run_local(42, Call::new(), |_cx| client.balance(42));

    let (one, two) = tokio::join!(ask(), ask());
    println!("{} and {} by {} query", one?.value, two?.value, client.0.borrow());

    // The one that drives is impatient: its load goes with it, and the other begins its own.
    let (gave_up, patient) = tokio::join!(timeout(Duration::from_millis(5), ask()), ask());
    println!("gave up: {}, the other: {:?}", gave_up.is_err(), patient?.role);
    println!("{} queries, {} went on", client.0.borrow(), flights.stats().takeovers);
    Ok(())
}
