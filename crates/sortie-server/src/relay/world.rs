//! What holds at a time: one reading of the configuration, put in force as a whole.
//!
//! A session goes by one world, and over to the one that is in force between two batches, when
//! nothing is under way (`moving`): in one statement there is never something of two.
//!
//! # Invariants
//!
//! 1. A world does not change. The one in force has the highest number.
//! 2. A session that is woken because another one is in force finds at least that one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cluster::Cluster;
use crate::auth::Gate;
use crate::config::Config;
use crate::session::Limits;

/// One reading of the configuration, and what was made of it.
#[derive(Debug)]
pub(crate) struct World<L> {
    number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) lane: L,
    /// In the order of the configuration.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
}

/// The world that is in force.
#[derive(Debug)]
pub(super) struct Worlds<L> {
    number: AtomicU64,
    now: Mutex<Arc<World<L>>>,
}

impl<L> World<L> {
    /// Creates what is not in force yet.
    pub(crate) fn new(
        config: &Config,
        (lane, clusters): (L, Vec<Arc<Cluster>>),
        gate: Gate,
        limits: Limits,
    ) -> Self {
        let config = Arc::new(config.clone());
        Self { number: 0, config, lane, clusters, gate, limits }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The cluster of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.config.name == name)
    }
}

impl<L> Worlds<L> {
    pub(super) fn new(first: World<L>) -> Self {
        Self { number: AtomicU64::new(first.number), now: Mutex::new(Arc::new(first)) }
    }

    /// The number of the one in force: cheap to ask for.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The one in force.
    pub(super) fn now(&self) -> Arc<World<L>> {
        Arc::clone(&self.locked())
    }

    /// Puts another one in force, and wakes the sessions. Returns the one that was.
    pub(super) fn change(&self, mut world: World<L>) -> Arc<World<L>> {
        let mut now = self.locked();
        world.number = now.number + 1;
        let number = world.number;
        let before = std::mem::replace(&mut *now, Arc::new(world));
        self.number.store(number, Ordering::Release);
        let after = Arc::clone(&now);
        drop(now);
        before.clusters.iter().chain(&after.clusters).for_each(|cluster| cluster.wake());
        before
    }

    fn locked(&self) -> MutexGuard<'_, Arc<World<L>>> {
        // Nothing in here panics between two changes that belong together.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
