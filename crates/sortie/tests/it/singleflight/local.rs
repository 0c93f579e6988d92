//! `run_local`: loads that their callers drive, alone among themselves and mixed with tasks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::future::join_all;
use futures::poll;
use proptest::prelude::*;
use sortie::{AtLimit, Call, FlightError, Idle, Join, Landed, Role, SingleFlight};
use tokio::runtime::Builder;
use tokio::time::{Instant, advance, sleep, timeout};

use super::support::{Flights, Goes, KEY, Loads, check_quiet, ms_of, settle, since};

type Got = Result<Landed<usize>, FlightError<String>>;

async fn local(flights: &Flights, loads: &Loads, call: Call) -> Got {
    let load = loads.load();
    flights.run_local(KEY.into(), call, |_cx| load()).await
}

fn value(got: Got) -> usize {
    got.unwrap().value
}

fn within(ms: u64) -> Call {
    Call::new().deadline(Instant::now() + ms_of(ms))
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_load_that_is_neither_send_nor_static() {
    let flights = Flights::new();
    let (held, begun) = (Rc::new(RefCell::new(Vec::new())), Cell::new(0));
    let load = |_cx| async {
        begun.set(begun.get() + 1);
        let rows = Rc::clone(&held);
        sleep(ms_of(10)).await;
        rows.borrow_mut().push(begun.get());
        Ok(begun.get())
    };
    let calls = (0..50).map(|_| flights.run_local(KEY.into(), Call::new(), load));
    let landed = join_all(calls).await;
    let roles = landed.into_iter().map(|got| got.unwrap().role).collect::<Vec<_>>();
    assert_eq!((roles[0], &roles[1..]), (Role::Leader, &[Role::Follower; 49][..]));
    assert_eq!((begun.get(), held.borrow().len()), (1, 1));
    let stats = flights.stats();
    assert_eq!((stats.leaders, stats.followers, stats.takeovers), (1, 49, 0));
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_gives_way_once_is_shared() {
    let (flights, begun) = (Flights::new(), Cell::new(0));
    let load = |_cx| async {
        begun.set(begun.get() + 1);
        tokio::task::yield_now().await;
        Ok(begun.get())
    };
    let calls = (0..3).map(|_| flights.run_local(KEY.into(), Call::new(), load));
    let landed = join_all(calls).await;
    assert!(landed.into_iter().all(|got| value(got) == 1));
    assert_eq!(begun.get(), 1);
}

#[test]
fn a_ready_load_needs_no_runtime() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let call = flights.run_local(1, Call::new(), |_cx| async { Ok(2) });
    assert_eq!(futures::executor::block_on(call).unwrap().value, 2);
    assert_eq!(flights.stats().landed, 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_is_dropped_one_follower_begins_anew_and_all_are_answered() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let begun = Instant::now();
    let mut leader = Box::pin(local(&flights, &loads, Call::new()));
    assert!(poll!(leader.as_mut()).is_pending());
    let followers = (0..20).map(|_| local(&flights, &loads, Call::new()));
    let dropped = async {
        sleep(ms_of(60)).await;
        drop(leader);
    };
    let (answers, ()) = futures::join!(join_all(followers), dropped);
    assert!(answers.into_iter().all(|got| value(got) == 2));
    assert_eq!((since(begun), loads.begun()), (160, 2));
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.leaders, stats.followers, stats.takeovers), (2, 20, 1));
}

#[tokio::test(start_paused = true)]
async fn a_parked_follower_is_not_waited_for_when_the_leader_is_dropped() {
    for parks_first in [true, false] {
        let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
        let mut leader = Box::pin(local(&flights, &loads, Call::new()));
        assert!(poll!(leader.as_mut()).is_pending());
        let mut parked = Box::pin(local(&flights, &loads, Call::new()));
        let mut lives = Box::pin(local(&flights, &loads, Call::new()));
        let order = if parks_first { [&mut parked, &mut lives] } else { [&mut lives, &mut parked] };
        for call in order {
            assert!(poll!(call.as_mut()).is_pending());
        }
        drop(leader);
        assert_eq!(value(timeout(ms_of(101), lives).await.unwrap()), 2);
        assert_eq!(value(parked.await), 2);
        check_quiet(&flights, &loads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn impatient_leaders_hand_on_to_a_patient_follower() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(200)]));
    let impatient = (0..5).map(|_| local(&flights, &loads, within(60)));
    let patient = local(&flights, &loads, within(1_000));
    let (impatient, patient) = futures::join!(join_all(impatient), patient);
    assert!(impatient.iter().all(|got| matches!(got, Err(FlightError::TimedOut))));
    assert_eq!((value(patient), loads.begun()), (2, 2));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_is_everybodys_by_one_load() {
    let flights = Flights::new();
    let loads = Loads::script([Goes::PanicsAfter(5), Goes::FailsAfter(5), Goes::Ready]);
    for panics in [true, false] {
        for got in join_all((0..3).map(|_| local(&flights, &loads, Call::new()))).await {
            match got {
                Err(FlightError::Panicked { message }) if panics => {
                    assert_eq!(&*message, "load 1 panicked");
                }
                Err(FlightError::Failed(error)) if !panics => assert_eq!(*error, "load 2 failed"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(value(local(&flights, &loads, Call::new()).await), 3);
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.panicked, stats.failed, stats.landed), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_is_an_error_too() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    let load = |_cx| -> std::future::Ready<Result<u8, ()>> { panic!("before there is a future") };
    let got = flights.run_local(1, Call::new(), load).await;
    assert!(matches!(got, Err(FlightError::Panicked { .. })), "{got:?}");
    assert_eq!(flights.stats().in_flight_flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leaders_own_deadline_is_its_own() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let begun = Instant::now();
    let (early, late) =
        futures::join!(local(&flights, &loads, within(40)), local(&flights, &loads, within(500)));
    assert!(matches!(early, Err(FlightError::TimedOut)));
    assert_eq!((value(late), since(begun)), (2, 140));
    check_quiet(&flights, &loads).await;
    let expired = local(&flights, &loads, within(0)).await;
    assert!(matches!(expired, Err(FlightError::TimedOut)));
    assert_eq!((flights.stats().expired, loads.begun()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn behind_a_parked_leader_one_follower_leads_a_successor_for_all() {
    let flights = Flights::builder().soft_age(ms_of(50)).build();
    let loads = Loads::script([Goes::After(10), Goes::After(30)]);
    let mut parked = Box::pin(local(&flights, &loads, Call::new()));
    assert!(poll!(parked.as_mut()).is_pending());
    let begun = Instant::now();
    for got in join_all((0..10).map(|_| local(&flights, &loads, Call::new()))).await {
        assert_eq!(value(got), 2);
    }
    assert_eq!((since(begun), loads.begun()), (80, 2));
    assert_eq!(value(parked.await), 2, "the successor's answer is the parked leader's too");
    let stats = check_quiet(&flights, &loads).await;
    assert_eq!((stats.superseded, stats.takeovers), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn behind_two_parked_leaders_flight_max_is_told() {
    let builder = Flights::builder().soft_age(ms_of(50)).flight_max(ms_of(400));
    let (flights, loads) = (builder.build(), Loads::script([Goes::Hangs]));
    let mut first = Box::pin(local(&flights, &loads, Call::new()));
    assert!(poll!(first.as_mut()).is_pending());
    advance(ms_of(60)).await;
    let mut second = Box::pin(local(&flights, &loads, Call::new()));
    assert!(poll!(second.as_mut()).is_pending());
    advance(ms_of(60)).await;
    let begun = Instant::now();
    let waits = local(&flights, &loads, Call::new()).await;
    assert!(matches!(waits, Err(FlightError::TimedOut)), "{waits:?}");
    assert_eq!(since(begun), 280, "the end of the first of them");
    for parked in [first, second] {
        assert!(matches!(parked.await, Err(FlightError::TimedOut)));
    }
    assert_eq!(loads.begun(), 2);
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn after_forget_a_caller_gets_a_load_of_its_own() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(50)]));
    let late = async {
        sleep(ms_of(10)).await;
        flights.forget(&KEY.into());
        local(&flights, &loads, Call::new()).await
    };
    let (early, late) = futures::join!(local(&flights, &loads, Call::new()), late);
    assert_eq!((value(early), value(late)), (1, 2));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_flight_ends_for_its_leader_and_its_followers() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    let cancels = async {
        sleep(ms_of(10)).await;
        flights.cancel(&KEY.into());
    };
    let callers = (0..3).map(|_| local(&flights, &loads, Call::new()));
    let (answers, ()) = futures::join!(join_all(callers), cancels);
    assert!(answers.iter().all(|got| matches!(got, Err(FlightError::Aborted))), "{answers:?}");
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn fresh_callers_wait_and_then_share_one_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::After(100)]));
    let fresh = |after| {
        let (flights, loads) = (&flights, &loads);
        async move {
            sleep(ms_of(after)).await;
            local(flights, loads, Call::new().join(Join::Fresh)).await
        }
    };
    let running = local(&flights, &loads, Call::new());
    let (one, two, three) = futures::join!(running, fresh(10), fresh(20));
    assert_eq!((value(one), value(two), value(three)), (1, 2, 2));
    check_quiet(&flights, &loads).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_asks_for_its_own_key_is_told() {
    let flights = Flights::new();
    let got = flights.run_local(KEY.into(), Call::new(), |_cx| async {
        tokio::task::yield_now().await;
        let inner = flights.run_local(KEY.into(), Call::new(), |_cx| async { Ok(1) }).await;
        assert!(matches!(inner, Err(FlightError::Reentrant)), "{inner:?}");
        Ok(2)
    });
    assert_eq!(value(got.await), 2);
}

#[tokio::test(start_paused = true)]
async fn at_a_limit_it_runs_alone_to_its_deadline() {
    let one = std::num::NonZeroUsize::MIN;
    let flights = Flights::builder().flights_max(one).at_limit(AtLimit::Solo).build();
    let loads = Loads::script([Goes::After(50)]);
    let other = async {
        let load = loads.load();
        flights.run_local("other".into(), Call::new(), |_cx| load()).await
    };
    let hangs = async {
        let call = within(20);
        flights.run_local("third".into(), call, |_cx| std::future::pending()).await
    };
    let first = local(&flights, &loads, Call::new());
    let (first, other, hangs) = futures::join!(first, other, hangs);
    assert_eq!((first.unwrap().role, other.unwrap().role), (Role::Leader, Role::Solo));
    assert!(matches!(hangs, Err(FlightError::TimedOut)));
    assert_eq!(flights.stats().solos, 2);
}

/// Whoever can have its load run by a task, does so for those who cannot.
#[tokio::test(start_paused = true)]
async fn a_follower_with_a_task_carries_on_for_a_dropped_leader() {
    for idle in [Idle::Abort, Idle::Linger(ms_of(500)), Idle::Detach] {
        let flights = Flights::builder().idle(idle).build();
        let loads = Loads::script([Goes::After(100)]);
        let mut leader = Box::pin(local(&flights, &loads, Call::new()));
        assert!(poll!(leader.as_mut()).is_pending());
        let spawned = loads.call(&flights).await;
        let mut follows = Box::pin(local(&flights, &loads, Call::new()));
        assert!(poll!(follows.as_mut()).is_pending());
        drop(leader);
        assert_eq!(spawned.await.unwrap().unwrap(), 2);
        assert_eq!(value(follows.await), 2);
        let stats = check_quiet(&flights, &loads).await;
        assert_eq!((stats.nexts, stats.takeovers), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_with_a_task_is_relieved_of_a_parked_leader() {
    let flights = Flights::builder().soft_age(ms_of(50)).build();
    let loads = Loads::script([Goes::Hangs, Goes::After(30)]);
    let mut parked = Box::pin(local(&flights, &loads, Call::new()));
    assert!(poll!(parked.as_mut()).is_pending());
    let begun = Instant::now();
    assert_eq!(loads.call(&flights).await.await.unwrap().unwrap(), 2);
    assert_eq!((since(begun), flights.stats().successors), (80, 1));
    assert_eq!(value(parked.await), 2);
    check_quiet(&flights, &loads).await;
}

#[test]
fn in_a_local_set_it_needs_no_send() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let set = tokio::task::LocalSet::new();
    let answers = set.block_on(&runtime, async {
        let (flights, begun) = (Rc::new(Flights::new()), Rc::new(Cell::new(0)));
        let call = || {
            let (flights, begun) = (Rc::clone(&flights), Rc::clone(&begun));
            tokio::task::spawn_local(async move {
                let load = |_cx| async move {
                    begun.set(begun.get() + 1);
                    sleep(ms_of(5)).await;
                    Ok(begun.get())
                };
                flights.run_local(KEY.into(), Call::new(), load).await.unwrap().value
            })
        };
        join_all([call(), call(), call()]).await
    });
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
}

/// What a caller of a random crowd does.
#[derive(Clone, Debug)]
struct Guest {
    comes: u64,
    /// Is dropped after so long, if that is before its answer.
    patience: u64,
    local: bool,
    fresh: bool,
}

fn guests() -> impl Strategy<Value = Vec<Guest>> {
    let guest = (0..200_u64, 1..400_u64, any::<bool>(), any::<bool>());
    let guest =
        guest.prop_map(|(comes, patience, local, fresh)| Guest { comes, patience, local, fresh });
    prop::collection::vec(guest, 1..16)
}

async fn crowd(guests: Vec<Guest>, takes: u64) {
    let flights = Flights::builder().soft_age(ms_of(60)).flight_max(ms_of(300)).build();
    let loads = Loads::script([Goes::After(takes), Goes::Hangs, Goes::After(takes)]);
    let visits = guests.into_iter().map(|guest| {
        let (flights, loads) = (&flights, &loads);
        async move {
            sleep(ms_of(guest.comes)).await;
            let (arrived, before) = (Instant::now(), loads.begun());
            let join = if guest.fresh { Join::Fresh } else { Join::Running };
            let (call, load) = (Call::new().join(join), loads.load());
            let answer = async {
                if guest.local {
                    flights.run_local(KEY.into(), call, |_cx| load()).await
                } else {
                    flights.run_with(KEY.into(), call, move |_cx| load()).await
                }
            };
            let Ok(answer) = timeout(ms_of(guest.patience), answer).await else { return };
            // A load, and one more: each at its flight's end at the latest.
            assert!(arrived.elapsed() <= ms_of(700), "{guest:?} waited {:?}", arrived.elapsed());
            match answer {
                Ok(landed) if guest.fresh => {
                    assert!(landed.value > before, "{guest:?} got {}", landed.value);
                }
                Ok(_) | Err(FlightError::TimedOut) => {}
                Err(other) => panic!("{guest:?} was told {other:?}"),
            }
        }
    });
    // Nobody is left waiting, whatever the others do.
    timeout(ms_of(5_000), join_all(visits)).await.expect("somebody waits for ever");
    settle().await;
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0), "{stats:?}");
    assert_eq!((stats.in_flight_lingering, loads.alive()), (0, 0), "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_hangs_and_nothing_stays_in_a_crowd_that_comes_and_goes(
        guests in guests(),
        takes in 1..150_u64,
    ) {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(crowd(guests, takes));
    }
}
