//! What a session has had, in numbers that only it writes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// One session's numbers, while it has more.
#[derive(Debug, Default)]
pub(in crate::relay) struct Tally {
    transactions: AtomicU64,
    statements: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    transaction_micros: AtomicU64,
    statement_micros: AtomicU64,
    wait_micros: AtomicU64,
}

/// Sums of such numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Totals {
    pub(crate) transactions: u64,
    pub(crate) statements: u64,
    /// Bytes from clients, and to them.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// How long servers were in transactions, or shared reads under way.
    pub(crate) transaction_micros: u64,
    /// How long statements took.
    pub(crate) statement_micros: u64,
    /// How long was waited for a server.
    pub(crate) wait_micros: u64,
}

/// Adds to what only this thread writes: no other one's line is taken for it.
fn grow(number: &AtomicU64, more: u64) {
    number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Tally {
    pub(super) fn statement(&self) {
        grow(&self.statements, 1);
    }

    pub(super) fn took(&self, micros: u64) {
        grow(&self.statement_micros, micros);
    }

    pub(super) fn transaction(&self, micros: u64) {
        grow(&self.transactions, 1);
        grow(&self.transaction_micros, micros);
    }

    pub(super) fn waited(&self, micros: u64) {
        grow(&self.wait_micros, micros);
    }

    pub(super) fn traffic(&self, received: u64, sent: u64) {
        self.received.store(received, Relaxed);
        self.sent.store(sent, Relaxed);
    }

    /// A statement, and a transaction, that took no server's time.
    pub(super) fn served(&self) {
        grow(&self.statements, 1);
        grow(&self.transactions, 1);
    }

    pub(super) fn read(&self) -> Totals {
        let read = |number: &AtomicU64| number.load(Relaxed);
        Totals {
            transactions: read(&self.transactions),
            statements: read(&self.statements),
            received: read(&self.received),
            sent: read(&self.sent),
            transaction_micros: read(&self.transaction_micros),
            statement_micros: read(&self.statement_micros),
            wait_micros: read(&self.wait_micros),
        }
    }
}

impl Totals {
    fn each(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        let Self { transactions, statements, received, sent, .. } = self;
        *transactions = change(*transactions, other.transactions);
        *statements = change(*statements, other.statements);
        *received = change(*received, other.received);
        *sent = change(*sent, other.sent);
        let Self { transaction_micros, statement_micros, wait_micros, .. } = self;
        *transaction_micros = change(*transaction_micros, other.transaction_micros);
        *statement_micros = change(*statement_micros, other.statement_micros);
        *wait_micros = change(*wait_micros, other.wait_micros);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.each(other, u64::wrapping_add);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.each(other, u64::saturating_sub);
    }
}
