//! Callers that are cancelled, parked or gone: they harm nobody and leave nothing behind.

use std::pin::pin;
use std::time::Duration;

use futures::poll;
use sortie::Idle;
use tokio::time::{Instant, advance, sleep, timeout};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since};

/// A cancelled leader left the key locked.
#[tokio::test(start_paused = true)]
async fn moka_59_a_leader_aborted_half_way_costs_no_second_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let begun = Instant::now();
    let leader = loads.call(&flights).await;
    let follower = loads.call(&flights).await;
    sleep(ms_of(100)).await;
    leader.abort();
    assert_eq!(follower.await.unwrap().unwrap(), 1);
    assert_eq!(since(begun), 200);
    assert_eq!(loads.begun(), 1);
    check_quiet(&flights, &loads).await;
}

/// Futurelock (Oxide RFD 609): whoever drives for others and is not polled stops them all.
#[tokio::test(start_paused = true)]
async fn a_leader_polled_once_and_parked_harms_nobody() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let mut parked = pin!(flights.run(KEY.into(), loads.load()));
    assert!(poll!(parked.as_mut()).is_pending());
    let answer = timeout(ms_of(300), loads.call(&flights).await).await;
    assert_eq!(answer.unwrap().unwrap().unwrap(), 1);
    assert_eq!(parked.await.unwrap(), 1, "its own answer waited for it");
    check_quiet(&flights, &loads).await;
}

/// The turn was handed to a waiter that is not polled.
#[tokio::test(start_paused = true)]
async fn tokio_6450_a_parked_waiter_harms_nobody() {
    for (oldest, newest) in [(true, false), (false, true)] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
        let leader = loads.call(&flights).await;
        let mut old = pin!(flights.run(KEY.into(), loads.load()));
        assert!(!oldest || poll!(old.as_mut()).is_pending());
        let waiter = loads.call(&flights).await;
        let mut new = pin!(flights.run(KEY.into(), loads.load()));
        assert!(!newest || poll!(new.as_mut()).is_pending());
        leader.abort();
        assert_eq!(timeout(ms_of(300), waiter).await.unwrap().unwrap().unwrap(), 1);
        assert_eq!(loads.begun(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_caller_takes_the_load_along() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        assert_eq!(loads.alive(), 1);
        caller.abort();
        settle().await;
    }
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!(stats.aborted, 1);
}

/// A new caller joined a flight that zero interest had already cancelled.
#[tokio::test(start_paused = true)]
async fn tailscale_18919_nobody_joins_a_dying_flight() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    {
        // Two, so that the load has a task of its own.
        let mut first = pin!(flights.run(KEY.into(), loads.load()));
        let mut last = pin!(flights.run(KEY.into(), loads.load()));
        assert!(poll!(first.as_mut()).is_pending() && poll!(last.as_mut()).is_pending());
    }
    // The abort has been asked for but the runtime has not run since.
    assert_eq!(loads.alive(), 1);
    assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

/// A cancelled caller removed the key, and duplicates ran.
#[tokio::test(start_paused = true)]
async fn janos_4_a_follower_that_leaves_does_not_remove_the_key() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let leader = loads.call(&flights).await;
    loads.call(&flights).await.abort();
    settle().await;
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 1);
    assert_eq!(leader.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

/// Ten callers in turn, each with 60 ms, for a load of 200 ms.
async fn impatient(idle: Idle) -> (usize, usize) {
    let flights = Flights::builder().idle(idle).build();
    let loads = Loads::script([Goes::After(200)]);
    let mut answered = 0;
    for _ in 0..10 {
        let answer = timeout(ms_of(60), flights.run(KEY.into(), loads.load())).await;
        answered += usize::from(answer.is_ok());
    }
    sleep(ms_of(1000)).await;
    check_quiet(&flights, &loads).await;
    (loads.begun(), answered)
}

#[tokio::test(start_paused = true)]
async fn impatient_callers_get_somewhere_if_the_load_lingers() {
    // Without a cache each load answers one caller: the one who is there when it lands.
    assert_eq!(impatient(Idle::Linger(ms_of(1000))).await, (3, 2));
    assert_eq!(impatient(Idle::Detach).await, (3, 2));
    assert_eq!(impatient(Idle::Abort).await, (10, 0), "this is the livelock of every peer");
}

#[tokio::test(start_paused = true)]
async fn a_lingering_load_is_bounded() {
    let flights = Flights::builder().idle(Idle::Linger(ms_of(50))).build();
    let loads = Loads::script([Goes::After(500)]);
    loads.call(&flights).await.abort();
    sleep(ms_of(40)).await;
    assert_eq!(loads.alive(), 1);
    sleep(ms_of(20)).await;
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!(stats.aborted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lingering_load_that_is_joined_again_is_nobodys_orphan() {
    let flights = Flights::builder().idle(Idle::Linger(ms_of(50))).build();
    let loads = Loads::script([Goes::After(500)]);
    loads.call(&flights).await.abort();
    sleep(ms_of(40)).await;
    let second = loads.call(&flights).await;
    sleep(ms_of(200)).await;
    second.abort();
    sleep(ms_of(40)).await;
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_load_runs_to_its_end() {
    let flights = Flights::builder().idle(Idle::Detach).build();
    let loads = Loads::script([Goes::After(500)]);
    loads.call(&flights).await.abort();
    sleep(ms_of(400)).await;
    assert_eq!(loads.alive(), 1);
    sleep(ms_of(200)).await;
    assert_eq!(check_quiet(&flights, &loads).await.landed, 1);
}

/// The waker of a waiter that had moved was lost.
#[tokio::test(start_paused = true)]
async fn quick_cache_104_a_waiter_that_moves_between_tasks_is_woken_where_it_is() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let leader = loads.call(&flights).await;
    let mut moved = Box::pin({
        let (flights, load) = (flights.clone(), loads.load());
        async move { flights.run(KEY.into(), load).await }
    });
    assert!(poll!(moved.as_mut()).is_pending());
    let moved = tokio::runtime::Handle::current().spawn(moved);
    assert_eq!(moved.await.unwrap().unwrap(), 1);
    assert_eq!(leader.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[test]
fn a_load_whose_runtime_shuts_down_is_begun_again_where_somebody_waits() {
    let flights = Flights::new();
    let loads = Loads::script([Goes::Hangs, Goes::After(5), Goes::Ready]);
    let build = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let leader = first.spawn({
        let (flights, load) = (flights.clone(), loads.load());
        async move { flights.run(KEY.into(), load).await }
    });
    while flights.stats().in_flight_waiters == 0 {
        std::thread::yield_now();
    }
    let follower = second.spawn({
        let (flights, load) = (flights.clone(), loads.load());
        async move { flights.run(KEY.into(), load).await }
    });
    while flights.stats().in_flight_waiters < 2 {
        std::thread::yield_now();
    }
    first.shutdown_timeout(Duration::from_secs(5));
    drop(leader);
    assert_eq!(second.block_on(follower).unwrap().unwrap(), 2);
    assert_eq!(second.block_on(flights.run(KEY.into(), loads.load())).unwrap(), 3);
    let stats = flights.stats();
    assert_eq!((stats.aborted, stats.nexts, stats.in_flight_flights), (1, 1, 0));
    assert_eq!(stats.in_flight_waiters, 0);
}

/// Who waits for the next load has it begun in a runtime of its own.
#[test]
fn a_dropped_runtime_takes_its_loads_along_and_not_those_of_others() {
    let flights = Flights::builder().join(sortie::Join::Fresh).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(5)]);
    let build = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let call = |on: &tokio::runtime::Runtime, waiters| {
        let (again, load) = (flights.clone(), loads.load());
        let task = on.spawn(async move { again.run(KEY.into(), load).await });
        while flights.stats().in_flight_waiters < waiters {
            std::thread::yield_now();
        }
        task
    };
    let leader = call(&first, 1);
    let waits = [call(&second, 2), call(&second, 3)];
    drop(first);
    drop(leader);
    for call in waits {
        assert_eq!(second.block_on(call).unwrap().unwrap(), 2);
    }
    let stats = flights.stats();
    assert_eq!((stats.aborted, stats.nexts, stats.in_flight_flights), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_registry_lets_its_flights_land() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let caller = loads.call(&flights).await;
    drop(flights);
    advance(ms_of(250)).await;
    assert_eq!(caller.await.unwrap().unwrap(), 1);
}
