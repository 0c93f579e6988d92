//! How a flight holds the task that runs its load.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use tracing::span::Id;

use crate::rt::task::AbortHandle;
use crate::singleflight::entry::Entry;
use crate::singleflight::launch::Bell;
use crate::singleflight::table::Table;

/// A flight's hold on its task.
pub(super) enum Tether {
    /// The task is this flight's alone.
    Task(AbortHandle),
    /// The task runs one load for many flights.
    Part(Arc<Group>),
}

impl Tether {
    pub(super) fn abort(&self) {
        match self {
            Self::Task(task) => task.abort(),
            Self::Part(group) => group.leave(),
        }
    }
}

impl<K, V, E> Table<K, V, E> {
    /// Hands the entry the task of its flight, or the task back if the flight is gone.
    pub(super) fn own(
        &self,
        hash: u64,
        id: u64,
        task: Tether,
        span: Option<Id>,
        bell: Option<&Bell>,
    ) -> Result<(), Tether> {
        let mut shard = self.shard(hash).lock();
        let found = shard.entries.find_mut(hash, |entry| entry.has_flight(id));
        match found.and_then(Entry::full) {
            Some(traffic) => traffic.own(id, task, span, bell),
            None => Err(task),
        }
    }
}

/// The flights of one load: it is aborted when the last of them has been given up.
pub(super) struct Group {
    left: AtomicUsize,
    task: OnceLock<AbortHandle>,
}

impl Group {
    pub(super) fn new(flights: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(flights), task: OnceLock::new() })
    }

    /// Hands over the task, before any flight is tethered to it.
    pub(super) fn own(&self, task: AbortHandle) {
        let new = self.task.set(task).is_ok();
        debug_assert!(new, "a load has one task");
    }

    /// One of the flights needs the load no more.
    pub(super) fn leave(&self) {
        if self.left.fetch_sub(1, SeqCst) == 1
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
    }
}
