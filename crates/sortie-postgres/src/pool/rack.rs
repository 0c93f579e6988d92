//! What belongs to one key, its rack: its idle connections, its queue, its rest after failures.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::slot::List;

/// Connections that can stand in for each other, and who waits for one of them.
#[derive(Debug)]
pub(super) struct Rack<K, W, H, E> {
    pub(super) key: K,
    /// Idle, with nothing left on them that anybody might want again.
    pub(super) clean: List,
    /// Idle, with one session's residue.
    pub(super) marked: List,
    pub(super) queue: VecDeque<Queued<W, H>>,
    pub(super) connecting: u32,
    /// All that are not connecting: idle, in use, quarantined.
    pub(super) open: u32,
    /// How many to keep open while nobody asks.
    pub(super) warm: u32,
    pub(super) rest: Rest<E>,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Queued<W, H> {
    /// Its place among all that wait at this server.
    pub(super) ticket: u64,
    pub(super) waiter: W,
    pub(super) home: H,
    /// How many who came later were served before it.
    pub(super) overtaken: u32,
}

/// The pause after failed attempts to connect.
#[derive(Debug)]
pub(super) struct Rest<E> {
    failures: u32,
    /// Until when, and what the last failure was.
    pause: Option<(Instant, E)>,
}

impl<K, W, H, E> Rack<K, W, H, E> {
    pub(super) fn new(key: K) -> Self {
        Self {
            key,
            clean: List::default(),
            marked: List::default(),
            queue: VecDeque::new(),
            connecting: 0,
            open: 0,
            warm: 0,
            rest: Rest::default(),
        }
    }

    /// Nothing is lost when it is forgotten, but what it knows about failures.
    pub(super) fn is_bare(&self) -> bool {
        self.queue.is_empty() && self.connecting + self.open + self.warm == 0
    }

    /// The first one that no connection on its way is meant for.
    pub(super) fn uncovered(&self) -> Option<&Queued<W, H>> {
        self.queue.get(self.connecting as usize)
    }
}

impl<E> Default for Rest<E> {
    fn default() -> Self {
        Self { failures: 0, pause: None }
    }
}

impl<E> Rest<E> {
    /// Why it rests, if it does.
    pub(super) fn reason(&self, now: Instant) -> Option<&E> {
        self.pause.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error)
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.pause.as_ref().map(|&(until, _)| until)
    }

    /// Doubles the pause, from the shorter to the longer of `range`, and takes off up to half of
    /// it: `jitter` thousandths of that half.
    pub(super) fn failed(
        &mut self,
        range: (Duration, Duration),
        jitter: u32,
        now: Instant,
        error: E,
    ) {
        let whole = range.0.saturating_mul(1 << self.failures.min(16)).min(range.1);
        let pause = whole.saturating_sub(whole / 2 * jitter.min(1_000) / 1_000);
        self.failures = self.failures.saturating_add(1);
        self.pause = Some((now + pause, error));
    }

    pub(super) fn recovered(&mut self) {
        self.failures = 0;
        self.pause = None;
    }
}
