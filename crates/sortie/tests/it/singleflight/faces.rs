//! Where the verbs must compile and run: tasks, generic callers, other flights, drivers' errors.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use sortie::{Call, FlightError, FlightStats, Idle, Join, Landed, SingleFlight};
use tokio::time::sleep;

use super::support::ms_of;

fn is_send<T: Send>(value: T) -> T {
    value
}

fn auto_traits<T: Send + Sync + Unpin + 'static>() {}

#[test]
fn handles_and_results_cross_threads() {
    auto_traits::<SingleFlight<String, Vec<u8>, std::io::Error>>();
    auto_traits::<FlightError<std::io::Error>>();
    auto_traits::<Landed<Vec<u8>>>();
    auto_traits::<FlightStats>();
    auto_traits::<Call>();
}

async fn by_a_generic_caller<K, V, E>(flights: SingleFlight<K, V, E>, key: K, value: V)
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Debug + PartialEq + Send + Sync + 'static,
    E: Debug + Send + Sync + 'static,
{
    let expected = value.clone();
    let task = tokio::task::JoinSet::from_iter([async move {
        let load = move || {
            let value = value.clone();
            async move {
                sleep(ms_of(1)).await;
                Ok(value)
            }
        };
        flights.run(key, load).await
    }]);
    assert_eq!(task.join_all().await.pop().unwrap().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_generic_caller_can_spawn_it() {
    is_send(by_a_generic_caller(SingleFlight::<_, _, sqlx::Error>::new(), 1_u64, 2_i64)).await;
    let flights = SingleFlight::<_, _, tokio_postgres::Error>::new();
    is_send(by_a_generic_caller(flights, Arc::<str>::from("k"), String::from("v"))).await;
}

#[tokio::test(start_paused = true)]
async fn it_runs_inside_another_flight() {
    let outer = SingleFlight::<u8, u8, FlightError<sqlx::Error>>::new();
    let inner = SingleFlight::<u8, u8, sqlx::Error>::new();
    let answer = is_send(outer.run(1, move || {
        let inner = inner.clone();
        async move {
            let load = || async {
                sleep(ms_of(1)).await;
                Err(sqlx::Error::RowNotFound)
            };
            inner.run(1, load).await
        }
    }))
    .await;
    let error = answer.unwrap_err();
    let FlightError::Failed(inner) = &error else { panic!("{error:?}") };
    assert!(matches!(&**inner, FlightError::Failed(e) if matches!(**e, sqlx::Error::RowNotFound)));
}

#[test]
fn a_ready_load_needs_no_runtime() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    assert_eq!(futures::executor::block_on(flights.run(1, || async { Ok(2) })).unwrap(), 2);
}

#[test]
fn a_pending_load_outside_a_runtime_panics_and_leaves_nothing_behind() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let call = flights.run(1, std::future::pending);
    let call = std::panic::AssertUnwindSafe(|| futures::executor::block_on(call));
    assert!(std::panic::catch_unwind(call).is_err());
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
}

#[test]
fn futures_stay_small() {
    let flights = SingleFlight::<u64, u64, std::io::Error>::new();
    let run = flights.run(1, || async { Ok(1) });
    assert!(size_of_val(&run) <= 176, "run: {} bytes", size_of_val(&run));
    let run_with = flights.run_with(1, Call::new(), |_| async { Ok(1) });
    assert!(size_of_val(&run_with) <= 176, "run_with: {} bytes", size_of_val(&run_with));
}

#[test]
fn a_local_call_has_its_load_inside_and_is_send_if_that_is() {
    let flights = SingleFlight::<u64, u64, std::io::Error>::new();
    let small = flights.run_local(1, Call::new(), |_| async { Ok(1) });
    assert!(size_of_val(&small) <= 1_024, "run_local: {} bytes", size_of_val(&small));
    let large = flights.run_local(1, Call::new(), |_| async {
        let page = [0_u8; 4_096];
        tokio::task::yield_now().await;
        Ok(page.len() as u64)
    });
    // Once in the call, and once in the closure's future that it is polled in.
    assert!(size_of_val(&large) <= 4_096 * 2 + 1_024, "{} bytes", size_of_val(&large));
    drop(is_send(small));
}

#[test]
fn the_defaults_are_what_the_documentation_says() {
    let settings = format!("{:?}", SingleFlight::<u8, u8, ()>::builder());
    assert_eq!(
        settings,
        "SingleFlightBuilder(Config { join: Running, idle: Abort, soft_age: 5s, flight_max: 30s, \
         flights_max: 65536, waiters_max: 1048576, at_limit: Solo, when_stuck: Wait, \
         boarding: false, batch_max: 1024, \
         lingering_max: 1024, soft_factor: None, join_in_time: false })"
    );
    assert_eq!((Join::default(), Idle::default()), (Join::Running, Idle::Abort));
}
