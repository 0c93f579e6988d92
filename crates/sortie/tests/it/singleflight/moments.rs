//! Joins by moment: a load that begins at or after something the caller knows of.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use sortie::{Call, FlightCx, FlightError, Join, Role, SingleFlight};
use tokio::time::{Instant, sleep};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

/// The value and the role of a call with this join.
async fn ask(flights: &Flights, loads: &Loads, join: Join) -> (usize, Role) {
    let load = loads.load();
    let landed = flights.run_with(KEY.into(), Call::new().join(join), move |_| load()).await;
    let landed = landed.unwrap();
    (landed.value, landed.role)
}

#[tokio::test(start_paused = true)]
async fn a_session_shares_what_began_after_its_write_and_nothing_older() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Ready, Goes::After(100)]));
    // From the first call on that is told when its load began, that is noted of every load.
    assert_eq!(ask(&flights, &loads, Join::Running).await, (1, Role::Leader));
    let before = Instant::now();
    sleep(ms_of(1)).await;
    let running = loads.call(&flights).await;
    sleep(ms_of(1)).await;
    let after = Instant::now();
    sleep(ms_of(10)).await;
    let (early, late) = tokio::join!(
        ask(&flights, &loads, Join::Since(before)),
        ask(&flights, &loads, Join::Since(after)),
    );
    assert_eq!((early, late), ((2, Role::Follower), (3, Role::Follower)));
    assert_eq!(running.await.unwrap().unwrap(), 2);
    // What began after the write is good enough for all its later reads: they share.
    let third = loads.call(&flights).await;
    assert_eq!(ask(&flights, &loads, Join::Since(after)).await, (4, Role::Follower));
    assert_eq!(third.await.unwrap().unwrap(), 4);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_of_the_very_moment_is_not_trusted_to_be_later() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(10)]));
    let running = loads.call(&flights).await;
    assert_eq!(ask(&flights, &loads, Join::Since(Instant::now())).await.0, 2);
    running.await.unwrap().unwrap();
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_that_wait_share_one_load_with_fresh_callers() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(50)]));
    let running = loads.call(&flights).await;
    sleep(ms_of(10)).await;
    let now = Instant::now();
    let (session, fresh) =
        tokio::join!(ask(&flights, &loads, Join::Since(now)), ask(&flights, &loads, Join::Fresh),);
    assert_eq!((session.0, fresh.0, since(now)), (2, 2, 90));
    running.await.unwrap().unwrap();
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn when_both_hang_a_session_takes_the_first_that_suits_it() {
    let flights = Flights::builder().soft_age(ms_of(100)).build();
    let loads = Loads::script([Goes::After(400), Goes::After(350)]);
    let old = loads.call(&flights).await;
    sleep(ms_of(50)).await;
    let between = Instant::now();
    sleep(ms_of(200)).await;
    assert_eq!(loads.begun(), 2);
    let any = start({
        let (flights, loads) = (flights.clone(), loads.clone());
        async move { ask(&flights, &loads, Join::Running).await.0 }
    });
    let any = any.await;
    assert_eq!(ask(&flights, &loads, Join::Since(between)).await.0, 2);
    assert_eq!((any.await.unwrap(), old.await.unwrap().unwrap()), (1, 1));
    check_quiet(&flights, &loads).await;
}

/// A pool of connections that is empty for a while, then a query.
fn pooled(wait: u64, query: u64) -> (Flights, impl AsyncFn(Join) -> (Instant, Instant)) {
    let flights = Flights::builder().boarding(true).build();
    let asked = flights.clone();
    let ask = async move |join: Join| {
        let landed = asked.run_with(KEY.into(), Call::new().join(join), move |cx| async move {
            let boarding = cx.boarding();
            sleep(ms_of(wait)).await;
            drop(boarding);
            sleep(ms_of(query)).await;
            Ok(cx.flight().number().try_into().unwrap())
        });
        let landed = landed.await.unwrap();
        (landed.began, Instant::now())
    };
    (flights, ask)
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_load_waits_for_a_connection_is_early_enough() {
    let (flights, ask) = pooled(30, 20);
    let begun = Instant::now();
    let later = async |ms| {
        sleep(ms_of(ms)).await;
        ask(Join::Fresh).await
    };
    let (leader, early, late) = tokio::join!(ask(Join::Running), later(29), later(31));
    assert_eq!(leader, (begun + ms_of(30), begun + ms_of(50)), "it began when it was sent");
    assert_eq!(early, leader);
    assert_eq!(late, (begun + ms_of(80), begun + ms_of(100)));
    settle().await;
    assert_eq!(flights.stats().landed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_moment_before_the_begin_suits_although_the_flight_was_launched_earlier() {
    let (_flights, ask) = pooled(30, 20);
    let moment = Instant::now() + ms_of(10);
    let session = async {
        sleep(ms_of(40)).await;
        ask(Join::Since(moment)).await
    };
    let (leader, session) = tokio::join!(ask(Join::Running), session);
    assert_eq!(leader, session);
}

#[tokio::test(start_paused = true)]
async fn boarding_counts_only_where_the_registry_was_told() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(10)]));
    let (again, load) = (flights.clone(), loads.load());
    let leader = start(async move {
        let held = again.run_with(KEY.into(), Call::new(), move |cx| {
            let (load, boarding) = (load(), cx.boarding());
            async move {
                sleep(ms_of(10)).await;
                drop(boarding);
                load.await
            }
        });
        held.await.map(|landed| landed.value)
    });
    let leader = leader.await;
    assert_eq!(ask(&flights, &loads, Join::Fresh).await.0, 2);
    assert_eq!(leader.await.unwrap().unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

/// Age counts from the launch: a load that never gets a connection hangs like any other.
#[tokio::test(start_paused = true)]
async fn a_load_that_never_begins_is_relieved_and_ended_all_the_same() {
    let flights = Flights::builder().boarding(true).soft_age(ms_of(100)).flight_max(ms_of(300));
    let (flights, begun) = (flights.build(), Instant::now());
    let answer = flights.run_with(KEY.into(), Call::new(), |cx| async move {
        let _boarding = cx.boarding();
        std::future::pending().await
    });
    assert!(matches!(answer.await, Err(FlightError::TimedOut)));
    assert_eq!((since(begun), flights.stats().successors), (300, 1));
}

/// One that waits for a connection says nothing of those that have theirs.
#[tokio::test(start_paused = true)]
async fn each_load_of_a_call_for_many_keys_boards_by_itself() {
    let one = NonZeroUsize::new(1).unwrap();
    let flights = SingleFlight::<u64, u64, ()>::builder().boarding(true).batch_max(one).build();
    let begun = Arc::new(AtomicU64::new(0));
    let load = {
        let begun = Arc::clone(&begun);
        move |keys: Vec<u64>, cx: FlightCx| {
            let ordinal = begun.fetch_add(1, SeqCst);
            async move {
                if keys == [2] {
                    let boarding = cx.boarding();
                    sleep(ms_of(10)).await;
                    drop(boarding);
                }
                sleep(ms_of(20)).await;
                Ok(vec![(keys[0], Ok(ordinal))])
            }
        }
    };
    let (again, first) = (flights.clone(), load.clone());
    let first = start(async move { again.run_many([1, 2], Call::new(), first).await }).await;
    let fresh = flights.run_many([1, 2], Call::new().join(Join::Fresh), load).await;
    let fresh: Vec<_> = fresh.into_iter().map(|it| it.unwrap().value).collect();
    assert_eq!(fresh, [2, 1], "the query for 1 was on its way, the one for 2 was not");
    first.await.unwrap();
}
