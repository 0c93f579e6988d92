//! Who shares which load: running, fresh, forgotten.

use futures::FutureExt;
use futures::executor::block_on;
use sortie::{Call, Join, Role, SingleFlight};
use tokio::time::{Instant, advance, sleep};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_share_one_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let mut callers = Vec::new();
    for _ in 0..100 {
        callers.push(loads.call(&flights).await);
    }
    assert_eq!(flights.stats().in_flight_waiters, 100);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 1);
    }
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.leaders, stats.followers, stats.landed), (1, 99, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_sees_each_flight_with_its_age_and_its_callers() {
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(100), Goes::After(100)]);
    let first = loads.call(&flights).await;
    sleep(ms_of(30)).await;
    let others = [loads.call(&flights).await, loads.call(&flights).await];
    let seen = flights.flights(10);
    let shown: Vec<_> = seen.iter().map(|it| (it.age, it.waiters, it.waiting_for_next)).collect();
    assert_eq!((&*seen[0].key, shown), (KEY, vec![(ms_of(30), 1, 2)]));
    assert!(flights.flights(0).is_empty());
    first.await.unwrap().unwrap();
    let next = flights.flights(10);
    assert_eq!((next[0].waiters, next[0].waiting_for_next), (2, 0));
    assert!(next[0].flight > seen[0].flight);
    for caller in others {
        assert_eq!(caller.await.unwrap().unwrap(), 2);
    }
    assert!(flights.flights(10).is_empty());
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_ready_load_costs_no_task() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Ready]));
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 1);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
    check_quiet(&flights, &loads).await;
}

/// uniflight and janos/singleflight hand out a finished result for as long as anybody holds it.
#[tokio::test(start_paused = true)]
async fn nobody_joins_a_flight_that_has_ended() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(10)]));
    let holder = loads.call(&flights).await;
    advance(ms_of(11)).await;
    settle().await;
    // The first caller's answer is there, whether or not it has been taken yet.
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    assert_eq!(holder.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn other_keys_fly_apart() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(10)]));
    let other = flights.run("user:2".into(), loads.load());
    let (one, two) = tokio::join!(flights.run(KEY.into(), loads.load()), other);
    assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn fresh_callers_wait_for_the_running_load_and_share_the_next() {
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(100)]);
    let begun = Instant::now();
    let first = loads.call(&flights).await;
    let mut fresh = Vec::new();
    for _ in 0..50 {
        advance(ms_of(1)).await;
        fresh.push(loads.call(&flights).await);
    }
    assert_eq!(loads.begun(), 1, "the next begins when the running one has ended");
    assert_eq!(first.await.unwrap().unwrap(), 1);
    for caller in fresh {
        assert_eq!(caller.await.unwrap().unwrap(), 2);
    }
    assert_eq!(since(begun), 200);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.leaders, stats.nexts, stats.followers), (1, 1, 50));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_caller_gets_a_load_that_begins_after_it_arrived() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let running = loads.call(&flights).await;
    advance(ms_of(30)).await;
    let arrived = Instant::now();
    let call = Call::new().join(Join::Fresh);
    let load = loads.load();
    let landed = flights.run_with(KEY.into(), call, move |_| load()).await.unwrap();
    assert!(landed.began >= arrived);
    assert_eq!((landed.value, landed.role), (2, Role::Follower));
    assert_eq!(running.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_running_caller_joins_the_next_once_it_runs() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let first = loads.call(&flights).await;
    let load = loads.load();
    let (again, call) = (flights.clone(), Call::new().join(Join::Fresh));
    let fresh = start(async move { again.run_with(KEY.into(), call, move |_| load()).await }).await;
    sleep(ms_of(150)).await;
    let late = loads.call(&flights).await;
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(fresh.await.unwrap().unwrap().value, 2);
    assert_eq!(late.await.unwrap().unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_load_begins_even_if_all_who_ran_before_it_are_gone() {
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(100)]);
    let first = loads.call(&flights).await;
    let fresh = loads.call(&flights).await;
    first.abort();
    settle().await;
    assert_eq!(loads.begun(), 2, "the deserted load is aborted, the next begins at once");
    assert_eq!(fresh.await.unwrap().unwrap(), 2);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.aborted, stats.landed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn fresh_callers_that_leave_begin_nothing() {
    let flights = Flights::builder().join(Join::Fresh).build();
    let loads = Loads::script([Goes::After(100)]);
    let first = loads.call(&flights).await;
    let fresh = loads.call(&flights).await;
    fresh.abort();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
    assert_eq!(loads.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_after_forget_gets_a_load_begun_after_it() {
    for join in [Join::Running, Join::Fresh] {
        let flights = Flights::builder().join(join).build();
        let loads = Loads::script([Goes::After(100), Goes::After(10)]);
        let old = loads.call(&flights).await;
        flights.forget(&KEY.into());
        let begun = Instant::now();
        let new = loads.call(&flights).await;
        let new_too = loads.call(&flights).await;
        assert_eq!(new.await.unwrap().unwrap(), 2, "{join:?}");
        assert_eq!(since(begun), 10, "it does not wait for the forgotten load");
        // The later load began after all of them arrived, so it answers the old one's callers too.
        assert_eq!(old.await.unwrap().unwrap(), 2);
        let expected = if join == Join::Running { 2 } else { 3 };
        assert_eq!(new_too.await.unwrap().unwrap(), expected, "{join:?}");
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn forget_leaves_the_running_waiters_their_outcome() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100), Goes::After(500)]));
    let old = loads.call(&flights).await;
    flights.forget(&KEY.into());
    let new = loads.call(&flights).await;
    assert_eq!(old.await.unwrap().unwrap(), 1);
    // The old flight's end removed only itself (golang/go#31420): the later one is still joined.
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    assert_eq!(new.await.unwrap().unwrap(), 2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn forgetting_again_and_again_never_makes_a_third_flight() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let mut callers = Vec::new();
    for _ in 0..10 {
        callers.push(loads.call(&flights).await);
        flights.forget(&KEY.into());
        assert!(loads.alive() <= 2);
        assert!(flights.stats().in_flight_flights <= 2);
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    check_quiet(&flights, &loads).await;
}

/// The load of the first caller forgets its own key and has another thread ask for it, all within
/// its first poll.
#[tokio::test]
async fn a_leader_in_its_first_poll_is_answered_by_a_later_flight() {
    for pending in [true, false] {
        let flights = SingleFlight::<u8, u8, ()>::new();
        let inside = flights.clone();
        let answer = flights.run(1, move || {
            let flights = inside.clone();
            async move {
                let elsewhere = std::thread::spawn(move || {
                    let mut follower = Box::pin(flights.run(1, || async { Ok(1) }));
                    assert!(follower.as_mut().now_or_never().is_none());
                    flights.forget(&1);
                    assert_eq!(block_on(flights.run(1, || async { Ok(2) })).unwrap(), 2);
                    assert_eq!(block_on(follower).unwrap(), 2);
                    // Closed, and answered already: nobody joins it any more.
                    assert_eq!(block_on(flights.run(1, || async { Ok(3) })).unwrap(), 3);
                });
                elsewhere.join().unwrap();
                if pending {
                    std::future::pending::<()>().await;
                }
                Ok(4)
            }
        });
        assert_eq!(answer.await.unwrap(), if pending { 2 } else { 4 });
        settle().await;
        let stats = flights.stats();
        assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
        assert_eq!((stats.superseded, stats.landed), if pending { (1, 2) } else { (0, 3) });
    }
}

#[tokio::test(start_paused = true)]
async fn forgetting_an_unknown_key_does_nothing() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    flights.forget(&1);
    assert_eq!(flights.stats(), SingleFlight::<u8, u8, ()>::new().stats());
}
