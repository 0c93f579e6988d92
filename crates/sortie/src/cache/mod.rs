//! Caches: values under keys, filled only under a lease.
//!
//! A *lease* is the right to fill one key. A miss hands it out, an invalidation revokes it. So a
//! value whose load began before an invalidation can still be given to those who waited for it,
//! but it can't be stored, and nobody reads it later.
//!
//! # Invariants
//!
//! What every [`Cache`] promises:
//!
//! 1. When `invalidate` has returned, no read gives a value whose lease was handed out before it
//!    was called.
//! 2. After `invalidate_at(key, position)` a fill is stored only if its `as_of` has reached the
//!    position. When its `as_of` is unknown or of another history, a cooling window decides.
//! 3. A lease that is dropped is released, and whoever waits for it looks again.

mod get_set;
mod lease;
mod memory;
mod stamps;
mod tag;

use crate::Position;
use crate::rt::time::Instant;

use std::time::Duration;

pub use self::get_set::{GetSet, GetSetCache, GetSetLease};
pub use self::memory::{MemoryCache, MemoryCacheBuilder, MemoryLease, MemoryWait};
pub use self::tag::Tag;

/// A store of values under keys that is filled under a lease.
///
/// The methods return futures so that a store in another process fits. A store that can't be
/// reached answers [`Lookup::Miss`] with a lease that stores nothing: a cache is never the reason
/// why a read fails.
pub trait Cache<K, V>: Send + Sync {
    /// The right to fill one key. Its drop releases it.
    type Lease: Send + 'static;
    /// Ends when somebody else's lease is filled, released, revoked or too old.
    type Wait: Future<Output = ()> + Send + 'static;

    /// Looks `key` up.
    ///
    /// Cancel safe: a lease that was taken is released.
    fn get(&self, key: &K) -> impl Future<Output = Lookup<V, Self::Lease, Self::Wait>> + Send;

    /// The value for which `get` would give a [`Lookup::Hit`], where that is known without
    /// waiting: the short way of a hit. With `None`, which is always right, `get` is asked next.
    /// What the cache promises holds for it too: whether the value may be given is looked at after
    /// it was read.
    fn at_hand(&self, key: &K) -> Option<V> {
        let _ = key;
        None
    }

    /// Stores what was loaded under `lease`, or says why not.
    fn fill(&self, lease: Self::Lease, loaded: Loaded<V>) -> impl Future<Output = Fill> + Send;

    /// Forgets the value of `key` and revokes the lease on it. To be called after the write has
    /// been committed and before it is acknowledged. To be awaited to its end: dropped earlier, it
    /// may have done nothing.
    fn invalidate(&self, key: &K) -> impl Future<Output = ()> + Send;

    /// As [`invalidate`](Self::invalidate), and keeps answers out that were read from a replica
    /// which had not replayed the write at `position`.
    fn invalidate_at(&self, key: &K, position: &Position) -> impl Future<Output = ()> + Send;

    /// Makes the value of `key` too old to be used, and revokes the lease on it, as
    /// [`invalidate`](Self::invalidate) does; but it may still be the [`last`](Self::last) one.
    /// A cache that knows no such difference invalidates it.
    fn expire(&self, key: &K) -> impl Future<Output = ()> + Send {
        self.invalidate(key)
    }

    /// Says whether nobody else can have the lease on its key now. If so, a flight that began
    /// before it was handed out has lost its own, and is not joined.
    fn is_exclusive(&self, lease: &Self::Lease) -> bool {
        let _ = lease;
        true
    }

    /// The moment from which on a load may be under the lease that is waited for; flights that
    /// began earlier have lost theirs, and are not joined. `None` where nobody else shares the
    /// cache.
    fn held_since(&self, wait: &Self::Wait) -> Option<Instant> {
        let _ = wait;
        None
    }

    /// The value that was stored last, however old it is, unless it was invalidated since. For
    /// those who prefer it to an error; a cache that forgets what is too old has none.
    fn last(&self, key: &K) -> impl Future<Output = Option<Cached<V>>> + Send {
        let _ = key;
        async { None }
    }
}

/// A [`Cache`] that invalidates many values in constant time: all that have a tag, or all.
///
/// As with one key, no read gives a value whose lease was handed out before; and with a position
/// nothing is stored that was read from a replica which had not replayed it.
pub trait Sweep<K, V>: Cache<K, V> {
    /// Invalidates every value that was [tagged](Loaded::tagged) so.
    fn invalidate_tag(
        &self,
        tag: Tag,
        position: Option<&Position>,
    ) -> impl Future<Output = ()> + Send;

    /// Invalidates every value.
    fn invalidate_all(&self, position: Option<&Position>) -> impl Future<Output = ()> + Send;
}

/// What a cache knows of a key.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lookup<V, L, W> {
    /// The value.
    Hit(Cached<V>),
    /// A value that will soon be stale, and the lease to load it anew before that.
    Early(Cached<V>, L),
    /// A value past its soft age: to be used, and to be loaded anew by whoever gets the lease.
    Stale(Cached<V>, Option<L>),
    /// Nothing. Whoever gets the lease loads the value.
    Miss(L),
    /// Nothing, and somebody else, perhaps in another process, has the lease. When the wait is
    /// over it is worth looking again.
    Pending(W),
}

/// A value from a cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cached<V> {
    /// The value.
    pub value: V,
    /// Up to where the replica that gave it had replayed the history, if that is known.
    pub as_of: Option<Position>,
    /// When its load began, if that is known: the value is as old as that.
    pub began: Option<Instant>,
    /// Nothing invalidated it before this moment, as far as a flight that has it knows.
    pub(crate) held_at: Option<Instant>,
    /// A flight has it from the cache, where somebody else had put it.
    pub(crate) found: bool,
}

/// A value from a load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded<V> {
    /// The value.
    pub value: V,
    /// Up to where the replica that gave it had replayed the history, if that is known. To be
    /// taken no later than the value.
    pub as_of: Option<Position>,
    /// For how long it is fresh, counted from the begin of its load, if that is not the cache's to
    /// say.
    pub fresh_for: Option<Duration>,
    /// For how long it may be used; counted and defaulting as `fresh_for`.
    pub usable_for: Option<Duration>,
    /// What else than its key invalidates it.
    pub tags: Vec<Tag>,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fill {
    /// The value can be read from now on, until it is evicted: at once, if it weighs too much.
    Stored,
    /// The lease had been revoked by an invalidation, or been given to somebody else.
    Revoked,
    /// The replica that gave the value has not replayed an invalidating write.
    Behind,
    /// It is not known whether it has, and the cooling window after that write is not over.
    Cooling,
    /// The store could not be reached, or did not say whether it stored the value.
    Away,
}

impl Fill {
    /// One lower-case word, for labels and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Revoked => "revoked",
            Self::Behind => "behind",
            Self::Cooling => "cooling",
            Self::Away => "away",
        }
    }
}

impl<V> Cached<V> {
    /// Creates a value with its metadata, for a cache to return.
    pub fn new(value: V, as_of: Option<Position>) -> Self {
        Self { value, as_of, began: None, held_at: None, found: false }
    }

    /// Says when the value's load began.
    #[must_use]
    pub fn began(mut self, began: Instant) -> Self {
        self.began = Some(began);
        self
    }
}

impl<V> Loaded<V> {
    /// A value read at `as_of`.
    pub fn at(value: V, as_of: Position) -> Self {
        Self { as_of: Some(as_of), ..Self::from(value) }
    }

    /// Says for how long it is fresh and may be used, instead of the cache.
    #[must_use]
    pub fn ages(mut self, fresh_for: Duration, usable_for: Duration) -> Self {
        (self.fresh_for, self.usable_for) = (Some(fresh_for), Some(usable_for));
        self
    }

    /// Adds a tag, e.g. the table that it was read from.
    #[must_use]
    pub fn tagged(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self { value, as_of: None, fresh_for: None, usable_for: None, tags: Vec::new() }
    }
}
