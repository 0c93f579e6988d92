//! What went wrong elsewhere, as tests. Named after the report; the name says what must hold here.
//!
//! Reports that other files have: moka#43 (`failures`); janos#4, tailscale#18919, tokio#6450,
//! moka#59, pingora#931, futures-rs#2706 and `quick_cache`#104 (`leaving`); vitess#18272 (`ages`);
//! vitess#18783 (`limits`); golang/go#31420 by id (`ending`); `quick_cache`#120 (`bars`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::poll;
use sortie::{FlightError, Idle, SingleFlight};
use tokio::time::sleep;

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle};

/// A panic left the key locked, so every later caller hung. #41133 is the same with `Goexit`.
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

/// Two callers that came together both ran the load.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn moka_195_never_do_two_loads_of_a_key_run_at_once() {
    let flights = SingleFlight::<usize, (), ()>::new();
    let running: Arc<[AtomicUsize]> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (flights, running) = (flights.clone(), Arc::clone(&running));
        tasks.spawn(async move {
            for round in 0..2_000 {
                let (key, running) = ((task + round) % 4, Arc::clone(&running));
                let load = move || {
                    let running = Arc::clone(&running);
                    async move {
                        assert_eq!(running[key].fetch_add(1, SeqCst), 0, "two at once");
                        for _ in 0..round % 3 {
                            tokio::task::yield_now().await;
                        }
                        running[key].fetch_sub(1, SeqCst);
                        Ok(())
                    }
                };
                flights.run(key, load).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(flights.stats().in_flight_flights, 0);
}

/// A call that was dropped left what it had captured behind.
#[tokio::test(start_paused = true)]
async fn moka_329_a_dropped_call_leaves_nothing_of_its_load() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let captured = Arc::new(());
    for polls in 0..3 {
        let held = Arc::clone(&captured);
        let mut call = Box::pin(flights.run(1, move || {
            let held = Arc::clone(&held);
            async move {
                sleep(ms_of(100)).await;
                drop(held);
                Ok(1)
            }
        }));
        for _ in 0..polls {
            assert!(poll!(call.as_mut()).is_pending());
        }
        drop(call);
        settle().await;
        assert_eq!(Arc::strong_count(&captured), 1, "after {polls} polls");
    }
}

/// Callers were told of a channel that had closed when the one who loaded was dropped.
#[tokio::test(start_paused = true)]
async fn foyer_1118_followers_of_a_dropped_leader_get_the_value() {
    for idle in [Idle::Abort, Idle::Linger(ms_of(50)), Idle::Detach] {
        let flights = Flights::builder().idle(idle).build();
        let loads = Loads::script([Goes::After(20)]);
        let leader = loads.call(&flights).await;
        let followers = [loads.call(&flights).await, loads.call(&flights).await];
        leader.abort();
        for follower in followers {
            assert_eq!(follower.await.unwrap().unwrap(), 1);
        }
        check_quiet(&flights, &loads).await;
    }
}
