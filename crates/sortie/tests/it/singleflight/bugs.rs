//! What went wrong in Go's single flights, as tests. Named after the report; the rest of a name
//! says what must hold here. Other languages' are in `bugs_elsewhere`.
//!
//! Some are told where their subject is: `tailscale_18919`, `janos_4`, `tokio_6450`, `moka_59` and
//! `quick_cache_104` in `leaving`; `moka_43` in `failures`; `vitess_18272` in `ages`;
//! `vitess_18783` in `limits`; `golang_31420` by id in `ending`.

use std::sync::{Arc, Barrier};

use futures::poll;
use sortie::FlightError;
use tokio::time::sleep;

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of};

/// A panic left the key locked, so every later caller hung.
#[tokio::test(start_paused = true)]
async fn golang_33519_after_a_panic_the_key_works_at_once() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::PanicsAfter(5), Goes::Ready]));
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(FlightError::Panicked { .. })));
    }
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

/// A call that panicked while others waited for it never woke them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golang_41133_a_panic_in_the_leaders_own_poll_reaches_those_who_joined_meanwhile() {
    let flights = Flights::new();
    let joined = Arc::new(Barrier::new(2));
    let load = {
        let joined = Arc::clone(&joined);
        move || {
            let joined = Arc::clone(&joined);
            async move {
                joined.wait();
                joined.wait();
                panic!("in the first poll")
            }
        }
    };
    let leader = flights.clone();
    let leader =
        std::thread::spawn(move || futures::executor::block_on(leader.run(KEY.into(), load)));
    joined.wait();
    let mut follower = Box::pin(flights.run(KEY.into(), || async { Ok(2) }));
    assert!(poll!(follower.as_mut()).is_pending());
    joined.wait();
    assert!(matches!(follower.await, Err(FlightError::Panicked { .. })));
    assert!(matches!(leader.join().unwrap(), Err(FlightError::Panicked { .. })));
    assert_eq!(flights.run(KEY.into(), || async { Ok(3) }).await.unwrap(), 3);
}

/// A load that ended neither by returning nor by an ordinary panic left `DoChan` waiting.
#[tokio::test(start_paused = true)]
async fn golang_67087_a_load_that_unwinds_without_a_message_ends_its_waiters() {
    for pause in [0, 5] {
        let flights = Flights::new();
        let load = move || async move {
            if pause > 0 {
                sleep(ms_of(pause)).await;
            }
            std::panic::resume_unwind(Box::new(7_u8))
        };
        let (one, two) =
            tokio::join!(flights.run(KEY.into(), load), flights.run(KEY.into(), load),);
        assert!(matches!(one, Err(FlightError::Panicked { .. })), "{one:?}");
        assert!(matches!(two, Err(FlightError::Panicked { .. })), "{two:?}");
        assert_eq!(flights.stats().in_flight_flights, 0);
    }
}

/// The old call, when it ended, removed the entry of the one that had begun after `Forget`.
#[tokio::test(start_paused = true)]
async fn golang_31420_a_forgotten_flight_that_ends_leaves_the_later_one_in_place() {
    let flights = Flights::new();
    let loads = Loads::script([Goes::After(20), Goes::After(100)]);
    let old = loads.call(&flights).await;
    flights.forget(&KEY.into());
    let new = loads.call(&flights).await;
    assert_eq!(old.await.unwrap().unwrap(), 1);
    let joins = loads.call(&flights).await;
    assert_eq!((new.await.unwrap().unwrap(), joins.await.unwrap().unwrap()), (2, 2));
    assert_eq!(check_quiet(&flights, &loads).await.followers, 1);
}

/// `ForgetUnshared` raced with a new caller, who was given the cancelled lookup's error.
#[tokio::test(start_paused = true)]
async fn golang_55343_nobody_is_given_the_end_of_a_cancelled_lookup() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(3)]));
    for _ in 0..200 {
        let mut leaves = Box::pin(flights.run(KEY.into(), loads.load()));
        assert!(poll!(leaves.as_mut()).is_pending());
        let mut stays = Box::pin(flights.run(KEY.into(), loads.load()));
        drop(leaves);
        let mut late = Box::pin(flights.run(KEY.into(), loads.load()));
        assert!(poll!(stays.as_mut()).is_pending() && poll!(late.as_mut()).is_pending());
        drop(stays);
        assert!(late.await.is_ok());
    }
    check_quiet(&flights, &loads).await;
}
