//! What the sessions have done, for whoever exposes it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::refusal::{Counts, Refusal, Refusals};

/// Counters of all sessions, while they run.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    connections: Flow,
    statements: Flow,
    errors: AtomicU64,
    cancels: AtomicU64,
    stalls: AtomicU64,
    logins: AtomicU64,
    refusals: Refusals,
}

/// What clients did since the start, and gauges that go back to zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ClientStats {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Connections now open.
    pub(crate) connections_in_flight: u64,
    /// Statements begun, whatever became of them: each of a simple query, and each Execute.
    pub(crate) statements: u64,
    /// Statements now running.
    pub(crate) statements_in_flight: u64,
    /// Errors reported to clients.
    pub(crate) errors: u64,
    /// Cancel requests with a right key.
    pub(crate) cancels: u64,
    /// Connections given up because their client took nothing.
    pub(crate) stalls: u64,
    /// Sessions that went over to another core.
    pub(crate) moves: u64,
    /// Sessions that began.
    pub(crate) logins: u64,
    /// Clients that were not let in, by reason.
    pub(crate) refusals: Counts,
}

impl ClientStats {
    /// With those that were closed before anybody talked with them, and those that went over to
    /// another core.
    pub(crate) fn with_listened(mut self, closed: u64, moves: u64) -> Self {
        self.refusals[Refusal::Room as usize].1 += closed;
        self.moves = moves;
        self
    }
}

/// Counts something as running until it is dropped.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub(crate) struct Running<'a>(&'a Flow);

#[derive(Debug, Default)]
struct Flow {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Stats {
    pub(crate) fn connection(&self) -> Running<'_> {
        self.connections.begin()
    }

    pub(crate) fn statement(&self) -> Running<'_> {
        self.statements.begin()
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cancel(&self) {
        self.cancels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn login(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, reason: Refusal) {
        self.refusals.count(reason);
    }

    pub(crate) fn read(&self) -> ClientStats {
        let (connections, connections_in_flight) = self.connections.read();
        let (statements, statements_in_flight) = self.statements.read();
        ClientStats {
            connections,
            connections_in_flight,
            statements,
            statements_in_flight,
            errors: self.errors.load(Ordering::Relaxed),
            cancels: self.cancels.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            // The listener counts them.
            moves: 0,
            logins: self.logins.load(Ordering::Relaxed),
            refusals: self.refusals.read(),
        }
    }
}

impl Flow {
    fn begin(&self) -> Running<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    /// How many began, and how many of them run.
    fn read(&self) -> (u64, u64) {
        // In this order, and paired with the release in `drop`: an end that is seen brings its
        // beginning with it, so that the difference is never below zero.
        let ended = self.ended.load(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Relaxed);
        (begun, begun - ended)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}
