//! What a flight tells a `tracing` subscriber.

use std::sync::{Arc, Mutex};

use sortie::observe::Traced;
use sortie::{Call, Join};
use tokio::time::Instant;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Level, Metadata, Subscriber, debug_span};
use tracing_core::span::Current;

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, start};

/// Writes down spans by their number, the fields of events, and links.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    lines: Vec<String>,
    spans: Vec<&'static Metadata<'static>>,
    /// The spans that are entered, on the one thread of the test.
    stack: Vec<Id>,
}

impl Book {
    fn name(&self, id: &Id) -> String {
        format!("{} {}", self.metadata(id).name(), id.into_u64())
    }

    fn metadata(&self, id: &Id) -> &'static Metadata<'static> {
        self.spans[usize::try_from(id.into_u64()).unwrap() - 1]
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = ["sortie::singleflight", "sortie::observe", "it::"];
        ours.iter().any(|target| metadata.target().starts_with(target))
            && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut book = self.0.lock().unwrap();
        book.spans.push(span.metadata());
        let id = Id::from_u64(book.spans.len() as u64);
        let name = book.name(&id);
        book.lines.push(format!("span {name}"));
        id
    }

    fn event(&self, event: &Event<'_>) {
        let fields = event.fields().map(|field| field.name()).collect::<Vec<_>>();
        self.0.lock().unwrap().lines.push(format!("event {}", fields.join(" ")));
    }

    fn record_follows_from(&self, span: &Id, from: &Id) {
        let mut book = self.0.lock().unwrap();
        let line = format!("{} follows from {}", book.name(span), book.name(from));
        book.lines.push(line);
    }

    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().stack.push(id.clone());
    }

    fn exit(&self, id: &Id) {
        let left = self.0.lock().unwrap().stack.pop();
        assert_eq!(left.as_ref(), Some(id));
    }

    fn current_span(&self) -> Current {
        let book = self.0.lock().unwrap();
        match book.stack.last() {
            Some(id) => Current::new(id.clone(), book.metadata(id)),
            None => Current::none(),
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
}

/// A subscriber for the current thread, for as long as the guards live.
fn listen() -> (Log, impl Sized) {
    // With one subscriber in the process, a call site that another test meets first asks that
    // test's thread whether anybody listens, and stays off. With two, it asks them both.
    let second = tracing::Dispatch::new(Log::default());
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    (log, (second, guard))
}

#[tokio::test(start_paused = true)]
async fn a_load_is_one_span_and_a_follower_says_that_it_joined() {
    let (log, _guards) = listen();
    let flights = Flights::builder().join(Join::Fresh).observer(Arc::new(Traced::new())).build();
    let loads = Loads::script([Goes::After(10)]);
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    check_quiet(&flights, &loads).await;
    let ended = "event message flight how took fan_out";
    let log = log.0.lock().unwrap();
    let joined = "event message age fan_out";
    assert_eq!(log.lines, ["span flight 1", joined, "span flight 2", ended, ended]);
}

/// In OpenTelemetry the one who waited has a link to the load that answered it, or did not.
#[tokio::test(start_paused = true)]
async fn a_followers_span_follows_from_the_span_of_its_load() {
    let (log, _guards) = listen();
    let flights = Flights::builder().observer(Arc::new(Traced::new())).build();
    let loads = Loads::script([Goes::After(50)]);
    let leader = start(
        {
            let (flights, load) = (flights.clone(), loads.load());
            async move { flights.run(KEY.into(), load).await }
        }
        .instrument(debug_span!("leader")),
    );
    let leader = leader.await;
    let follow = |deadline| {
        let (flights, load) = (flights.clone(), loads.load());
        let call = Call::new().deadline(Instant::now() + ms_of(deadline));
        async move { flights.run_with(KEY.into(), call, move |_| load()).await.is_ok() }
    };
    let answered = start(follow(100).instrument(debug_span!("answered"))).await;
    let gives_up = start(follow(20).instrument(debug_span!("gives_up"))).await;
    let ended = (leader.await.unwrap().is_ok(), answered.await.unwrap(), gives_up.await.unwrap());
    assert_eq!(ended, (true, true, false));
    let log = log.0.lock().unwrap();
    let links: Vec<_> = log.lines.iter().filter(|line| line.contains("follows")).collect();
    let expected = ["gives_up 4 follows from flight 2", "answered 3 follows from flight 2"];
    assert_eq!(links, expected, "{:?}", log.lines);
}
