//! Stops queries that nobody waits for any more: losers, legs of failed scatters, loads of
//! abandoned flights, statements of clients that went away.
//!
//! A `CancelRequest` names a process of the server, not a query. It travels on a connection of its
//! own, and strikes some time before the server closes that connection. So the connection whose
//! query was cancelled is kept apart until both have come: its own `ReadyForQuery` and the end of
//! the request's connection. A query that will probably have ended before a request could stop it
//! is left to end, and one of which nobody knows gets as long as a request would take.
//!
//! [`machine`] decides, this file does.

mod machine;

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::Status;
use crate::connection::{CancelKey, Connection};
use crate::exchange::{ExchangeError, Request};
use crate::frontend::Frontend;
use crate::pool::{PoolConfig, PoolStats};
use machine::{Event, Quarantine, Step};

/// What a cancel is taken to cost before one was measured.
const COST_AT_FIRST: Duration = Duration::from_millis(5);

/// How much of the last one goes into the measured cost: an eighth.
const COST_WEIGHT: u64 = 8;

/// A query that a request has not stopped is asked again after four times what a cancel costs at
/// first, within these bounds.
const AGAIN_MIN: Duration = Duration::from_millis(10);
const AGAIN_MAX: Duration = Duration::from_millis(100);

/// What one server's connections share in being stopped.
#[derive(Debug)]
pub(crate) struct Reaper {
    permits: Arc<Semaphore>,
    cancel_timeout: Duration,
    drain_max: Duration,
    reckless: bool,
    /// In nanoseconds.
    cost: AtomicU64,
    drained: AtomicU64,
    sent: AtomicU64,
    cancelled: AtomicU64,
    killed: AtomicU64,
}

/// What is left on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// How long its query will probably go on, if somebody knows.
    pub(crate) remaining: Option<Duration>,
    /// Whether it needs a `DISCARD ALL`.
    pub(crate) soiled: bool,
    /// Whether it is to be closed in any case.
    pub(crate) discarded: bool,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Anybody may use it.
    Clean,
    /// It must be closed.
    Lost,
}

/// A cancel request on its way.
pub(crate) type Flying = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Reaper {
    pub(crate) fn new(config: &PoolConfig) -> Self {
        let cancels_max = usize::try_from(config.cancels_max.max(1)).unwrap_or(usize::MAX);
        Self {
            permits: Arc::new(Semaphore::new(cancels_max.min(Semaphore::MAX_PERMITS))),
            cancel_timeout: config.cancel_timeout,
            drain_max: config.drain_max,
            reckless: config.reuse_before_cancel_ends,
            cost: AtomicU64::new(nanoseconds(COST_AT_FIRST)),
            drained: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            killed: AtomicU64::new(0),
        }
    }

    /// What a cancel costs, from the decision to the connection's return.
    pub(crate) fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost.load(Relaxed))
    }

    pub(crate) fn count(&self, stats: &mut PoolStats) {
        stats.drained = self.drained.load(Relaxed);
        stats.cancels_sent = self.sent.load(Relaxed);
        stats.cancelled = self.cancelled.load(Relaxed);
        stats.killed = self.killed.load(Relaxed);
    }

    /// Stops the query of a connection that is gone already, unless too many are being stopped.
    pub(crate) async fn stop(&self, key: &CancelKey) {
        self.killed.fetch_add(1, Relaxed);
        let Ok(_permit) = self.permits.try_acquire() else { return };
        self.sent.fetch_add(1, Relaxed);
        drop(timeout(self.cancel_timeout, key.cancel()).await);
    }

    /// Brings a connection back to where anybody may use it, or says that this can't be done.
    ///
    /// `late` gets a request that is still under way, which only a reckless reaper leaves.
    pub(crate) async fn call_back(
        &self,
        connection: &mut Connection,
        left: Left,
        late: &mut Option<Flying>,
    ) -> Verdict {
        // Half a frame is out, the server awaits our data, or messages without a Sync: only the
        // end of the connection tells the server that no more will come. What it may run is
        // stopped first. (A Sync would commit what the session did not mean to.)
        let lost = !connection.is_between_sent() || !connection.is_sure() || left.discarded;
        if lost || connection.is_copying_in() || connection.is_unsynced() {
            let key = connection.cancel_key().clone();
            self.stop(&key).await;
            return Verdict::Lost;
        }
        if connection.owed() > 0 && !self.end_query(connection, left, late).await {
            self.killed.fetch_add(1, Relaxed);
            return Verdict::Lost;
        }
        let cleaned = timeout(self.cancel_timeout, clean(connection, left.soiled)).await;
        if matches!(cleaned, Ok(Ok(()))) && connection.is_idle() {
            Verdict::Clean
        } else {
            Verdict::Lost
        }
    }

    /// Waits for the query's end, after asking for it if that is quicker; `false`: in vain.
    async fn end_query(
        &self,
        connection: &mut Connection,
        left: Left,
        request: &mut Option<Flying>,
    ) -> bool {
        let mut since = Instant::now();
        let patience = self.patience(left.remaining);
        let (mut state, mut step) = Quarantine::begin(!patience.is_zero(), self.reckless);
        let mut asking = None;
        let mut until = since + patience;
        loop {
            match step {
                Step::Wait if state.is_spent() => {
                    let again = (self.cost() * 4).clamp(AGAIN_MIN, AGAIN_MAX);
                    until = since + again * state.patience();
                }
                Step::Wait => {}
                Step::Ask => {
                    asking = Some(Box::pin(Arc::clone(&self.permits).acquire_owned()));
                    until = Instant::now() + self.cancel_timeout;
                }
                Step::Cancel => {
                    since = Instant::now();
                    until = since + self.cancel_timeout;
                }
                Step::Release => break,
                Step::Close => return false,
            }
            let event = tokio::select! {
                // What has ended needs no request.
                biased;
                drained = connection.drain(), if state.is_owing() => {
                    if drained.is_ok() { Event::Ready } else { Event::Broken }
                }
                ended = maybe(request) => {
                    *request = None;
                    if ended.is_ok() { Event::Ended } else { Event::Unsure }
                }
                permit = maybe(&mut asking) => {
                    asking = None;
                    let Ok(permit) = permit else { return false };
                    *request = Some(send(connection.cancel_key().clone(), permit));
                    self.sent.fetch_add(1, Relaxed);
                    Event::Granted
                }
                // A server that awaits our data listens to nothing else.
                () = sleep_until(until) => {
                    if connection.is_copying_in() { Event::Broken } else { Event::Overdue }
                }
            };
            step = state.on(event);
        }
        self.learn(state.cancels(), since.elapsed());
        true
    }

    /// How long a query is left to end by itself before it is asked to.
    fn patience(&self, remaining: Option<Duration>) -> Duration {
        let cost = self.cost();
        match remaining {
            // Whatever is left of it, this takes at most twice as long as to choose right.
            None => cost.min(self.drain_max),
            Some(remaining) if remaining <= cost => self.drain_max,
            Some(_longer) => Duration::ZERO,
        }
    }

    fn learn(&self, cancels: u32, took: Duration) {
        match cancels {
            0 => {
                self.drained.fetch_add(1, Relaxed);
            }
            1 => {
                self.cancelled.fetch_add(1, Relaxed);
                let cost = self.cost.load(Relaxed);
                let next = cost - cost / COST_WEIGHT + nanoseconds(took) / COST_WEIGHT;
                // Another one's measurement may be lost, which does no harm.
                self.cost.store(next, Relaxed);
            }
            _ => {
                self.cancelled.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Sends a request and waits for its end; the permission is held as long.
fn send(key: CancelKey, permit: OwnedSemaphorePermit) -> Flying {
    Box::pin(async move {
        let ended = key.cancel().await;
        drop(permit);
        ended
    })
}

/// Leaves no transaction open, and if asked nothing else either.
async fn clean(connection: &mut Connection, soiled: bool) -> Result<(), ExchangeError> {
    connection.drain().await?;
    if connection.status() != Status::Idle {
        run(connection, "ROLLBACK").await?;
    }
    if soiled {
        run(connection, "DISCARD ALL").await?;
    }
    Ok(())
}

async fn run(connection: &mut Connection, text: &'static str) -> Result<(), ExchangeError> {
    let mut frames = BytesMut::new();
    Frontend::Query { text: text.into() }.encode(&mut frames);
    connection.exchange(Request::new(frames)).await.map(drop)
}

/// Waits for what may not be there.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
