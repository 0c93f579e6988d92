//! Schedules of the flight table under shuttle's scheduler, which decides at every lock and every
//! task switch who goes on. Compiled and run only by
//!
//! ```text
//! RUSTFLAGS="--cfg sortie_shuttle" CARGO_TARGET_DIR=target/shuttle \
//!     cargo test -p sortie --test it singleflight::shuttled
//! ```

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use shuttle::future::{block_on, spawn, yield_now};
use sortie::{Call, FlightCx, FlightError, Idle, Join, SingleFlight};

type Flights = SingleFlight<u8, usize, usize>;

const SCHEDULES: usize = 2_000;

/// Loads of one key, numbered from 1 in the order of beginning.
#[derive(Default)]
struct Loads {
    begun: AtomicUsize,
    alive: AtomicUsize,
    forgotten: AtomicUsize,
}

struct Alive(Arc<Loads>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl Loads {
    /// With `boards`, the load waits for something before it begins, and says so.
    async fn load(
        self: Arc<Self>,
        cx: FlightCx,
        Pace { switches, boards }: Pace,
    ) -> Result<usize, usize> {
        if boards {
            let _boarding = cx.boarding();
            yield_now().await;
        }
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        self.alive.fetch_add(1, SeqCst);
        let _alive = Alive(self);
        for _ in 0..switches {
            yield_now().await;
        }
        if number % 4 == 0 { Err(number) } else { Ok(number) }
    }
}

/// How long loads take, and whether they say when they begin.
#[derive(Clone, Copy)]
struct Pace {
    switches: usize,
    boards: bool,
}

async fn call(flights: Flights, loads: Arc<Loads>, join: Join, pace: Pace) {
    let asked = (loads.begun.load(SeqCst), loads.forgotten.load(SeqCst));
    let floor = asked.1.max(if join == Join::Fresh { asked.0 } else { 0 });
    let load = move |cx| Arc::clone(&loads).load(cx, pace);
    let number = match flights.run_with(1, Call::new().join(join), load).await {
        Ok(landed) => landed.value,
        Err(FlightError::Failed(number)) => *number,
        Err(other) => panic!("{other:?}"),
    };
    assert!(number > floor, "load {number} is not newer than {floor} ({join:?})");
}

/// Polls a call once and drops it.
async fn call_and_leave(flights: Flights, loads: Arc<Loads>, join: Join, pace: Pace) {
    let mut left = pin!(call(flights, loads, join, pace));
    poll_fn(|task| Poll::Ready(left.as_mut().poll(task).is_ready())).await;
}

async fn forget(flights: Flights, loads: Arc<Loads>) {
    let begun = loads.begun.load(SeqCst);
    flights.forget(&1);
    loads.forgotten.fetch_max(begun, SeqCst);
}

fn scenario(idle: Idle, pace: Pace) {
    let never = Duration::MAX;
    let flights = Flights::builder().idle(idle).soft_age(never).flight_max(never);
    let flights = flights.boarding(pace.boards).build();
    let loads = Arc::new(Loads::default());
    block_on(async {
        let with = || (flights.clone(), Arc::clone(&loads));
        let ((a, b), (c, d), (e, f), (g, h), (i, j)) = (with(), with(), with(), with(), with());
        let tasks = [
            spawn(call(a, b, Join::Running, pace)),
            spawn(call(c, d, Join::Fresh, pace)),
            spawn(call_and_leave(e, f, Join::Fresh, pace)),
            spawn(call_and_leave(g, h, Join::Running, pace)),
            spawn(async move {
                forget(i.clone(), Arc::clone(&j)).await;
                call(i, j, Join::Running, pace).await;
            }),
        ];
        for task in tasks {
            task.await.unwrap();
        }
        // Detached and aborted loads need a while yet.
        while flights.stats().in_flight_flights > 0 || loads.alive.load(SeqCst) > 0 {
            yield_now().await;
        }
    });
    let stats = flights.stats();
    assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
    // A next that everybody leaves before its task has run is a flight whose load never began.
    assert!(stats.leaders + stats.nexts >= loads.begun.load(SeqCst) as u64);
    assert_eq!(stats.leaders + stats.followers, 5);
}

#[test]
fn callers_leave_and_forget_at_any_moment() {
    for (switches, boards) in [(0, false), (1, false), (2, false), (0, true), (1, true)] {
        let pace = Pace { switches, boards };
        for idle in [Idle::Abort, Idle::Detach] {
            shuttle::check_random(move || scenario(idle, pace), SCHEDULES);
            shuttle::check_pct(move || scenario(idle, pace), SCHEDULES, 3);
        }
    }
}

/// Shuttle finds a schedule that never ends: whoever waited for the parked caller would.
fn parked(idle: Idle, switches: usize) {
    let never = Duration::MAX;
    let flights = Flights::builder().idle(idle).soft_age(never).flight_max(never).build();
    let (loads, pace) = (Arc::new(Loads::default()), Pace { switches, boards: false });
    block_on(async {
        let with = || (flights.clone(), Arc::clone(&loads));
        let ((a, b), (c, d), (e, f), (g, h)) = (with(), with(), with(), with());
        let mut parked = pin!(call(a, b, Join::Running, pace));
        poll_fn(|task| Poll::Ready(parked.as_mut().poll(task).is_ready())).await;
        let tasks = [
            spawn(call(c, d, Join::Running, pace)),
            spawn(call(e, f, Join::Fresh, pace)),
            spawn(call_and_leave(g, h, Join::Running, pace)),
        ];
        for task in tasks {
            task.await.unwrap();
        }
        parked.await;
    });
}

#[test]
fn a_leader_that_is_parked_keeps_nobody_waiting() {
    for switches in [1, 2] {
        for idle in [Idle::Abort, Idle::Detach] {
            shuttle::check_random(move || parked(idle, switches), SCHEDULES);
            shuttle::check_pct(move || parked(idle, switches), SCHEDULES, 3);
        }
    }
}
