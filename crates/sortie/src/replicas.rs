//! Replica sets: the servers that hold the same rows, asked in turn.
//!
//! # Invariants
//!
//! 1. The gauge of a replica is raised once when an attempt begins to wait for it and lowered once
//!    when that attempt ends, however it ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Replicas that hold the same rows. A handle: clones share the turn and the gauges.
///
/// Each call starts one replica further than the one before, so that load spreads evenly; where
/// that one is slow or fails, the others follow in order. Any cheap owned handle of a server can
/// be a replica.
///
/// # Examples
///
/// ```
/// use sortie::ReplicaSet;
///
/// let replicas = ReplicaSet::new([5432, 5433, 5434]).label(|port| format!("db:{port}"));
/// assert_eq!(replicas.labels().collect::<Vec<_>>(), ["db:5432", "db:5433", "db:5434"]);
/// ```
pub struct ReplicaSet<R> {
    inner: Arc<Inner<R>>,
}

struct Inner<R> {
    replicas: Box<[Slot<R>]>,
    turn: AtomicUsize,
}

struct Slot<R> {
    replica: R,
    label: Arc<str>,
    in_flight: AtomicUsize,
}

impl<R> ReplicaSet<R> {
    /// Creates a set of `replicas`, labelled by their place in it: `0`, `1`, …
    ///
    /// An empty set is no error here; reading from it is one, at once.
    pub fn new(replicas: impl IntoIterator<Item = R>) -> Self {
        let labelled = replicas.into_iter().enumerate();
        Self::from_labelled(labelled.map(|(place, replica)| (place.to_string().into(), replica)))
    }

    /// Returns a set of the same replicas, with its own turn and gauges, and labels from `label`.
    #[must_use]
    pub fn label<L: Into<Arc<str>>>(self, label: impl Fn(&R) -> L) -> Self
    where
        R: Clone,
    {
        let replicas = self.inner.replicas.iter().map(|slot| slot.replica.clone());
        Self::from_labelled(replicas.map(|replica| (label(&replica).into(), replica)))
    }

    /// Returns how many replicas there are.
    pub fn len(&self) -> usize {
        self.inner.replicas.len()
    }

    /// Returns whether there is no replica.
    pub fn is_empty(&self) -> bool {
        self.inner.replicas.is_empty()
    }

    /// Returns the labels, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.inner.replicas.iter().map(|slot| &*slot.label)
    }

    /// Returns each replica's label and the number of attempts that wait for it now.
    pub fn in_flight(&self) -> impl Iterator<Item = (&str, usize)> {
        self.inner.replicas.iter().map(|slot| (&*slot.label, slot.in_flight.load(Relaxed)))
    }

    /// Returns the number of the next call and where it starts: one further than the call before.
    pub(crate) fn next_turn(&self) -> (usize, usize) {
        // The counter wraps; at the wrap the turn may repeat or skip once in 2^64 calls.
        let number = self.inner.turn.fetch_add(1, Relaxed);
        (number, number % self.len().max(1))
    }

    /// Raises the gauge of the replica at `place`.
    pub(crate) fn enter(&self, place: usize) {
        self.inner.replicas[place].in_flight.fetch_add(1, Relaxed);
    }

    /// Lowers the gauge of the replica at `place`.
    pub(crate) fn leave(&self, place: usize) {
        self.inner.replicas[place].in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn replica(&self, place: usize) -> &R {
        &self.inner.replicas[place].replica
    }

    pub(crate) fn label_of(&self, place: usize) -> &Arc<str> {
        &self.inner.replicas[place].label
    }

    fn from_labelled(replicas: impl Iterator<Item = (Arc<str>, R)>) -> Self {
        let replicas = replicas
            .map(|(label, replica)| Slot { replica, label, in_flight: AtomicUsize::new(0) })
            .collect();
        Self { inner: Arc::new(Inner { replicas, turn: AtomicUsize::new(0) }) }
    }
}

impl<R> Clone for ReplicaSet<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<R> fmt::Debug for ReplicaSet<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.in_flight()).finish()
    }
}
