//! What a session keeps to know how long its statements take.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{Doing, Entry, micros};

/// A session's own hand on its entry.
#[derive(Debug)]
pub(in crate::relay) struct Meter {
    entry: Arc<Entry>,
    /// When the statement was sent that is under way, and the first one of its transaction.
    sent: Option<Instant>,
    begun: Option<Instant>,
    /// When it got its server, if nothing was sent there since.
    got: Option<Instant>,
}

/// The session has a server, or waits for a shared read, until this is dropped.
#[derive(Debug)]
pub(in crate::relay) struct Work(Arc<Entry>);

impl Meter {
    pub(in crate::relay) fn new(entry: &Arc<Entry>) -> Self {
        Self { entry: Arc::clone(entry), sent: None, begun: None, got: None }
    }

    pub(in crate::relay) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The session waits from now on, for a server or (`held`) for the end of a pause.
    pub(in crate::relay) fn waits(&self, held: bool) -> Instant {
        let now = Instant::now();
        let at = micros(now.duration_since(self.entry.born));
        self.entry.waits.store(at, Relaxed);
        self.entry.set(if held { Doing::IsHeld } else { Doing::Waits });
        now
    }

    /// It has waited since then, and goes on.
    pub(in crate::relay) fn waited(&mut self, since: Instant) {
        let now = Instant::now();
        self.entry.tally.waited(micros(now.duration_since(since)));
        self.entry.set(Doing::Works);
        self.got = Some(now);
    }

    /// The session works, until what comes back is dropped. Whether it may is looked at after
    /// this.
    pub(in crate::relay) fn works(&self) -> Work {
        self.entry.set(Doing::Works);
        Work(Arc::clone(&self.entry))
    }

    /// It has this server.
    pub(in crate::relay) fn has(&self, process: i32) {
        self.entry.server.store(process, Relaxed);
    }

    /// A statement goes to a server.
    pub(in crate::relay) fn sends(&mut self) {
        self.entry.tally.statement();
        if self.sent.is_none() {
            let now = self.got.take().unwrap_or_else(Instant::now);
            self.sent = Some(now);
            self.begun.get_or_insert(now);
            self.entry.asked.store(micros(now.duration_since(self.entry.born)), Relaxed);
        }
    }

    /// The server has answered all that it was sent, and stands outside of a transaction, or not.
    /// Returns how long that took, in microseconds.
    pub(in crate::relay) fn answered(&mut self, is_idle: bool) -> Option<u64> {
        let sent = self.sent.take()?;
        let now = Instant::now();
        let took = micros(now.duration_since(sent));
        self.entry.tally.took(took);
        self.got = None;
        if is_idle && let Some(begun) = self.begun.take() {
            self.entry.tally.transaction(micros(now.duration_since(begun)));
        }
        Some(took)
    }

    /// A statement is shared from now on.
    pub(in crate::relay) fn shares(&self) -> Instant {
        let now = Instant::now();
        self.entry.tally.statement();
        self.entry.asked.store(micros(now.duration_since(self.entry.born)), Relaxed);
        now
    }

    /// It was answered; `alone` says that it was a transaction of its own.
    pub(in crate::relay) fn shared(&self, since: Instant, alone: bool) {
        let took = micros(since.elapsed());
        self.entry.tally.took(took);
        if alone {
            self.entry.tally.transaction(took);
        }
    }

    /// A transaction has ended that no server knew of.
    pub(in crate::relay) fn transacted(&self) {
        self.entry.tally.transaction(0);
    }

    /// So many bytes have come from the client so far, and have gone to it.
    pub(in crate::relay) fn traffic(&self, (received, sent): (u64, u64)) {
        self.entry.tally.traffic(received, sent);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.server.store(0, Relaxed);
        self.0.set(Doing::Rests);
    }
}
