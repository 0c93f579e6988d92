//! What a caller asks of one read, and what it is told with the answer.

use std::time::Duration;

use crate::rt::time::Instant;
use crate::{Cached, Landed, Position, Role};

/// One caller's wishes for one read.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use sortie::{MemoryCache, Read, ReadThrough};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sortie::FlightError<std::io::Error>> {
/// let load = |user: u64| async move { Ok(user * 100) };
/// let balances = ReadThrough::new(MemoryCache::new(10), load);
/// let answer = balances.get_with(&42, Read::new().max_age(Duration::from_secs(1))).await?;
/// assert!(answer.age().is_some_and(|age| age <= Duration::from_secs(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    max_age: Option<Duration>,
    deadline: Option<Instant>,
    pub(super) bypass: bool,
}

/// A value, and how it was come by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer<V> {
    /// The value.
    pub value: V,
    /// How it was come by.
    pub how: How,
    /// When its load began, if the cache knows.
    pub began: Option<Instant>,
    /// Up to where the replica that gave it had replayed the history, if that is known.
    pub as_of: Option<Position>,
}

/// How a value was come by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum How {
    /// It was in the cache, and fresh.
    Hit,
    /// It was in the cache, and is older than it should be.
    Stale(Why),
    /// This caller's flight loaded it.
    Loaded,
    /// Somebody else loaded it meanwhile: another caller's flight, or another process.
    Joined,
}

/// Why a caller was given a stale value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// It is being loaded anew.
    Refreshing,
    /// Loads of it failed, and it is not tried again yet.
    Failing,
    /// This caller's load failed.
    Failed,
    /// This caller's load gave no answer in time.
    TimedOut,
}

/// What a value must be for this caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Its load must not have begun earlier.
    pub(super) not_before: Option<Instant>,
    /// It must not have been invalidated before; only known of what a flight gives.
    pub(super) held_at: Option<Instant>,
    pub(super) deadline: Option<Instant>,
}

impl Read {
    /// A read that takes what the cache has, and no longer than the flights allow.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes only a value whose load begins after this call.
    #[must_use]
    pub fn fresh(self) -> Self {
        self.max_age(Duration::ZERO)
    }

    /// Takes only a value whose load began at most this long before the call.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Gives up at `deadline` with [`TimedOut`](crate::FlightError::TimedOut), or with a stale
    /// value if there may be [one](crate::ReadThrough::stale_if_error). A look into a cache that
    /// is elsewhere may take as long as that cache allows.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Loads for this caller alone: neither the cache nor a flight is looked at or changed.
    #[must_use]
    pub fn bypass(mut self) -> Self {
        self.bypass = true;
        self
    }

    pub(super) fn want(self) -> Want {
        let now = Instant::now();
        let not_before = self.max_age.map(|age| now.checked_sub(age));
        // Before all that this clock can name: any value will do.
        Want { not_before: not_before.flatten(), held_at: None, deadline: self.deadline }
    }
}

impl Want {
    pub(super) const ANY: Self = Self { not_before: None, held_at: None, deadline: None };

    pub(super) fn takes<V>(self, cached: &Cached<V>) -> bool {
        self.not_before.is_none_or(|earliest| cached.began.is_some_and(|began| began >= earliest))
    }

    /// Says the same of what a flight gave: of somebody else's it must be known for how long
    /// nothing has invalidated it.
    pub(super) fn takes_landed<V>(self, landed: &Landed<Cached<V>>) -> bool {
        let held = |at| landed.value.held_at.is_some_and(|held| held >= at);
        let shared = landed.role == Role::Follower;
        self.takes(&landed.value) && (!shared || self.held_at.is_none_or(held))
    }
}

impl<V> Answer<V> {
    pub(super) fn new(cached: Cached<V>, how: How) -> Self {
        let Cached { value, as_of, began, .. } = cached;
        Self { value, how, began, as_of }
    }

    /// How long ago its load began, if the cache knows.
    pub fn age(&self) -> Option<Duration> {
        self.began.map(|began| began.elapsed())
    }
}

impl Why {
    /// One lower-case word, for labels and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Refreshing => "refreshing",
            Self::Failing => "failing",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}
