//! Retries belong to the flight: as many for a herd as for one caller.

use sortie::{Call, FlightError, Idle, SingleFlightBuilder};
use tokio::time::{Instant, sleep};

use super::support::{Flights, Goes, KEY, Loads, ms_of, settle, since, start};

/// Two retries of whatever failed, the first after 5 to 10 ms.
fn twice() -> SingleFlightBuilder<String, usize, String> {
    Flights::builder().retries(2, ms_of(10), |error| error.contains("failed"))
}

#[tokio::test(start_paused = true)]
async fn a_herd_costs_as_many_attempts_as_one_caller() {
    for herd in [1, 50] {
        let flights = twice().build();
        let loads = Loads::script([Goes::FailsAfter(5)]);
        let mut callers = Vec::new();
        for _ in 0..herd {
            callers.push(loads.call(&flights).await);
        }
        for caller in callers {
            let error = caller.await.unwrap().unwrap_err();
            assert!(matches!(&error, FlightError::Failed(why) if **why == "load 3 failed"));
        }
        settle().await;
        let stats = flights.stats();
        assert_eq!((loads.begun(), stats.retries, stats.failed), (3, 2, 1));
        assert_eq!((loads.alive(), stats.in_flight_flights, stats.in_flight_waiters), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_and_are_spread() {
    let mut seen = Vec::new();
    for _ in 0..20 {
        let flights = twice().build();
        let (loads, begun) = (Loads::script([Goes::FailsAfter(0)]), Instant::now());
        loads.call(&flights).await.await.unwrap().unwrap_err();
        let took = since(begun);
        // 5 to 10 ms and 10 to 20; tokio's timer rounds up to whole milliseconds.
        assert!((15..=33).contains(&took), "{took} ms");
        seen.push(took);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 2, "all the same: {seen:?}");
}

/// A load that fails in its leader's first poll is as much the flight's as any.
#[tokio::test(start_paused = true)]
async fn a_failure_in_the_first_poll_is_tried_again_by_the_flights_task() {
    let flights = twice().build();
    let loads = Loads::script([Goes::Fails, Goes::After(1)]);
    let leader = loads.call(&flights).await;
    let follower = loads.call(&flights).await;
    assert_eq!((leader.await.unwrap().unwrap(), follower.await.unwrap().unwrap()), (2, 2));
    assert_eq!((flights.stats().leaders, flights.stats().followers, loads.begun()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_retryable_and_what_panics_is_told_at_once() {
    let flights = Flights::builder().retries(2, ms_of(10), |_| false).build();
    let loads = Loads::script([Goes::FailsAfter(5)]);
    loads.call(&flights).await.await.unwrap().unwrap_err();
    assert_eq!((loads.begun(), flights.stats().retries), (1, 0));
    let flights = twice().build();
    let loads = Loads::script([Goes::PanicsAfter(5)]);
    let panicked = loads.call(&flights).await.await.unwrap();
    assert!(matches!(panicked, Err(FlightError::Panicked { .. })));
    assert_eq!(loads.begun(), 1);
    // A classification that panics says no, and takes nobody along.
    let flights = Flights::builder().retries(2, ms_of(10), |_| panic!("no idea")).build();
    for goes in [Goes::Fails, Goes::FailsAfter(1)] {
        let loads = Loads::script([goes]);
        let failed = loads.call(&flights).await.await.unwrap();
        assert!(matches!(failed, Err(FlightError::Failed(_))));
    }
    assert_eq!(flights.stats().in_flight_flights, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_caller_ends_a_flight_that_pauses() {
    let flights = Flights::builder().idle(Idle::Abort).retries(9, ms_of(1_000), |_| true).build();
    let loads = Loads::script([Goes::FailsAfter(5)]);
    let call = Call::new().deadline(Instant::now() + ms_of(100));
    let load = loads.load();
    let late = flights.run_with(KEY.into(), call, move |_| load()).await;
    assert!(matches!(late, Err(FlightError::TimedOut)));
    sleep(ms_of(5_000)).await;
    assert_eq!((loads.begun(), flights.stats().in_flight_flights), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn flight_max_is_for_all_attempts_together() {
    let flights = Flights::builder().retries(1_000, ms_of(10), |_| true).flight_max(ms_of(200));
    let (flights, loads) = (flights.build(), Loads::script([Goes::FailsAfter(1)]));
    let begun = Instant::now();
    let ended = loads.call(&flights).await.await.unwrap();
    assert!(matches!(ended, Err(FlightError::TimedOut)));
    assert_eq!(since(begun), 200);
    assert_eq!(flights.stats().in_flight_flights, 0);
}

/// Who comes while a flight pauses shares it, and a successor has retries of its own.
#[tokio::test(start_paused = true)]
async fn a_flight_that_pauses_is_joined_and_relieved() {
    let flights = Flights::builder().retries(1, ms_of(100), |_| true).soft_age(ms_of(40)).build();
    let loads = Loads::script([Goes::FailsAfter(5), Goes::FailsAfter(5), Goes::After(1)]);
    let first = loads.call(&flights).await;
    sleep(ms_of(20)).await;
    let second = loads.call(&flights).await;
    let answers = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    assert_eq!(answers, [3, 3], "attempts: the leader's two, the successor's two");
    settle().await;
    assert_eq!((flights.stats().successors, flights.stats().in_flight_flights), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_of_many_keys_is_tried_again_as_one() {
    for pause in [0, 5] {
        let flights = sortie::SingleFlight::<u64, u64, u8>::builder();
        let flights = flights.retries(1, ms_of(10), |_| true).build();
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = begun.clone();
        let load = move |keys: Vec<u64>, _cx| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            async move {
                if pause > 0 {
                    sleep(ms_of(pause)).await;
                }
                if number == 1 {
                    return Err(1);
                }
                Ok(keys.into_iter().map(|key| (key, Ok(key))).collect())
            }
        };
        let answers = flights.run_many([1, 2], Call::new(), load).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 2);
        assert_eq!(flights.stats().in_flight_flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_caller_gets_the_outcome_of_the_last_attempt() {
    let flights = twice().build();
    let loads = Loads::script([Goes::FailsAfter(1), Goes::FailsAfter(1), Goes::After(1)]);
    let (again, load) = (flights.clone(), loads.load());
    let answer = start(async move { again.run(KEY.into(), load).await }).await;
    assert_eq!(answer.await.unwrap().unwrap(), 3);
    assert_eq!((flights.stats().landed, flights.stats().retries), (1, 2));
}
