//! Loads that only their leaders have asked for: they cost no task, and harm nobody by that.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, poll_immediate};
use futures::poll;
use sortie::{Call, FlightError, Idle, Join, Role, SingleFlight};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::support::{Answer, Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

/// A leader that has been polled once.
pub(super) async fn parked(flights: &Flights, loads: &Loads) -> BoxFuture<'static, Answer> {
    let (flights, load) = (flights.clone(), loads.load());
    let mut parked = async move { flights.run(KEY.into(), load).await }.boxed();
    assert!(poll!(parked.as_mut()).is_pending());
    parked
}

pub(super) fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn loads_that_nobody_shares_cost_no_task() {
    let flights = SingleFlight::<usize, usize, ()>::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let call = |key| {
        let seen = Arc::clone(&seen);
        flights.run(key, move || {
            let seen = Arc::clone(&seen);
            async move {
                sleep(ms_of(1)).await;
                seen.fetch_max(tasks(), SeqCst);
                Ok(key)
            }
        })
    };
    let answers = join_all((0..100).map(call)).await;
    assert!(answers.into_iter().enumerate().all(|(key, answer)| answer.unwrap() == key));
    assert!(seen.load(SeqCst) <= 1, "one watcher for all of them: {seen:?}");
    sleep(ms_of(20)).await;
    assert_eq!((tasks(), flights.stats().leaders), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_takes_the_load_from_a_parked_leader() {
    for join in [Join::Running, Join::Fresh] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
        let start = Instant::now();
        let leader = parked(&flights, &loads).await;
        assert_eq!(flights.stats().in_flight_waiters, 1, "the leader waits");
        let load = loads.load();
        let call = Call::new().join(join);
        let landed = flights.run_with(KEY.into(), call, move |_| load()).await.unwrap();
        let expected = if join == Join::Fresh { (2, 4) } else { (1, 2) };
        assert_eq!((landed.value, since(start)), expected, "{join:?}");
        assert_eq!(leader.await.unwrap(), 1);
        check_quiet(&flights, &loads).await;
    }
}

/// The first follower sees to the load; the others need it neither polled nor there.
#[tokio::test(start_paused = true)]
async fn a_parked_follower_keeps_others_waiting_no_longer_than_a_load_rests() {
    for leaves in [false, true] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
        let begun = Instant::now();
        let leader = parked(&flights, &loads).await;
        let mut first = Some(parked(&flights, &loads).await);
        let second = loads.call(&flights).await;
        if leaves {
            first = None;
        }
        assert_eq!(second.await.unwrap().unwrap(), 1);
        let most = if leaves { 3 } else { 8 };
        assert!(since(begun) <= most, "{} ms, of at most {most}", since(begun));
        if let Some(first) = first {
            assert_eq!(first.await.unwrap(), 1);
        }
        assert_eq!(leader.await.unwrap(), 1);
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_load_of_a_parked_leader_that_nobody_joins_soon_goes_on_by_itself() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
    let leader = parked(&flights, &loads).await;
    sleep(ms_of(10)).await;
    assert_eq!((loads.alive(), flights.stats().landed), (0, 1), "it holds nothing any more");
    assert_eq!(leader.await.unwrap(), 1);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn an_unattended_leader_s_flight_ends_at_flight_max() {
    for (soft_age, most) in [(ms_of(3), 4), (Duration::MAX, 50)] {
        let flight_max = ms_of(most);
        let flights = Flights::builder().soft_age(soft_age).flight_max(flight_max).build();
        let loads = Loads::script([Goes::Hangs]);
        let leader = parked(&flights, &loads).await;
        sleep(ms_of(most - 1)).await;
        assert!(loads.alive() > 0);
        sleep(ms_of(2)).await;
        settle().await;
        assert_eq!(flights.stats().timed_out, 1);
        assert!(matches!(leader.await, Err(FlightError::TimedOut)));
        sleep(flight_max).await;
        check_quiet(&flights, &loads).await;
    }
}

/// Shorter and longer than a load rests with its leader.
#[tokio::test(start_paused = true)]
async fn a_parked_leader_is_relieved_at_the_soft_age_to_the_millisecond() {
    for soft_age in [2, 5, 40] {
        let flights = Flights::builder().soft_age(ms_of(soft_age)).build();
        let loads = Loads::script([Goes::Hangs, Goes::After(1)]);
        let begun = Instant::now();
        let leader = parked(&flights, &loads).await;
        let follower = loads.call(&flights).await;
        assert_eq!(follower.await.unwrap().unwrap(), 2);
        assert_eq!(since(begun), soft_age + 1);
        assert_eq!(leader.await.unwrap(), 2);
        let stats = check_quiet(&flights, &loads).await;
        assert_eq!((stats.successors, stats.superseded), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_alone_is_relieved_at_the_soft_age_too() {
    for soft_age in [2, 5, 40] {
        let flights = Flights::builder().soft_age(ms_of(soft_age)).build();
        let loads = Loads::script([Goes::Hangs, Goes::After(1)]);
        let begun = Instant::now();
        assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 2);
        assert_eq!(since(begun), soft_age + 1);
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_takes_a_load_along_that_nobody_shares() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    drop(parked(&flights, &loads).await);
    assert_eq!((loads.alive(), tasks()), (0, 1), "at once; the watcher may look once more");
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.aborted, stats.leaders), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_leader_is_dropped_lingers_or_ends_as_the_registry_says() {
    for idle in [Idle::Linger(ms_of(3)), Idle::Linger(ms_of(50)), Idle::Detach] {
        let flights = Flights::builder().idle(idle).build();
        let loads = Loads::script([Goes::After(10)]);
        drop(parked(&flights, &loads).await);
        let cut = idle == Idle::Linger(ms_of(3));
        sleep(ms_of(4)).await;
        settle().await;
        assert_eq!(loads.alive(), usize::from(!cut), "{idle:?}");
        sleep(ms_of(10)).await;
        let stats = check_quiet(&flights, &loads).await;
        assert_eq!((stats.aborted, stats.landed), (u64::from(cut), u64::from(!cut)), "{idle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_load_was_taken_may_be_dropped_before_and_after_it_lands() {
    for lands in [false, true] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
        let leader = parked(&flights, &loads).await;
        let follower = loads.call(&flights).await;
        if lands {
            sleep(ms_of(3)).await;
        }
        drop(leader);
        assert_eq!(follower.await.unwrap().unwrap(), 1);
        check_quiet(&flights, &loads).await;
    }
}

/// Its runtime never runs the load's task, nor may anybody else.
#[test]
fn a_load_whose_runtime_is_gone_before_it_was_handed_over_is_lost_with_it() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::After(1)]));
    let (first, second) = (runtime(), runtime());
    let mut survivor = Box::pin(flights.run(KEY.into(), loads.load()));
    first.block_on(async {
        assert!(poll!(survivor.as_mut()).is_pending());
    });
    drop(first);
    assert_eq!(second.block_on(survivor).unwrap(), 2, "it is begun again where its leader is");
    assert_eq!((loads.begun(), flights.stats().in_flight_flights), (2, 0));
}

#[test]
fn a_newcomer_leads_where_the_leader_went_with_its_runtime() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::After(1)]));
    let (first, second) = (runtime(), runtime());
    let (again, load) = (flights.clone(), loads.load());
    let leader = first.spawn(async move { again.run(KEY.into(), load).await });
    first.block_on(tokio::task::yield_now());
    drop(first);
    assert_eq!(second.block_on(flights.run(KEY.into(), loads.load())).unwrap(), 2);
    assert!(leader.is_finished());
    assert_eq!((loads.alive(), flights.stats().in_flight_waiters), (0, 0));
}

/// Two runtimes share a registry, and nobody drives the one whose loads rested first.
#[test]
fn a_runtime_that_nobody_drives_stops_the_clock_of_no_other() {
    let flights = Flights::builder().soft_age(ms_of(20)).build();
    let loads = Loads::script([Goes::Hangs, Goes::Hangs, Goes::Ready]);
    let (idle, driven) = (runtime(), runtime());
    let mut parked = Box::pin(flights.run("another".into(), loads.load()));
    idle.block_on(async { assert!(poll!(parked.as_mut()).is_pending()) });
    assert_eq!(driven.block_on(flights.run(KEY.into(), loads.load())).unwrap(), 3);
    drop(parked);
}

/// Nor does it age what was laid down when somebody drives it again.
#[test]
fn a_runtime_that_nobody_drove_for_long_takes_no_load_for_older_than_it_is() {
    let flights = Flights::builder().soft_age(Duration::from_secs(1)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(50)]);
    let driven = runtime();
    let mut parked = Box::pin(flights.run("another".into(), loads.load()));
    driven.block_on(async { assert!(poll!(parked.as_mut()).is_pending()) });
    runtime().block_on(async { sleep(ms_of(1_100)).await });
    assert_eq!(driven.block_on(flights.run(KEY.into(), loads.load())).unwrap(), 2);
    assert_eq!(flights.stats().successors, 0, "of the other, or of this one");
    drop(parked);
}

fn runtime() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_to_all_wherever_the_load_was() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::PanicsAfter(2)]));
    let alone = flights.run(KEY.into(), loads.load()).await;
    assert!(matches!(alone, Err(FlightError::Panicked { .. })), "with its leader: {alone:?}");
    let leader = parked(&flights, &loads).await;
    let follower = loads.call(&flights).await.await.unwrap();
    assert!(matches!(follower, Err(FlightError::Panicked { .. })), "{follower:?}");
    assert!(matches!(leader.await, Err(FlightError::Panicked { .. })));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_asks_for_its_own_key_is_told_at_once_with_its_leader_too() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let (begun, inner) = (Instant::now(), flights.clone());
    let load = move || {
        let inner = inner.clone();
        async move {
            sleep(ms_of(1)).await;
            let own = inner.run(1, || async { Ok(0) }).await;
            Ok(u8::from(matches!(own, Err(FlightError::Reentrant))))
        }
    };
    assert_eq!(flights.run(1, load).await.unwrap(), 1);
    assert_eq!(since(begun), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_rests_can_be_forgotten_and_cancelled() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
    let leader = parked(&flights, &loads).await;
    flights.forget(&KEY.into());
    assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 2, "not the forgotten one");
    assert!(matches!(leader.await, Ok(1 | 2)));
    let leader = parked(&flights, &loads).await;
    flights.cancel(&KEY.into());
    assert!(matches!(leader.await, Err(FlightError::Aborted)));
    check_quiet(&flights, &loads).await;
}

/// Polled by one task first, and awaited in another.
#[tokio::test(start_paused = true)]
async fn a_leader_that_moves_is_woken_where_it_is() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
    for joined in [false, true] {
        let leader = parked(&flights, &loads).await;
        let moved = start(leader).await;
        let follower = if joined { Some(loads.call(&flights).await) } else { None };
        let answer = moved.await.unwrap().unwrap();
        if let Some(follower) = follower {
            assert_eq!(follower.await.unwrap().unwrap(), answer);
        }
    }
    check_quiet(&flights, &loads).await;
}

/// What a load has captured is dropped before its caller is answered.
#[tokio::test(start_paused = true)]
async fn a_caller_s_own_deadline_ends_its_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    let (load, begun) = (loads.load(), Instant::now());
    let call = Call::new().deadline(begun + ms_of(3));
    let late = flights.run_with(KEY.into(), call, move |_| load()).await;
    assert!(matches!(late, Err(FlightError::TimedOut)));
    assert_eq!((since(begun), loads.alive()), (3, 0));
    check_quiet(&flights, &loads).await;
}

/// A load that yields while its leader polls it: the follower arrives within that poll.
#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_while_the_leader_polls_shares_the_load() {
    let flights = Flights::new();
    let follower: Arc<Mutex<Option<BoxFuture<'static, Answer>>>> = Arc::default();
    let (released, gate) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let (joins, again) = (Arc::clone(&follower), flights.clone());
    let load = move || {
        let (gate, joins, again) = (gate.lock().unwrap().take(), Arc::clone(&joins), again.clone());
        async move {
            tokio::task::yield_now().await;
            // From outside of the load's own task, as far as anybody can see.
            let joined = std::thread::spawn(move || {
                let mut call =
                    async move { again.run(KEY.into(), || async { Ok(9) }).await }.boxed();
                assert!(futures::executor::block_on(poll_immediate(call.as_mut())).is_none());
                *joins.lock().unwrap() = Some(call);
            });
            joined.join().unwrap();
            gate.unwrap().await.unwrap();
            Ok(7)
        }
    };
    let (again, mut leader) = (flights.clone(), None);
    let leads = leader.insert(Box::pin(async move { again.run(KEY.into(), load).await }));
    assert!(poll!(leads.as_mut()).is_pending());
    assert!(poll!(leads.as_mut()).is_pending());
    released.send(()).unwrap();
    let follower = follower.lock().unwrap().take().unwrap();
    assert_eq!(pin!(follower).await.unwrap(), 7, "though the leader is parked");
    assert_eq!(leader.take().unwrap().await.unwrap(), 7);
    assert_eq!(flights.stats().followers, 1);
}

#[tokio::test(start_paused = true)]
async fn the_leader_of_a_load_that_was_shared_is_told_so() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(2)]));
    let (one, two) = (loads.load(), loads.load());
    let (lead, follow) = tokio::join!(
        flights.run_with(KEY.into(), Call::new(), move |_| one()),
        flights.run_with(KEY.into(), Call::new(), move |_| two()),
    );
    let (lead, follow) = (lead.unwrap(), follow.unwrap());
    assert_eq!((lead.role, follow.role), (Role::Leader, Role::Follower));
    assert_eq!((lead.flight, lead.value), (follow.flight, follow.value));
    check_quiet(&flights, &loads).await;
}
