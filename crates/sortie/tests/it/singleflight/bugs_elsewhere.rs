//! What went wrong in other single flights and caches, as tests. Named after the report; the rest
//! of a name says what must hold here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, poll};
use sortie::{Idle, SingleFlight};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since, start};

/// How long a loop of thousands of rounds may take on any machine: only a hang takes longer.
const HANGS: Duration = Duration::from_secs(120);

/// A load that is done when it is polled again.
fn yields(
    value: usize,
) -> impl Fn() -> BoxFuture<'static, Result<usize, ()>> + Copy + Send + Sync + 'static {
    move || {
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(value)
        })
    }
}

/// The clone that had polled last was dropped, and its wake-up went with it.
#[tokio::test(start_paused = true)]
async fn futures_rs_304_the_wake_up_of_a_dropped_caller_is_not_the_others() {
    let flights = Flights::new();
    let (answer, answered) = oneshot::channel();
    let answered = parking_lot::Mutex::new(Some(answered));
    let mut first = Box::pin(flights.run(KEY.into(), move || {
        let answered = answered.lock().take().unwrap();
        async move { answered.await.map_err(|closed| closed.to_string()) }
    }));
    assert!(poll!(first.as_mut()).is_pending());
    let again = flights.clone();
    let second = start(async move { again.run(KEY.into(), || async { Ok(0) }).await }).await;
    assert!(poll!(first.as_mut()).is_pending());
    drop(first);
    answer.send(42).unwrap();
    assert_eq!(timeout(ms_of(10), second).await.unwrap().unwrap().unwrap(), 42);
}

/// Who had polled between the others' polls and was dropped then left nobody to be woken.
#[tokio::test(start_paused = true)]
async fn futures_rs_339_a_caller_that_comes_and_goes_leaves_the_others_their_wake_up() {
    let flights = Flights::new();
    let go = Arc::new(Notify::new());
    let held = Arc::clone(&go);
    let load = move || {
        let go = Arc::clone(&held);
        async move {
            go.notified().await;
            Ok(42)
        }
    };
    let again = flights.clone();
    let first = start(async move { again.run(KEY.into(), load).await }).await;
    for _ in 0..3 {
        let mut comes = Box::pin(flights.run(KEY.into(), || async { Ok(0) }));
        assert!(poll!(comes.as_mut()).is_pending());
    }
    go.notify_one();
    assert_eq!(timeout(ms_of(10), first).await.unwrap().unwrap().unwrap(), 42);
}

/// One clone was polled once and given up while another registered itself: the wake of the load,
/// which came during that poll, was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_rs_2706_a_wake_during_the_poll_of_one_that_gives_up_is_not_lost() {
    let rounds = async {
        let flights = SingleFlight::<usize, usize, ()>::new();
        for round in 0..5_000 {
            let load = yields(round);
            let (one, two) = (flights.clone(), flights.clone());
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(async move {
                let _gives_up = one.run(round, load).now_or_never();
            });
            tasks.spawn(async move { assert_eq!(two.run(round, load).await.unwrap(), round) });
            tasks.join_all().await;
        }
        flights
    };
    let flights = timeout(HANGS, rounds).await.expect("a caller was never woken");
    assert_eq!(flights.stats().in_flight_waiters, 0);
}

/// A plain insert replaced the entry of a load whose guard landed at the same time: its waiters
/// found a state that could not be, and panicked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_cache_40_an_entry_that_is_closed_as_it_lands_still_answers_its_waiters() {
    let rounds = async {
        let flights = SingleFlight::<u8, usize, ()>::new();
        for round in 0..3_000 {
            let load = yields(round);
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..3 {
                let flights = flights.clone();
                tasks.spawn(async move { assert_eq!(flights.run(1, load).await.unwrap(), round) });
            }
            let closes = flights.clone();
            tasks.spawn(async move { closes.forget(&1) });
            tasks.join_all().await;
        }
        flights
    };
    let flights = timeout(HANGS, rounds).await.expect("a caller was never woken");
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
}

/// A caller that is polled by one task and goes on in another was woken where it had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_cache_104_a_caller_is_woken_where_it_was_polled_last() {
    let rounds = async {
        let flights = SingleFlight::<u8, usize, ()>::new();
        for round in 0..3_000 {
            let load = yields(round);
            let call = |flights: SingleFlight<_, _, ()>| async move { flights.run(1, load).await };
            let mut calls: Vec<_> = (0..3).map(|_| Box::pin(call(flights.clone()))).collect();
            for call in &mut calls {
                assert!(call.as_mut().now_or_never().is_none(), "the load yields");
            }
            // The load may end while they move.
            let mut tasks = tokio::task::JoinSet::new();
            for call in calls {
                tasks.spawn(async move { assert_eq!(call.await.unwrap(), round) });
            }
            tasks.join_all().await;
        }
        flights
    };
    let flights = timeout(HANGS, rounds).await.expect("a caller was never woken");
    assert_eq!(flights.stats().in_flight_waiters, 0);
}

/// One of several callers that gave up took the key out of the map: the next one loaded again.
#[tokio::test(start_paused = true)]
async fn janos_4_while_others_wait_one_that_gives_up_costs_no_second_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(20)]));
    let stays = loads.call(&flights).await;
    for _ in 0..3 {
        loads.call(&flights).await.abort();
        settle().await;
    }
    let comes = loads.call(&flights).await;
    assert_eq!((stays.await.unwrap().unwrap(), comes.await.unwrap().unwrap()), (1, 1));
    assert_eq!(loads.begun(), 1);
    check_quiet(&flights, &loads).await;
}

/// A large result that many had waited for was there once for each of them.
#[tokio::test(start_paused = true)]
async fn vitess_17243_a_large_value_is_there_once_for_all_who_wait() {
    const BYTES: usize = 5 << 20;
    let most = std::num::NonZeroUsize::new(2 * BYTES).unwrap();
    let flights = SingleFlight::<u8, Arc<[u8]>, ()>::builder()
        .shared_bytes_max(most, |value: &Arc<[u8]>| value.len())
        .build();
    let load = || async {
        sleep(ms_of(20)).await;
        Ok(Arc::from(vec![7; BYTES]))
    };
    let mut calls: Vec<_> = (0..10_000).map(|_| Box::pin(flights.run(1, load))).collect();
    for call in &mut calls {
        assert!(poll!(call.as_mut()).is_pending());
    }
    sleep(ms_of(30)).await;
    assert_eq!(flights.stats().in_flight_bytes, BYTES as u64, "nobody has taken it");
    let values = futures::future::join_all(calls).await;
    let first = values[0].as_ref().unwrap();
    assert!(values.iter().all(|value| Arc::ptr_eq(value.as_ref().unwrap(), first)));
    assert_eq!(flights.stats().in_flight_bytes, 0);
}

/// Guards of keys that were looked up and given up stayed.
#[tokio::test(start_paused = true)]
async fn quick_cache_120_what_is_given_up_in_any_state_leaves_no_entry() {
    let flights = SingleFlight::<u64, u64, ()>::new();
    let fresh = || sortie::Call::new().join(sortie::Join::Fresh);
    for key in 0..1_000 {
        let mut leads = Box::pin(flights.run(key, std::future::pending));
        let mut joins = Box::pin(flights.run(key, std::future::pending));
        let mut waits = Box::pin(flights.run_with(key, fresh(), |_| std::future::pending()));
        drop(Box::pin(flights.run(key, std::future::pending)));
        for call in [&mut leads, &mut joins] {
            assert!(poll!(call.as_mut()).is_pending());
        }
        assert!(poll!(waits.as_mut()).is_pending());
        match key % 3 {
            0 => drop((leads, joins, waits)),
            1 => drop((waits, leads, joins)),
            _ => drop((joins, waits, leads)),
        }
    }
    settle().await;
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0), "{stats:?}");
}

/// A look-up that was cancelled left its lock behind; everybody waited for the lock's age. Also
/// risingwave#4422: for the load that nobody wanted any more.
#[tokio::test(start_paused = true)]
async fn pingora_931_after_a_cancelled_look_up_nobody_waits_for_an_age() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::After(20)]));
    let mut cancelled = Box::pin(flights.run(KEY.into(), loads.load()));
    assert!(poll!(cancelled.as_mut()).is_pending());
    drop(cancelled);
    let begun = Instant::now();
    let callers = [loads.call(&flights).await, loads.call(&flights).await];
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 2);
    }
    assert_eq!((since(begun), loads.begun()), (20, 2));
    check_quiet(&flights, &loads).await;
}

/// A look-up in flight that was dropped took the waiters of its key along.
#[tokio::test(start_paused = true)]
async fn risingwave_3911_a_look_up_that_is_polled_once_and_dropped_leaves_its_waiters_an_answer() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(20)]));
    let mut first = Box::pin(flights.run(KEY.into(), loads.load()));
    let mut second = Box::pin(flights.run(KEY.into(), loads.load()));
    assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(timeout(ms_of(21), second).await.unwrap().unwrap(), 1);
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
