//! What is told by how long loads take, and what by the deadlines of those who wait.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::poll;
use sortie::{Call, FlightError, Idle, Join};
use tokio::time::{Instant, advance, sleep};

use super::support::{Answer, Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

/// One call with a deadline so many milliseconds from now.
async fn within(flights: &Flights, loads: &Loads, ms: u64, join: Join) -> Answer {
    let call = Call::new().join(join).deadline(Instant::now() + ms_of(ms));
    let load = loads.load();
    let landed = flights.run_with(KEY.into(), call, move |_| load()).await;
    landed.map(|landed| landed.value)
}

#[tokio::test(start_paused = true)]
async fn the_soft_age_follows_what_loads_take() {
    let flights = Flights::builder().soft_age_factor(3, ms_of(5)).build();
    let mut script = vec![Goes::After(20); 10];
    script.extend([Goes::Hangs, Goes::After(1)]);
    let loads = Loads::script(script);
    for _ in 0..10 {
        loads.call(&flights).await.await.unwrap().unwrap();
    }
    let begun = Instant::now();
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 12);
    assert_eq!(since(begun), 61, "three times 20 ms, and the successor's one");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_has_the_configured_soft_age_and_the_floor_holds() {
    let flights = Flights::builder().soft_age_factor(3, ms_of(50)).soft_age(ms_of(200)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(1), Goes::Hangs, Goes::After(1)]);
    for expected in [201, 51] {
        let begun = Instant::now();
        loads.call(&flights).await.await.unwrap().unwrap();
        assert_eq!(since(begun), expected);
    }
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_has_become_slow_is_believed_after_a_while() {
    let flights = Flights::builder().soft_age_factor(3, ms_of(1)).soft_age(ms_of(900)).build();
    let mut script = vec![Goes::After(10)];
    script.extend(vec![Goes::After(100); 60]);
    let loads = Loads::script(script);
    for _ in 0..40 {
        loads.call(&flights).await.await.unwrap().unwrap();
    }
    let successors = flights.stats().successors;
    for _ in 0..5 {
        loads.call(&flights).await.await.unwrap().unwrap();
    }
    assert!(successors > 0, "at first it looked as if they hung");
    assert_eq!(flights.stats().successors, successors);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_answered_in_time_is_told_at_once() {
    let flights = Flights::builder().join_in_time(true).build();
    let loads = Loads::script([Goes::After(100)]);
    // Nothing is known yet: whoever comes waits, and a leader is never refused.
    loads.call(&flights).await.await.unwrap().unwrap();
    let running = loads.call(&flights).await;
    sleep(ms_of(40)).await;
    let begun = Instant::now();
    let refused = within(&flights, &loads, 59, Join::Running).await;
    assert!(matches!(refused, Err(FlightError::Busy)));
    let refused = within(&flights, &loads, 159, Join::Fresh).await;
    assert!(matches!(refused, Err(FlightError::Busy)), "it would wait for two loads");
    assert_eq!(since(begun), 0);
    assert_eq!(within(&flights, &loads, 61, Join::Running).await.unwrap(), 2);
    running.await.unwrap().unwrap();
    // Past what was expected there is no telling: it waits.
    let slow = Loads::script([Goes::After(300)]);
    let leader = slow.call(&flights).await;
    sleep(ms_of(150)).await;
    assert!(matches!(within(&flights, &slow, 5, Join::Running).await, Err(FlightError::TimedOut)));
    leader.await.unwrap().unwrap();
    let stats = flights.stats();
    assert_eq!((stats.busy, stats.busy_too_late), (2, 2));
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_little_time_left_leads_all_the_same() {
    let flights = Flights::builder().join_in_time(true).build();
    let loads = Loads::script([Goes::After(100)]);
    loads.call(&flights).await.await.unwrap().unwrap();
    assert!(matches!(within(&flights, &loads, 5, Join::Running).await, Err(FlightError::TimedOut)));
    assert_eq!(flights.stats().leaders, 2);
    check_quiet(&flights, &loads).await;
}

/// A flight lasts as long as the most patient of its callers, and no longer.
#[tokio::test(start_paused = true)]
async fn a_later_deadline_extends_the_flight() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    let begun = Instant::now();
    let call = |ms| {
        let (flights, loads) = (flights.clone(), loads.clone());
        start(async move { within(&flights, &loads, ms, Join::Running).await })
    };
    let first = call(50).await;
    let second = call(120).await;
    assert!(matches!(first.await.unwrap(), Err(FlightError::TimedOut)));
    assert_eq!((since(begun), loads.alive()), (50, 1));
    assert!(matches!(second.await.unwrap(), Err(FlightError::TimedOut)));
    assert_eq!((since(begun), loads.begun()), (120, 1));
    check_quiet(&flights, &loads).await;
}

/// A caller that is parked past its deadline cannot say that it has given up.
#[tokio::test(start_paused = true)]
async fn a_flight_that_only_parked_callers_wait_for_ends_at_their_deadlines() {
    for join in [Join::Running, Join::Fresh] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
        let mut parked = Box::pin(within(&flights, &loads, 50, Join::Running));
        let mut waits = Box::pin(within(&flights, &loads, 90, join));
        assert!(poll!(parked.as_mut()).is_pending() && poll!(waits.as_mut()).is_pending());
        settle().await;
        advance(ms_of(49)).await;
        settle().await;
        assert_eq!(loads.alive(), 1);
        advance(ms_of(100)).await;
        settle().await;
        assert_eq!((loads.alive(), flights.stats().in_flight_flights), (0, 0));
        assert!(matches!(parked.await, Err(FlightError::TimedOut)));
        assert!(matches!(waits.await, Err(FlightError::TimedOut)));
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_too_many_lingering_flights_the_oldest_ends() {
    let two = NonZeroUsize::new(2).unwrap();
    let flights = Flights::builder().idle(Idle::Linger(Duration::from_secs(5))).lingering_max(two);
    let (flights, loads) = (flights.build(), Loads::script([Goes::After(1_000)]));
    let leave = async |key: &str| {
        let (again, load, key) = (flights.clone(), loads.load(), key.to_owned());
        start(async move { again.run(key, load).await }).await.abort();
        settle().await;
        sleep(ms_of(1)).await;
    };
    leave("a").await;
    leave("b").await;
    assert_eq!((loads.alive(), flights.stats().in_flight_lingering), (2, 2));
    // One that is joined again does not count, and is the youngest when it is left again.
    let again = start({
        let (flights, load) = (flights.clone(), loads.load());
        async move { flights.run("a".into(), load).await }
    });
    let again = again.await;
    assert_eq!(flights.stats().in_flight_lingering, 1);
    again.abort();
    settle().await;
    sleep(ms_of(1)).await;
    leave("c").await;
    let stats = flights.stats();
    assert_eq!((loads.alive(), stats.in_flight_lingering, stats.aborted), (2, 2, 1));
    assert_eq!(flights.run("a".into(), loads.load()).await.unwrap(), 1, "b was the oldest");
    assert_eq!(flights.run("b".into(), loads.load()).await.unwrap(), 4);
    sleep(ms_of(1_000)).await;
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.in_flight_lingering, stats.aborted), (0, 1));
}

/// The second that had to go took the place of the first, which lingered on uncounted.
#[tokio::test(start_paused = true)]
async fn two_flights_of_a_key_that_idle_at_once_each_end_another() {
    let one = NonZeroUsize::new(1).unwrap();
    let flights = Flights::builder().idle(Idle::Linger(Duration::from_secs(5))).lingering_max(one);
    let (flights, loads) = (flights.soft_age(ms_of(100)).build(), Loads::script([Goes::Hangs]));
    let (again, load) = (flights.clone(), loads.load());
    start(async move { again.run("a".into(), load).await }).await.abort();
    settle().await;
    let both = loads.call(&flights).await;
    sleep(ms_of(101)).await;
    assert_eq!((loads.alive(), flights.stats().successors), (3, 1));
    both.abort();
    settle().await;
    let stats = flights.stats();
    assert_eq!((loads.alive(), stats.in_flight_lingering, stats.aborted), (1, 1, 2));
    sleep(Duration::from_secs(5)).await;
    check_quiet(&flights, &loads).await;
}
