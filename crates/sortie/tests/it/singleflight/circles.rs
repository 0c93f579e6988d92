//! Loads that would wait for themselves, by way of flights that others began.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::future::{BoxFuture, FutureExt};
use sortie::{Call, FlightError, Join, SingleFlight};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::support::{ms_of, since, start};

type Flights = SingleFlight<&'static str, &'static str, FlightError<Arc<str>>>;
type Answer = Result<&'static str, FlightError<FlightError<Arc<str>>>>;

/// Waits, then asks for the keys one after the other, as a call of its own each.
fn asks(flights: &Flights, pause: u64, keys: &'static [&'static str], join: Join) -> Load {
    let flights = flights.clone();
    Arc::new(move || {
        let flights = flights.clone();
        async move {
            sleep(ms_of(pause)).await;
            for key in keys {
                let leaf = |_cx| async { Ok("leaf") };
                match flights.run_with(key, Call::new().join(join), leaf).await {
                    Ok(_) => {}
                    Err(FlightError::Reentrant) => return Err(FlightError::Reentrant),
                    Err(FlightError::Failed(why)) => return Err(FlightError::clone(&why)),
                    Err(other) => panic!("{other:?}"),
                }
            }
            Ok("done")
        }
        .boxed()
    })
}

type Outcome = Result<&'static str, FlightError<Arc<str>>>;
type Load = Arc<dyn Fn() -> BoxFuture<'static, Outcome> + Send + Sync>;

async fn run(flights: &Flights, key: &'static str, load: Load) -> JoinHandle<Answer> {
    let flights = flights.clone();
    start(async move { flights.run(key, move || load()).await }).await
}

fn told(answer: &Answer) -> bool {
    matches!(answer, Err(FlightError::Failed(why)) if matches!(**why, FlightError::Reentrant))
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_two_that_others_began_is_told_where_it_closes() {
    for join in [Join::Running, Join::Fresh] {
        let flights = Flights::new();
        let begun = Instant::now();
        let a = run(&flights, "a", asks(&flights, 10, &["b"], join)).await;
        let b = run(&flights, "b", asks(&flights, 20, &["a"], join)).await;
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert!(told(&b), "b closed it: {b:?}");
        // The one that waited is told by the other's failure, or asked anew for a fresh load.
        assert!(a.is_ok() == (join == Join::Fresh), "{a:?}");
        assert_eq!((since(begun), flights.stats().reentrant), (20, 1));
        assert_eq!(flights.stats().in_flight_flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_three_through_two_registries_is_told() {
    let (flights, other) = (Flights::new(), Flights::new());
    let a = run(&flights, "a", asks(&other, 10, &["b"], Join::Running)).await;
    let b = run(&other, "b", asks(&flights, 10, &["c"], Join::Running)).await;
    let c = run(&flights, "c", asks(&flights, 30, &["a"], Join::Running)).await;
    assert!(told(&c.await.unwrap()) && told(&b.await.unwrap()) && told(&a.await.unwrap()));
    assert_eq!(flights.stats().reentrant + other.stats().reentrant, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_or_given_up_is_no_part_of_a_circle() {
    let flights = Flights::new();
    // a has waited for b, b then asks for a's next load.
    let a = run(&flights, "a", asks(&flights, 10, &["b"], Join::Running)).await;
    let b = run(&flights, "b", asks(&flights, 30, &[], Join::Running)).await;
    assert!(a.await.unwrap().is_ok() && b.await.unwrap().is_ok());
    let b = run(&flights, "b", asks(&flights, 5, &["a"], Join::Running)).await;
    assert!(b.await.unwrap().is_ok());
    // a gives up waiting for b before b asks for it.
    let inner = flights.clone();
    let gives_up: Load = Arc::new(move || {
        let inner = inner.clone();
        async move {
            let call = Call::new().deadline(Instant::now() + ms_of(10));
            let late = inner.run_with("b", call, |_| async { Ok("leaf") }).await;
            assert!(matches!(late, Err(FlightError::TimedOut)));
            sleep(ms_of(50)).await;
            Ok("gave up")
        }
        .boxed()
    });
    let b = run(&flights, "b", asks(&flights, 30, &["a"], Join::Running)).await;
    let a = run(&flights, "a", gives_up).await;
    assert!(a.await.unwrap().is_ok() && b.await.unwrap().is_ok());
    assert_eq!(flights.stats().reentrant, 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_what_waits_for_others_is_no_circle() {
    let flights = Flights::new();
    let a = run(&flights, "a", asks(&flights, 5, &["b", "c"], Join::Running)).await;
    let b = run(&flights, "b", asks(&flights, 10, &["c"], Join::Running)).await;
    let c = run(&flights, "c", asks(&flights, 20, &["d"], Join::Running)).await;
    assert!(a.await.unwrap().is_ok() && b.await.unwrap().is_ok() && c.await.unwrap().is_ok());
    assert_eq!((flights.stats().reentrant, flights.stats().in_flight_waiters), (0, 0));
}

/// Waits, and fails.
fn fails(pause: u64) -> Load {
    Arc::new(move || {
        async move {
            sleep(ms_of(pause)).await;
            Err(FlightError::Busy)
        }
        .boxed()
    })
}

/// The first load, the second, and so on.
fn in_turn(loads: impl Into<Vec<Load>>) -> Load {
    let (loads, turn) = (loads.into(), AtomicUsize::new(0));
    Arc::new(move || loads[turn.fetch_add(1, Relaxed).min(loads.len() - 1)]())
}

fn ask(flights: &Flights, join: Join, load: Load) -> JoinHandle<Answer> {
    let flights = flights.clone();
    let call = async move {
        let landed = flights.run_with("b", Call::new().join(join), move |_cx| load()).await;
        landed.map(|landed| landed.value)
    };
    tokio::runtime::Handle::current().spawn(call)
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_the_next_load_of_those_who_waited_is_told() {
    let (flights, begun) = (Flights::new(), Instant::now());
    let first = run(&flights, "b", asks(&flights, 30, &[], Join::Running)).await;
    // Whose load the next one is.
    let other = ask(&flights, Join::Fresh, asks(&flights, 20, &["a"], Join::Running));
    let a = run(&flights, "a", asks(&flights, 10, &["b"], Join::Fresh)).await;
    let (a, other) = (a.await.unwrap(), other.await.unwrap());
    assert!(first.await.unwrap().is_ok() && told(&other) && told(&a), "{other:?} {a:?}");
    assert_eq!((since(begun), flights.stats().reentrant), (50, 1));
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_a_successor_that_callers_are_left_to_is_told() {
    let (flights, begun) = (Flights::builder().soft_age(ms_of(50)).build(), Instant::now());
    // At 50 the second load begins, at 70 it asks for a, at 100 the first one fails.
    let long = Flights::new();
    let loads = in_turn([fails(100), asks(&long, 20, &["a"], Join::Running)]);
    let first = run(&flights, "b", loads).await;
    let a = run(&long, "a", asks(&flights, 10, &["b"], Join::Running)).await;
    assert!(a.await.unwrap().is_err() && first.await.unwrap().is_err());
    assert_eq!((since(begun), long.stats().reentrant), (100, 1));
    assert_eq!(flights.stats().in_flight_flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_a_later_flight_that_a_leader_is_left_to_is_told() {
    let (flights, begun) = (Flights::builder().soft_age(ms_of(50)).build(), Instant::now());
    let inner = flights.clone();
    // a leads b, whose successor fails at once.
    let loads = in_turn([fails(200), fails(0)]);
    let a_leads: Load = Arc::new(move || {
        let (inner, loads) = (inner.clone(), Arc::clone(&loads));
        async move {
            match inner.run("b", move || loads()).await {
                Err(FlightError::Failed(why)) => Err(FlightError::clone(&why)),
                other => panic!("{other:?}"),
            }
        }
        .boxed()
    });
    let long = Flights::new();
    let a = run(&long, "a", a_leads).await;
    sleep(ms_of(100)).await;
    let other = ask(&flights, Join::Running, asks(&long, 20, &["a"], Join::Running));
    assert!(told(&other.await.unwrap()));
    assert!(matches!(a.await.unwrap(), Err(FlightError::Failed(_))));
    assert_eq!((since(begun), long.stats().reentrant), (200, 1));
}

/// What is documented as not seen: it ends at `flight_max` all the same.
#[tokio::test(start_paused = true)]
async fn a_circle_through_a_spawned_task_ends_at_flight_max() {
    let flights = Flights::builder().flight_max(ms_of(300)).soft_age(ms_of(1_000)).build();
    let inner = flights.clone();
    let load: Load = Arc::new(move || {
        let inner = inner.clone();
        async move {
            let own = async move { inner.run("a", || async { Ok("leaf") }).await.is_ok() };
            let task = tokio::runtime::Handle::current().spawn(own);
            assert!(!task.await.unwrap());
            Ok("never")
        }
        .boxed()
    });
    let answer = run(&flights, "a", load).await.await.unwrap();
    assert!(matches!(answer, Err(FlightError::TimedOut)), "{answer:?}");
}
