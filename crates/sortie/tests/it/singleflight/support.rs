//! A scripted database, and the books that must balance after every test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::future::BoxFuture;
use sortie::{FlightError, FlightStats, SingleFlight};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub(super) type Flights = SingleFlight<String, usize, String>;
pub(super) type Answer = Result<usize, FlightError<String>>;

pub(super) const KEY: &str = "user:1";

/// How one load goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goes {
    Ready,
    Fails,
    After(u64),
    FailsAfter(u64),
    PanicsAfter(u64),
    Hangs,
}

/// Loads that go as scripted, the last entry again and again. Each returns its ordinal, from 1.
#[derive(Clone)]
pub(super) struct Loads(Arc<Script>);

struct Script {
    goes: Vec<Goes>,
    begun: AtomicUsize,
    alive: Arc<()>,
}

impl Loads {
    pub(super) fn script(goes: impl Into<Vec<Goes>>) -> Self {
        let alive = Arc::new(());
        Self(Arc::new(Script { goes: goes.into(), begun: AtomicUsize::new(0), alive }))
    }

    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(SeqCst)
    }

    pub(super) fn alive(&self) -> usize {
        Arc::strong_count(&self.0.alive) - 1
    }

    pub(super) fn load(
        &self,
    ) -> impl Fn() -> BoxFuture<'static, Result<usize, String>> + Send + Sync + 'static {
        let script = Arc::clone(&self.0);
        move || {
            let ordinal = script.begun.fetch_add(1, SeqCst) + 1;
            let goes = script.goes[(ordinal - 1).min(script.goes.len() - 1)];
            let alive = Arc::clone(&script.alive);
            Box::pin(async move {
                let outcome = match goes {
                    Goes::Ready => Ok(ordinal),
                    Goes::Fails => Err(format!("load {ordinal} failed")),
                    Goes::After(ms) => {
                        sleep(ms_of(ms)).await;
                        Ok(ordinal)
                    }
                    Goes::FailsAfter(ms) => {
                        sleep(ms_of(ms)).await;
                        Err(format!("load {ordinal} failed"))
                    }
                    Goes::PanicsAfter(ms) => {
                        sleep(ms_of(ms)).await;
                        panic!("load {ordinal} panicked")
                    }
                    Goes::Hangs => std::future::pending().await,
                };
                drop(alive);
                outcome
            })
        }
    }

    /// Calls in a task of its own, and returns once the call has been polled.
    pub(super) async fn call(&self, flights: &Flights) -> JoinHandle<Answer> {
        let (flights, load) = (flights.clone(), self.load());
        start(async move { flights.run(KEY.into(), load).await }).await
    }
}

pub(super) fn ms_of(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Spawns a future and lets it be polled, without the clock moving.
pub(super) async fn start<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let task = tokio::runtime::Handle::current().spawn(future);
    settle().await;
    task
}

/// Lets every task that is ready run, without the clock moving.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The milliseconds that passed since `start`.
pub(super) fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap()
}

/// Nothing is in flight, nothing lives, and the counters sum.
pub(super) async fn check_quiet(flights: &Flights, loads: &Loads) -> FlightStats {
    settle().await;
    let stats = flights.stats();
    assert_eq!(stats.in_flight_flights, 0, "{stats:?}");
    assert_eq!(stats.in_flight_waiters, 0, "{stats:?}");
    assert_eq!(loads.alive(), 0, "a load leaked: {stats:?}");
    let begun = stats.leaders + stats.nexts + stats.successors;
    let ended = stats.landed
        + stats.failed
        + stats.panicked
        + stats.timed_out
        + stats.aborted
        + stats.superseded;
    assert_eq!(begun, ended, "{stats:?}");
    assert_eq!(begun + stats.solos, loads.begun() as u64, "{stats:?}");
    stats
}
