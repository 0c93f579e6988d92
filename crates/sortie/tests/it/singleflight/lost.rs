//! Loads whose runtime is gone: those who wait elsewhere go on by themselves, or are told.

use std::pin::Pin;

use futures::executor::block_on;
use futures::poll;
use sortie::{Call, FlightError, Join};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::support::{Answer, Flights, Goes, KEY, Loads, ms_of};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Calls in this runtime, and returns when so many wait.
fn call(flights: &Flights, loads: &Loads, on: &Runtime, waiters: u64) -> JoinHandle<Answer> {
    let (again, load) = (flights.clone(), loads.load());
    let task = on.spawn(async move { again.run(KEY.into(), load).await });
    while flights.stats().in_flight_waiters < waiters {
        std::thread::yield_now();
    }
    task
}

/// A caller whose load's runtime has been shut down, and that has not been polled since.
async fn orphan(
    flights: &Flights,
    loads: &Loads,
    of: Runtime,
) -> Pin<Box<impl Future<Output = Answer>>> {
    let mut parked = Box::pin(flights.run(KEY.into(), loads.load()));
    assert!(poll!(parked.as_mut()).is_pending());
    of.shutdown_background();
    while flights.stats().aborted == 0 {
        tokio::task::yield_now().await;
    }
    parked
}

/// Nothing is left, once the runtimes that shut down have dropped their callers.
fn assert_quiet(flights: &Flights) {
    for _ in 0..10_000_000 {
        let stats = flights.stats();
        if (stats.in_flight_flights, stats.in_flight_waiters) == (0, 0) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{:?}", flights.stats());
}

#[test]
fn a_herd_over_three_runtimes_is_answered_by_one_more_load() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::After(20)]));
    let (first, others) = (runtime(), [runtime(), runtime()]);
    let _leader = call(&flights, &loads, &first, 1);
    let herd: Vec<_> = (0..40)
        .map(|caller| call(&flights, &loads, &others[caller % 2], caller as u64 + 2))
        .collect();
    drop(first);
    for caller in herd {
        assert_eq!(others[0].block_on(caller).unwrap().unwrap(), 2);
    }
    assert_eq!(loads.begun(), 2);
    assert_quiet(&flights);
}

#[test]
fn whoever_comes_between_the_loss_and_the_next_poll_leads_all_of_them() {
    let flights = Flights::new();
    let loads = Loads::script([Goes::Hangs, Goes::Ready]);
    let (first, waits) = (runtime(), runtime());
    let _leader = call(&flights, &loads, &first, 1);
    waits.block_on(async {
        let parked = orphan(&flights, &loads, first).await;
        assert_eq!(flights.run(KEY.into(), loads.load()).await.unwrap(), 2);
        assert_eq!(parked.await.unwrap(), 2);
    });
    assert_eq!(loads.begun(), 2);
    assert_quiet(&flights);
}

#[test]
fn an_orphan_that_leaves_leaves_nothing() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::Ready]));
    let (first, waits) = (runtime(), runtime());
    let _leader = call(&flights, &loads, &first, 1);
    waits.block_on(async {
        let parked = orphan(&flights, &loads, first).await;
        drop(parked);
    });
    assert_quiet(&flights);
    assert_eq!(waits.block_on(flights.run(KEY.into(), loads.load())).unwrap(), 2);
    assert_eq!(loads.begun(), 2);
}

/// A leader that drives its load itself takes the orphans along, and is parked.
#[test]
fn orphans_of_a_parked_leader_are_relieved() {
    let flights = Flights::builder().soft_age(ms_of(50)).build();
    let loads = Loads::script([Goes::Hangs, Goes::Hangs, Goes::After(5)]);
    let (first, waits) = (runtime(), runtime());
    let _leader = call(&flights, &loads, &first, 1);
    waits.block_on(async {
        let orphan = orphan(&flights, &loads, first).await;
        let load = loads.load();
        let mut parked = Box::pin(flights.run_local(KEY.into(), Call::new(), |_| load()));
        assert!(poll!(parked.as_mut()).is_pending());
        assert_eq!(orphan.await.unwrap(), 3);
        assert_eq!(parked.await.unwrap().value, 3);
    });
    assert_eq!(loads.begun(), 3);
    assert_quiet(&flights);
}

/// Both the running load and those who wait for the next one lose their runtime's help.
#[test]
fn callers_of_every_join_are_answered_by_loads_that_are_late_enough() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs, Goes::After(10)]));
    let (first, waits) = (runtime(), runtime());
    let _leader = call(&flights, &loads, &first, 1);
    let shares = call(&flights, &loads, &waits, 2);
    let (again, load) = (flights.clone(), loads.load());
    let fresh = waits.spawn(async move {
        let call = Call::new().join(Join::Fresh);
        again.run_with(KEY.into(), call, move |_| load()).await.map(|landed| landed.value)
    });
    while flights.stats().in_flight_waiters < 3 {
        std::thread::yield_now();
    }
    drop(first);
    assert_eq!(waits.block_on(shares).unwrap().unwrap(), 2);
    assert_eq!(waits.block_on(fresh).unwrap().unwrap(), 2);
    assert_eq!(loads.begun(), 2, "one load is late enough for both");
    assert_quiet(&flights);
}

#[test]
fn where_no_runtime_is_left_a_caller_is_told() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    let first = runtime();
    let _leader = call(&flights, &loads, &first, 1);
    let (again, load) = (flights.clone(), loads.load());
    let waits = std::thread::spawn(move || block_on(again.run(KEY.into(), load)));
    while flights.stats().in_flight_waiters < 2 {
        std::thread::yield_now();
    }
    drop(first);
    assert!(matches!(waits.join().unwrap(), Err(FlightError::Aborted)));
    assert_eq!(loads.begun(), 1);
    assert_quiet(&flights);
}

/// Each time another runtime takes the load over, and is dropped.
#[test]
fn a_load_that_is_lost_again_and_again_is_given_up() {
    let (flights, loads) = (Flights::new(), Loads::script([Goes::Hangs]));
    let mut others: Vec<_> = (0..6).map(|_| runtime()).collect();
    let _leader = call(&flights, &loads, &others[0], 1);
    let waits = runtime();
    let load = loads.load();
    waits.block_on(async {
        let mut parked = Box::pin(flights.run(KEY.into(), load));
        assert!(poll!(parked.as_mut()).is_pending());
        for lost in 1_u64.. {
            others.remove(0).shutdown_background();
            while flights.stats().aborted < lost {
                tokio::task::yield_now().await;
            }
            let Some(next) = others.first() else { panic!("it is never given up") };
            let taken_over = {
                let _inside = next.enter();
                poll!(parked.as_mut())
            };
            if let std::task::Poll::Ready(answer) = taken_over {
                assert!(matches!(answer, Err(FlightError::Aborted)), "{answer:?}");
                break;
            }
            while flights.stats().nexts < lost || loads.alive() == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    assert_eq!(loads.begun(), 4, "one, and three more");
    assert_quiet(&flights);
}
