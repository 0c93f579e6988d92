//! What a load costs that few ask for: no task, and no clock where nobody wants to know.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use futures::future::join_all;
use futures::poll;
use sortie::{Call, Join, Role, SingleFlight};
use tokio::time::{Instant, sleep};

use super::resting::{parked, tasks};
use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, since};

/// The endpoint's flights say when they begin.
#[tokio::test(start_paused = true)]
async fn loads_that_say_when_they_begin_cost_no_task_either() {
    let flights = SingleFlight::<usize, usize, ()>::builder().boarding(true).build();
    let seen = Arc::new(AtomicUsize::new(0));
    let call = |key| {
        let seen = Arc::clone(&seen);
        flights.run_with(key, Call::new().join(Join::Fresh), move |cx| {
            let seen = Arc::clone(&seen);
            async move {
                let boarding = cx.boarding();
                sleep(ms_of(1)).await;
                drop(boarding);
                sleep(ms_of(1)).await;
                seen.fetch_max(tasks(), SeqCst);
                Ok(key)
            }
        })
    };
    let answers = join_all((0..50).map(call)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().role == Role::Leader));
    assert!(seen.load(SeqCst) <= 1, "one watcher for all of them: {seen:?}");
    sleep(ms_of(20)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_goes_on_at_once_is_shared_without_a_task() {
    let flights = SingleFlight::<u8, usize, ()>::new();
    let call = || {
        flights.run(1, || async {
            tokio::task::yield_now().await;
            Ok(tasks())
        })
    };
    for join in 2..5 {
        let answers = join_all((0..join).map(|_| call())).await;
        assert!(answers.iter().all(|tasks| *tasks.as_ref().unwrap() <= 1), "{answers:?}");
    }
    let stats = flights.stats();
    assert_eq!((stats.leaders, stats.followers, stats.landed), (3, 6, 3));
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
}

/// A follower that has left the load to its leader may go before it has taken it, or be parked.
#[tokio::test(start_paused = true)]
async fn a_follower_that_is_dropped_or_parked_leaves_the_load_to_the_others() {
    for dropped in [false, true] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
        let begun = Instant::now();
        let (leader, first) = (parked(&flights, &loads).await, parked(&flights, &loads).await);
        assert_eq!(flights.stats().in_flight_waiters, 2);
        let first = (!dropped).then_some(first);
        assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 1);
        assert_eq!(since(begun), 2);
        drop(leader);
        if let Some(first) = first {
            assert_eq!(first.await.unwrap(), 1);
        }
        check_quiet(&flights, &loads).await;
    }
}

/// The clock is not read for any of them: their watcher looks at them twice in that time.
#[tokio::test(start_paused = true)]
async fn loads_whose_begin_nobody_noted_rest_no_longer_than_others() {
    let flights = SingleFlight::<u64, u64, ()>::new();
    let mut parked = Vec::new();
    for key in 0..12 {
        let load = move || {
            let (begun, mut polled) = (Instant::now(), false);
            poll_fn(move |_task| {
                let again = mem::replace(&mut polled, true);
                if again { Poll::Ready(Ok(since(begun))) } else { Poll::Pending }
            })
        };
        let mut leader = Box::pin(flights.run(key, load));
        assert!(poll!(leader.as_mut()).is_pending());
        parked.push(leader);
        sleep(ms_of(1)).await;
    }
    sleep(ms_of(10)).await;
    assert_eq!(flights.stats().landed, 12, "each has its task");
    for rested in join_all(parked).await {
        let rested = rested.unwrap();
        assert!((2..=5).contains(&rested), "{rested} ms");
    }
}

/// Nobody has asked when loads begin, so nobody knows that this one began late enough.
#[tokio::test(start_paused = true)]
async fn a_load_whose_begin_nobody_noted_is_not_passed_off_as_later() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let made = Instant::now();
    // The clock is not read for what is likely to be ready at once.
    assert_eq!(flights.run(1, || async { Ok(0) }).await.unwrap(), 0);
    sleep(ms_of(10)).await;
    let before = Instant::now();
    sleep(ms_of(10)).await;
    let load = |answer| {
        move || async move {
            sleep(ms_of(5)).await;
            Ok(answer)
        }
    };
    let mut leader = pin!(flights.run(1, load(1)));
    assert!(poll!(leader.as_mut()).is_pending());
    let late = load(2);
    let since_then = Call::new().join(Join::Since(before));
    let (any, late) = tokio::join!(
        flights.run_with(1, Call::new(), |_| async { Ok(9) }),
        flights.run_with(1, since_then, move |_| late()),
    );
    let (any, late) = (any.unwrap(), late.unwrap());
    assert_eq!((any.value, any.began), (1, made), "not later than it began");
    assert_eq!((late.value, late.role, since(late.began)), (2, Role::Follower, 5));
    assert_eq!(leader.await.unwrap(), 1);
    // From now on they are noted.
    let (leader, follower) = tokio::join!(flights.run(1, load(3)), async {
        let call = Call::new().join(Join::Since(before));
        flights.run_with(1, call, |_| async { Ok(9) }).await.unwrap().value
    });
    assert_eq!((leader.unwrap(), follower), (3, 3));
}
