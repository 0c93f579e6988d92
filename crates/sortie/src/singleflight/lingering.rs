//! The flights that run on without a caller, the oldest first.

use std::collections::BTreeSet;

use crate::rt::sync::Mutex;
use crate::rt::time::Instant;

/// Locked inside a shard's lock, and nothing is locked inside it.
#[derive(Debug, Default)]
pub(super) struct Lingering(Mutex<BTreeSet<(Instant, u64, u64)>>);

impl Lingering {
    /// Takes in a flight that lingers from now on. The oldest has to go when there are too many.
    pub(super) fn enter(
        &self,
        since: Instant,
        (hash, id): (u64, u64),
        lingering_max: usize,
    ) -> Option<(u64, u64)> {
        let mut all = self.0.lock();
        all.insert((since, id, hash));
        if all.len() <= lingering_max {
            return None;
        }
        all.pop_first().map(|(_, id, hash)| (hash, id))
    }

    /// A flight is wanted again, or has ended.
    pub(super) fn leave(&self, since: Instant, (hash, id): (u64, u64)) {
        self.0.lock().remove(&(since, id, hash));
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}
