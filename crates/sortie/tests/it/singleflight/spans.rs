//! What a flight tells a `tracing` subscriber.

use std::sync::{Arc, Mutex};

use sortie::Join;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::support::{Flights, Goes, Loads, check_quiet};

/// Writes down the names of spans and the fields of events, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sortie::singleflight")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.lock().unwrap().push(format!("span {}", span.metadata().name()));
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let fields = event.fields().map(|field| field.name()).collect::<Vec<_>>();
        self.0.lock().unwrap().push(format!("event {}", fields.join(" ")));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_load_is_one_span_and_a_follower_says_that_it_joined() {
    // With one subscriber in the process, a call site that another test meets first asks that
    // test's thread whether anybody listens, and stays off. With two, it asks them both.
    let _second = tracing::Dispatch::new(Log::default());
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(10)]);
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    check_quiet(&flights, &loads).await;
    let log = log.0.lock().unwrap();
    assert_eq!(*log, ["span flight", "event message party", "span flight"]);
}
