//! Keys whose loads fail, and when they are tried again.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::rt::time::Instant;

/// Keys that are remembered. Beyond it a failing key is tried each time.
const FAILING_MAX: usize = 4_096;

pub(super) struct Backoff<K> {
    failing: Mutex<HashMap<K, Failing>>,
    /// So that nobody takes the lock while all is well.
    len: AtomicUsize,
}

struct Failing {
    again_at: Instant,
    pause: Duration,
}

/// How long the first pause is, and the longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl<K: Clone + Eq + Hash> Backoff<K> {
    pub(super) fn new() -> Self {
        Self { failing: Mutex::default(), len: AtomicUsize::new(0) }
    }

    /// Says whether it is too early to try again.
    pub(super) fn holds(&self, key: &K) -> bool {
        self.len.load(Relaxed) > 0
            && self.failing.lock().get(key).is_some_and(|it| Instant::now() < it.again_at)
    }

    /// Twice as long after each failure.
    pub(super) fn failed(&self, key: &K, pauses: Pauses) {
        self.note(&mut self.failing.lock(), key, pauses);
    }

    /// As `failed`, for a load that each of its callers reports: the first one counts.
    pub(super) fn hung(&self, key: &K, pauses: Pauses) {
        let mut failing = self.failing.lock();
        if failing.get(key).is_none_or(|it| it.again_at <= Instant::now()) {
            self.note(&mut failing, key, pauses);
        }
    }

    fn note(&self, failing: &mut HashMap<K, Failing>, key: &K, pauses: Pauses) {
        let now = Instant::now();
        if failing.len() >= FAILING_MAX && !failing.contains_key(key) {
            failing.retain(|_key, it| now < it.again_at);
        }
        let full = failing.len() >= FAILING_MAX;
        if let Some(it) = failing.get_mut(key) {
            it.pause = (it.pause * 2).min(pauses.longest);
            it.again_at = now + it.pause;
        } else if !full {
            let pause = pauses.first;
            failing.insert(key.clone(), Failing { again_at: now + pause, pause });
        }
        self.len.store(failing.len(), Relaxed);
    }

    pub(super) fn worked(&self, key: &K) {
        if self.len.load(Relaxed) > 0 {
            let mut failing = self.failing.lock();
            failing.remove(key);
            self.len.store(failing.len(), Relaxed);
        }
    }
}
