//! The ledger: every request and every attempt, counted where it begins and where it ends.
//!
//! # Invariants
//!
//! 1. A beginning is counted before its end, and a snapshot reads ends first, so that no
//!    snapshot shows more ends than beginnings.
//! 2. What follows from other counters is derived, never counted twice: the gauges can't drift.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::reaper::AttemptKind;

/// What a [`Hedge`](crate::Hedge) and its clones have done so far.
///
/// Three equations hold in every snapshot, with the gauges on the right back at zero once nothing
/// runs:
///
/// * `requests = requests_ok + requests_err + requests_abandoned + requests_in_flight`
/// * `attempts = firsts + hedges + failovers`
/// * `attempts = won + answered + failed_over + abstained + panicked + lost + abandoned +
///   in_flight`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HedgeLedger {
    /// Calls that were polled at least once.
    pub requests: u64,
    /// Calls that returned a value.
    pub requests_ok: u64,
    /// Calls that returned an error.
    pub requests_err: u64,
    /// Calls that were dropped before they returned.
    pub requests_abandoned: u64,
    /// First attempts: one for each call that found a replica.
    pub firsts: u64,
    /// Attempts started because the others were slow.
    pub hedges: u64,
    /// Attempts started because another failed.
    pub failovers: u64,
    /// Attempts whose value was returned.
    pub won: u64,
    /// Those of `won` that were hedges: the requests that hedging made faster.
    pub hedge_wins: u64,
    /// Those of `won` that were failovers: the requests that failing over saved.
    pub failover_wins: u64,
    /// Attempts whose error was returned as the answer.
    pub answered: u64,
    /// Attempts that failed.
    pub failed_over: u64,
    /// Attempts that abstained.
    pub abstained: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Attempts called back because another one ended the call.
    pub lost: u64,
    /// Attempts called back because the caller dropped the call.
    pub abandoned: u64,
}

impl HedgeLedger {
    /// Attempts started.
    pub const fn attempts(&self) -> u64 {
        self.firsts + self.hedges + self.failovers
    }

    /// Attempts that have ended.
    pub const fn attempts_ended(&self) -> u64 {
        self.won
            + self.answered
            + self.failed_over
            + self.abstained
            + self.panicked
            + self.lost
            + self.abandoned
    }

    /// Attempts that run now.
    pub const fn in_flight(&self) -> u64 {
        self.attempts().saturating_sub(self.attempts_ended())
    }

    /// Calls that run now.
    pub const fn requests_in_flight(&self) -> u64 {
        let ended = self.requests_ok + self.requests_err + self.requests_abandoned;
        self.requests.saturating_sub(ended)
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Won,
    Answered,
    FailedOver,
    Abstained,
    Panicked,
    Lost,
    Abandoned,
}

/// The live counters behind a [`HedgeLedger`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    firsts: AtomicU64,
    hedges: AtomicU64,
    failovers: AtomicU64,
    won_first: AtomicU64,
    /// First attempts that began and won in one step: the common case, in one counter.
    won_at_once: AtomicU64,
    won_hedge: AtomicU64,
    won_failover: AtomicU64,
    answered: AtomicU64,
    failed_over: AtomicU64,
    abstained: AtomicU64,
    panicked: AtomicU64,
    lost: AtomicU64,
    abandoned: AtomicU64,
    /// Requests that found no replica at all: they have no attempt to be counted by.
    requests_empty: AtomicU64,
    requests_exhausted: AtomicU64,
    requests_abandoned: AtomicU64,
}

impl Counters {
    pub(super) fn begin(&self, kind: AttemptKind) {
        let counter = match kind {
            AttemptKind::First => &self.firsts,
            AttemptKind::Hedge => &self.hedges,
            AttemptKind::Failover => &self.failovers,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts an attempt that ended before it had to wait.
    pub(super) fn begin_and_end(&self, kind: AttemptKind, end: End) {
        if let (AttemptKind::First, End::Won) = (kind, end) {
            self.won_at_once.fetch_add(1, Relaxed);
        } else {
            self.begin(kind);
            self.end(kind, end);
        }
    }

    pub(super) fn end(&self, kind: AttemptKind, end: End) {
        let counter = match (end, kind) {
            (End::Won, AttemptKind::First) => &self.won_first,
            (End::Won, AttemptKind::Hedge) => &self.won_hedge,
            (End::Won, AttemptKind::Failover) => &self.won_failover,
            (End::Answered, _) => &self.answered,
            (End::FailedOver, _) => &self.failed_over,
            (End::Abstained, _) => &self.abstained,
            (End::Panicked, _) => &self.panicked,
            (End::Lost, _) => &self.lost,
            (End::Abandoned, _) => &self.abandoned,
        };
        counter.fetch_add(1, Release);
    }

    pub(super) fn request_empty(&self) {
        self.requests_empty.fetch_add(1, Release);
    }

    pub(super) fn request_exhausted(&self) {
        self.requests_exhausted.fetch_add(1, Release);
    }

    pub(super) fn request_abandoned(&self) {
        self.requests_abandoned.fetch_add(1, Release);
    }

    pub(super) fn snapshot(&self) -> HedgeLedger {
        // Ends first (invariant 1): an end that is seen here makes its beginning visible below.
        let ended = |counter: &AtomicU64| counter.load(Acquire);
        let hedge_wins = ended(&self.won_hedge);
        let failover_wins = ended(&self.won_failover);
        let won_at_once = ended(&self.won_at_once);
        let won = won_at_once + ended(&self.won_first) + hedge_wins + failover_wins;
        let answered = ended(&self.answered);
        let requests_empty = ended(&self.requests_empty);
        let mut ledger = HedgeLedger {
            requests_ok: won,
            requests_err: answered + ended(&self.requests_exhausted) + requests_empty,
            requests_abandoned: ended(&self.requests_abandoned),
            won,
            hedge_wins,
            failover_wins,
            answered,
            failed_over: ended(&self.failed_over),
            abstained: ended(&self.abstained),
            panicked: ended(&self.panicked),
            lost: ended(&self.lost),
            abandoned: ended(&self.abandoned),
            ..HedgeLedger::default()
        };
        ledger.firsts = won_at_once + self.firsts.load(Relaxed);
        ledger.hedges = self.hedges.load(Relaxed);
        ledger.failovers = self.failovers.load(Relaxed);
        ledger.requests = ledger.firsts + requests_empty;
        ledger
    }
}
