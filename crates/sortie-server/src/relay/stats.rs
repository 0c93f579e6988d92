//! What the relayed sessions did, for whoever exposes it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::effect::Reason;
use super::shared::PipeReason;

/// Counters of all sessions, while they run.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    shared: AtomicU64,
    lone: AtomicU64,
    large: AtomicU64,
    refused: AtomicU64,
    piped: [AtomicU64; PipeReason::ALL.len()],
    dirty: [AtomicU64; Reason::ALL.len()],
    pins: AtomicU64,
    pinned: AtomicU64,
    dirty_now: AtomicU64,
    replays: AtomicU64,
    mended: AtomicU64,
    cancels: AtomicU64,
    lost: AtomicU64,
    observed: AtomicU64,
    observed_micros: AtomicU64,
    spared: AtomicU64,
    begun: AtomicU64,
}

/// What the lanes did since the start, and gauges that go back to zero.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LaneStats {
    /// Statements that were shared.
    pub(crate) shared: u64,
    /// Those of them that a session has read alone, as nobody else asked for the same.
    pub(crate) lone: u64,
    /// Those of them whose answer was too big to be shared.
    pub(crate) large: u64,
    /// Statements that were refused.
    pub(crate) refused: u64,
    /// Statements that took the pipe, by reason.
    pub(crate) piped: Vec<(&'static str, u64)>,
    /// Sessions that became dirty, by reason.
    pub(crate) dirty: Vec<(&'static str, u64)>,
    /// How often a session took a server connection.
    pub(crate) pins: u64,
    /// Sessions that now hold one.
    pub(crate) pinned: u64,
    /// Sessions that are now dirty.
    pub(crate) dirty_now: u64,
    /// Statements that were run again on another connection.
    pub(crate) replays: u64,
    /// Batches that were sent again, with a statement that is prepared anew.
    pub(crate) mended: u64,
    /// Cancel requests that were forwarded.
    pub(crate) cancels: u64,
    /// Server connections that ended under a session.
    pub(crate) lost: u64,
    /// Statements that would have been shared but for `mode = observe`.
    pub(crate) observed: u64,
    /// The time that servers took for them, in microseconds.
    pub(crate) observed_micros: u64,
    /// Those of them that another's answer would have done for, and their time.
    pub(crate) saved: u64,
    pub(crate) saved_micros: u64,
    /// Those of them of which it is not known.
    pub(crate) blind: u64,
    /// Transactions that ended without any server.
    pub(crate) spared: u64,
    /// Transactions that a client began, and a server when it was needed.
    pub(crate) begun: u64,
}

/// Counts up until it is dropped.
#[derive(Debug)]
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Lanes {
    pub(crate) fn shared(&self) {
        add(&self.shared, 1);
    }

    pub(crate) fn lone(&self) {
        add(&self.lone, 1);
    }

    pub(crate) fn large(&self) {
        add(&self.large, 1);
    }

    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn piped(&self, reason: PipeReason) {
        add(&self.piped[reason as usize], 1);
    }

    pub(crate) fn soiled(&self, reason: Reason) {
        add(&self.dirty[reason as usize], 1);
    }

    pub(crate) fn pinned(&self) -> Gauge<'_> {
        add(&self.pins, 1);
        add(&self.pinned, 1);
        Gauge(&self.pinned)
    }

    pub(crate) fn dirty(&self) -> Gauge<'_> {
        add(&self.dirty_now, 1);
        Gauge(&self.dirty_now)
    }

    pub(crate) fn replayed(&self, statements: u32) {
        add(&self.replays, statements.into());
    }

    pub(crate) fn mended(&self) {
        add(&self.mended, 1);
    }

    pub(crate) fn cancelled(&self) {
        add(&self.cancels, 1);
    }

    pub(crate) fn lost(&self) {
        add(&self.lost, 1);
    }

    pub(crate) fn observed(&self, micros: u64) {
        add(&self.observed, 1);
        add(&self.observed_micros, micros);
    }

    /// A transaction that was begun without a server has ended so, or has one now.
    pub(crate) fn transacted(&self, on_server: bool) {
        add(if on_server { &self.begun } else { &self.spared }, 1);
    }

    pub(crate) fn read(&self) -> LaneStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let piped = PipeReason::ALL.iter().map(|it| (it.label(), read(&self.piped[*it as usize])));
        let dirty = Reason::ALL.iter().map(|it| (it.label(), read(&self.dirty[*it as usize])));
        LaneStats {
            shared: read(&self.shared),
            lone: read(&self.lone),
            large: read(&self.large),
            refused: read(&self.refused),
            piped: piped.collect(),
            dirty: dirty.collect(),
            pins: read(&self.pins),
            pinned: read(&self.pinned),
            dirty_now: read(&self.dirty_now),
            replays: read(&self.replays),
            mended: read(&self.mended),
            cancels: read(&self.cancels),
            lost: read(&self.lost),
            observed: read(&self.observed),
            observed_micros: read(&self.observed_micros),
            spared: read(&self.spared),
            begun: read(&self.begun),
            ..LaneStats::default()
        }
    }
}
