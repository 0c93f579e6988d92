//! What an observer is told, in order.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use sortie::observe::{Event, Observer};
use sortie::{AtLimit, Call, Idle, Join};
use tokio::time::{Instant, sleep};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, start};

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Heard {
    fn event(&self, event: &Event) {
        let told = match event {
            Event::Begun { how, .. } => format!("begun {}", how.label()),
            Event::Joined { age, fan_out, .. } => {
                let age = age.map(|age| age.as_millis());
                format!("joined {fan_out} at {age:?}")
            }
            Event::Limited { why, solo, .. } => format!("limited {} solo={solo}", why.label()),
            Event::Answered { role, ok, waited, load, .. } => {
                let (waited, load) = (waited.as_millis(), load.as_millis());
                format!("answered {role:?} ok={ok} waited={waited} load={load}")
            }
            Event::Left { role, waited, .. } => format!("left {role:?} {}", waited.as_millis()),
            Event::Ended { how, took, fan_out, .. } => {
                format!("ended {} took={} fan_out={fan_out}", how.label(), took.as_millis())
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(told);
    }
}

fn heard() -> (Heard, sortie::SingleFlightBuilder<String, usize, String>) {
    let heard = Heard::default();
    let builder = Flights::builder().observer(Arc::new(heard.clone()));
    (heard, builder)
}

#[tokio::test(start_paused = true)]
async fn a_ready_load_is_begun_ended_and_answered() {
    let (heard, builder) = heard();
    let (flights, loads) = (builder.build(), Loads::script([Goes::Ready]));
    flights.run(KEY.into(), loads.load()).await.unwrap();
    let expected = [
        "begun leader",
        "ended landed took=0 fan_out=1",
        "answered Leader ok=true waited=0 load=0",
    ];
    assert_eq!(heard.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn followers_say_how_old_the_load_was_and_how_long_they_waited() {
    let (heard, builder) = heard();
    let (flights, loads) = (builder.build(), Loads::script([Goes::After(100)]));
    let leader = loads.call(&flights).await;
    sleep(ms_of(30)).await;
    let follower = loads.call(&flights).await;
    leader.await.unwrap().unwrap();
    follower.await.unwrap().unwrap();
    let mut told = heard.take();
    told[3..].sort();
    let expected = [
        "begun leader",
        "joined 2 at Some(30)",
        "ended landed took=100 fan_out=2",
        "answered Follower ok=true waited=70 load=100",
        "answered Leader ok=true waited=100 load=100",
    ];
    assert_eq!(told, expected);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_next_load_has_no_age() {
    let (heard, builder) = heard();
    let flights = builder.join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(10), Goes::FailsAfter(5)]);
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        caller.await.unwrap().ok();
    }
    let told = heard.take();
    let expected =
        ["begun leader", "joined 1 at None", "begun next", "ended landed took=10 fan_out=1"];
    assert_eq!(told[..4], expected);
    assert!(told.contains(&"answered Follower ok=false waited=15 load=5".into()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn successors_and_whom_they_relieve_are_told_apart() {
    let (heard, builder) = heard();
    let flights = builder.soft_age(ms_of(100)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(10)]);
    loads.call(&flights).await.await.unwrap().unwrap();
    let mut told = heard.take();
    told[2..].sort();
    let expected = [
        "begun leader",
        "begun successor",
        "answered Leader ok=true waited=110 load=10",
        "ended landed took=10 fan_out=1",
        "ended superseded took=110 fan_out=0",
    ];
    assert_eq!(told, expected);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_is_heard_of_and_so_is_what_that_ends() {
    let (heard, builder) = heard();
    let flights = builder.idle(Idle::Abort).build();
    let loads = Loads::script([Goes::Hangs]);
    let dropped = loads.call(&flights).await;
    let call = Call::new().deadline(Instant::now() + ms_of(40));
    let (again, load) = (flights.clone(), loads.load());
    let late = async move { again.run_with(KEY.into(), call, move |_| load()).await.err() };
    let late = start(late).await;
    sleep(ms_of(10)).await;
    dropped.abort();
    late.await.unwrap();
    settle().await;
    let expected = [
        "begun leader",
        "joined 2 at Some(0)",
        "left Leader 10",
        "ended aborted took=40 fan_out=0",
        "left Follower 40",
    ];
    assert_eq!(heard.take(), expected);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_says_which_and_what_came_of_it() {
    for (at_limit, solo) in [(AtLimit::Solo, true), (AtLimit::Busy, false)] {
        let (heard, builder) = heard();
        let flights = builder.waiters_max(NonZeroUsize::MIN).at_limit(at_limit).build();
        let loads = Loads::script([Goes::After(10), Goes::Ready]);
        let leader = loads.call(&flights).await;
        flights.run(KEY.into(), loads.load()).await.ok();
        leader.await.unwrap().unwrap();
        let told = heard.take();
        assert_eq!(told[1], format!("limited waiters solo={solo}"));
        let alone = told.contains(&"answered Solo ok=true waited=0 load=0".into());
        assert_eq!(alone, solo, "{told:?}");
    }
}

/// What the `metrics` crate is told, by name and labels.
#[cfg(feature = "metrics")]
mod metered {
    use std::collections::BTreeMap;

    use metrics::{
        Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
        SharedString, Unit,
    };
    use sortie::observe::Metered;

    use super::*;

    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

    struct Line(Book, String);

    impl Line {
        fn write(&self, value: f64) {
            let (Book(book), name) = (&self.0, self.1.clone());
            book.lock().unwrap().entry(name).or_default().push(value);
        }
    }

    impl CounterFn for Line {
        fn increment(&self, value: u64) {
            self.write(f64::from(u32::try_from(value).unwrap()));
        }
        fn absolute(&self, _: u64) {}
    }

    impl HistogramFn for Line {
        fn record(&self, value: f64) {
            self.write(value);
        }
    }

    impl Book {
        fn line(&self, key: &Key) -> Arc<Line> {
            let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
            Arc::new(Line(self.clone(), format!("{} {}", key.name(), labels.join(" "))))
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.line(key))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.line(key))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_metrics_crate_is_told_under_names_and_labels() {
        let book = Book::default();
        let metered = metrics::with_local_recorder(&book, || Metered::new("rows"));
        let flights = Flights::builder().observer(Arc::new(metered)).build();
        let loads = Loads::script([Goes::After(250)]);
        let callers = [loads.call(&flights).await, loads.call(&flights).await];
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let book = book.0.lock().unwrap();
        let told: Vec<_> =
            book.iter().map(|(name, values)| format!("{name}: {values:?}")).collect();
        let expected = [
            "sortie_flight_fan_out rows: [2.0]",
            "sortie_flight_seconds rows: [0.25]",
            "sortie_flights_begun_total rows leader: [1.0]",
            "sortie_flights_ended_total rows landed: [1.0]",
            "sortie_join_age_seconds rows: [0.0]",
            "sortie_joined_total rows: [1.0]",
            "sortie_wait_seconds rows follower: [0.25]",
            "sortie_wait_seconds rows leader: [0.25]",
        ];
        assert_eq!(told, expected);
    }
}
