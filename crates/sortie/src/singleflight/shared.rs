//! The bytes of outcomes that their callers have not taken yet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::singleflight::party::Outcome;

/// How outcomes are weighed, and how much of them is held.
pub(super) struct Shared<V> {
    max: usize,
    weigh: Box<dyn Fn(&V) -> usize + Send + Sync>,
    held: Arc<AtomicUsize>,
}

/// An outcome's bytes, until the last of its callers has taken it.
pub(super) struct Held {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl<V> Shared<V> {
    pub(super) fn new(max: usize, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        Self { max, weigh: Box::new(weigh), held: Arc::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.load(Relaxed) >= self.max
    }

    pub(super) fn bytes(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Weighs an outcome. The user's code: not to be called under a lock.
    pub(super) fn hold<E>(&self, outcome: &Outcome<V, E>) -> Option<Held> {
        let value = outcome.as_ref().ok()?;
        // A panic of the user's is no reason for a flight not to land.
        let weigh = AssertUnwindSafe(|| (self.weigh)(value));
        let bytes = catch_unwind(weigh).unwrap_or(0);
        self.held.fetch_add(bytes, Relaxed);
        Some(Held { bytes, of: Arc::clone(&self.held) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}
