//! Errors, panics, and loads that ask for their own key.

use std::error::Error as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sortie::{FlightError, Join, SingleFlight};
use tokio::time::{Instant, sleep};

use super::support::{Answer, Flights, Goes, KEY, Loads, check_quiet, ms_of, since};

async fn herd(flights: &Flights, loads: &Loads, count: usize) -> Vec<Answer> {
    let mut callers = Vec::new();
    for _ in 0..count {
        callers.push(loads.call(flights).await);
    }
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.unwrap());
    }
    answers
}

/// `quick_cache` and a `OnceCell` per key run a failing load once for every waiter.
#[tokio::test(start_paused = true)]
async fn one_error_goes_to_twenty_callers_by_one_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::FailsAfter(50)]));
    let begun = Instant::now();
    let answers = herd(&flights, &loads, 20).await;
    assert_eq!((loads.begun(), since(begun)), (1, 50));
    let mut shared = answers.into_iter().map(|answer| match answer {
        Err(FlightError::Failed(error)) => error,
        other => panic!("{other:?}"),
    });
    let first = shared.next().unwrap();
    assert!(shared.all(|error| Arc::ptr_eq(&first, &error)), "one error, not copies");
    assert_eq!(check_quiet(&flights, &loads).await.failed, 1);
}

/// A panic left the key wedged; futures' `Shared` stays poisoned.
#[tokio::test(start_paused = true)]
async fn moka_43_one_panic_is_ten_errors_by_one_load_and_poisons_nothing() {
    let script = [Goes::PanicsAfter(50), Goes::Ready];
    let (flights, loads) = (Flights::new(), Loads::script(script));
    for answer in herd(&flights, &loads, 10).await {
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "the load panicked: load 1 panicked");
    }
    assert_eq!(loads.begun(), 1);
    assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 2);
    assert_eq!(check_quiet(&flights, &loads).await.panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_first_poll_or_in_the_closure_is_an_error_too() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let in_poll = flights.run(1, || async { panic!("in the first poll") }).await;
    assert_eq!(in_poll.unwrap_err().to_string(), "the load panicked: in the first poll");
    let in_closure = flights
        .run(1, || -> std::future::Ready<Result<u8, ()>> { panic!("in {}", "the closure") })
        .await;
    assert_eq!(in_closure.unwrap_err().to_string(), "the load panicked: in the closure");
    let odd = flights.run(1, || async { std::panic::panic_any(7_u8) }).await;
    assert!(matches!(odd, Err(FlightError::Panicked { .. })));
    assert_eq!(flights.stats().panicked, 3);
    assert_eq!(flights.stats().in_flight_flights, 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_not_remembered() {
    let script = [Goes::FailsAfter(10), Goes::After(10)];
    let (flights, loads) = (Flights::new(), Loads::script(script));
    assert!(loads.call(&flights).await.await.unwrap().is_err());
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn fresh_callers_are_not_given_the_error_of_the_load_before_them() {
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::FailsAfter(50), Goes::After(50)]);
    let answers = herd(&flights, &loads, 3).await;
    assert!(answers[0].is_err());
    assert_eq!(answers[1].as_ref().unwrap(), &2);
    assert_eq!(answers[2].as_ref().unwrap(), &2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn an_errors_source_is_the_users_own_error() {
    let flights = SingleFlight::<u8, u8, std::io::Error>::new();
    let failed = flights.run(1, || async { Err(std::io::Error::other("disk on fire")) }).await;
    let error = failed.unwrap_err();
    assert_eq!(error.to_string(), "the load failed");
    assert_eq!(error.source().unwrap().to_string(), "disk on fire");
    assert!(error.source().unwrap().downcast_ref::<std::io::Error>().is_some());
}

/// Asks for the same key from inside its load, before or after its first await.
async fn asks_itself(flights: &Flights, pause_ms: u64) -> Answer {
    let inner = flights.clone();
    let outer = flights.run(KEY.into(), move || {
        let flights = inner.clone();
        async move {
            if pause_ms > 0 {
                sleep(ms_of(pause_ms)).await;
            }
            match flights.run(KEY.into(), || async { Ok(1) }).await {
                Err(FlightError::Reentrant) => Err("reentrant".to_owned()),
                other => panic!("{other:?}"),
            }
        }
    });
    outer.await
}

#[tokio::test(start_paused = true)]
async fn a_load_that_asks_for_its_own_key_is_told_at_once() {
    for join in [Join::Running, Join::Fresh] {
        for pause_ms in [0, 5] {
            let flights = Flights::builder().join(join).build();
            let answer = asks_itself(&flights, pause_ms).await;
            assert!(matches!(&answer, Err(FlightError::Failed(e)) if **e == "reentrant"));
            assert_eq!(flights.stats().reentrant, 1);
            assert_eq!(flights.stats().in_flight_flights, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_solo_load_that_asks_for_its_own_key_is_told_too() {
    let flights = Flights::builder().flights_max(NonZeroUsize::MIN).build();
    let elsewhere = Loads::script([Goes::After(100)]);
    let (again, load) = (flights.clone(), elsewhere.load());
    let full = super::support::start(async move { again.run("full".into(), load).await }).await;
    let answer = asks_itself(&flights, 5).await;
    assert!(matches!(&answer, Err(FlightError::Failed(e)) if **e == "reentrant"));
    assert_eq!(flights.stats().solos, 1);
    full.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_loads_is_told_where_it_closes() {
    let flights = Flights::new();
    let (one, two) = (flights.clone(), flights.clone());
    let answer = flights
        .run("a".into(), move || {
            let (one, two) = (one.clone(), two.clone());
            async move {
                sleep(ms_of(1)).await;
                let b = one.run("b".into(), move || {
                    let two = two.clone();
                    async move {
                        sleep(ms_of(1)).await;
                        let closed = two.run("a".into(), || async { Ok(1) }).await;
                        closed.map_err(|error| error.to_string())
                    }
                });
                b.await.map_err(|error| error.source_text())
            }
        })
        .await;
    let text = answer.unwrap_err().source_text();
    assert_eq!(text, "the load asked for its own key");
    assert_eq!(flights.stats().in_flight_flights, 0);
}

trait SourceText {
    fn source_text(&self) -> String;
}

impl SourceText for FlightError<String> {
    fn source_text(&self) -> String {
        match self {
            Self::Failed(error) => String::clone(error),
            other => other.to_string(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_may_ask_for_other_keys_and_other_registries() {
    let (flights, other) = (Flights::new(), Flights::new());
    let (inner, others) = (flights.clone(), other.clone());
    let answer = flights.run("sum".into(), move || {
        let (inner, others) = (inner.clone(), others.clone());
        async move {
            sleep(ms_of(1)).await;
            let one = inner.run("one".into(), || async { Ok(1) }).await;
            let two = others.run("sum".into(), || async { Ok(2) }).await;
            Ok(one.unwrap() + two.unwrap())
        }
    });
    assert_eq!(answer.await.unwrap(), 3);
}
