//! What `Metered` records: a recorder that keeps counters in memory, and prints them.
//!
//! ```text
//! cargo run -p sortie --features metrics --example metered
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString};
use metrics::{Unit, with_local_recorder};
use sortie::observe::Metered;
use sortie::{FlightError, SingleFlight};
use tokio::time::sleep;

/// Counters by name and labels. A service has an exporter here, and installs it once.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        let mut counters = self.0.lock().expect("nobody panics with it");
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FlightError<std::io::Error>> {
    let counters = Counters::default();
    let metered = with_local_recorder(&counters, || Metered::new("balances"));
    let flights = SingleFlight::<u64, u64, std::io::Error>::builder();
    let flights = flights.observer(Arc::new(metered)).build();
    let load = || async {
        sleep(Duration::from_millis(20)).await;
        Ok(100)
    };
    let (one, two, other) =
        tokio::join!(flights.run(1, load), flights.run(1, load), flights.run(2, load));
    println!("{} {} {}", one?, two?, other?);
    for (name, count) in counters.0.lock().expect("nobody panics with it").iter() {
        let count = count.load(SeqCst);
        if count > 0 {
            println!("{name}: {count}");
        }
    }
    Ok(())
}
