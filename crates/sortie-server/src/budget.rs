//! How many bytes may wait in memory because clients are slow, in the whole process.
//!
//! What counts is what is allocated, not what is in it: the rows of answers, once for all who share
//! them, from when a flight lands with them until the last of those has written his; and the
//! buffers of a session while its client does not take what is in them, or has not sent the rest
//! of a request. A session that waits for its servers, or has all that it says taken at once, does
//! not count, nor costs it anything: its buffers are bounded by themselves.
//!
//! Terms: a *holder* is a session that counts; while more than `PRESSED` of the budget is used it
//! is *pressed*, and with all of it used it is *spent*.
//!
//! # Invariants
//!
//! 1. While it is pressed, holders are ended until it is not: first who has held the most for the
//!    longest, bytes times time. Nobody is who has held them for less than `HELD_MIN`, or
//!    `SPENT_HELD_MIN` once it is spent, and nobody whose statement is under way.
//! 2. While it is spent, no flight holds an answer beyond `SMALL_MAX`, and no request beyond
//!    `REQUEST_MAX` is begun.
//! 3. So it may be exceeded: by what comes of flights that had begun, and by what comes from
//!    clients within `SPENT_HELD_MIN`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::relay::roster::Entry;
use crate::sql::{SqlError, state};

/// What may wait together, unless the configuration says.
pub(crate) const BUFFERED_MAX: NonZeroUsize = NonZeroUsize::new(256 << 20).expect("not zero");

/// The least that makes sense: a few of the largest answers.
pub(crate) const BUFFERED_LEAST: NonZeroUsize = NonZeroUsize::new(4 << 20).expect("not zero");

/// An answer up to this is copied to each of those who share it, and does not count by itself.
pub(crate) const SMALL_MAX: usize = 16 << 10;

/// A request that is longer is not begun while the budget is spent.
pub(crate) const REQUEST_MAX: usize = 64 << 10;

/// The part of the budget above which holders are ended: three quarters.
const PRESSED: (usize, usize) = (3, 4);

/// Nobody is ended for bytes that he has held for a shorter time, or for one shorter than the
/// second while the budget is spent: what comes and goes is not what fills it.
const HELD_MIN: Duration = Duration::from_secs(1);
const SPENT_HELD_MIN: Duration = Duration::from_millis(100);

/// Between two looks at a budget that is pressed: so long an end takes to be felt.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Bytes that may wait. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    used_max: AtomicUsize,
    ended: AtomicU64,
    holders: Mutex<Holders>,
    /// More than `PRESSED` is used.
    pressed: Notify,
}

/// As many as there are sessions.
#[derive(Debug, Default)]
struct Holders {
    next: u64,
    held: BTreeMap<u64, Held>,
}

/// What a session has.
#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    since: Instant,
    /// What would be free without it, if nobody shares its answer.
    bytes: usize,
    /// Its client must do something first: take what is there, or send the rest.
    waits: bool,
    is_ended: bool,
}

/// What is used of a budget, read at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct BudgetStats {
    /// Bytes that wait.
    pub(crate) used: usize,
    /// How many may.
    pub(crate) used_max: usize,
    /// Sessions that hold some of them.
    pub(crate) holders: usize,
    /// Sessions that were ended for what they held.
    pub(crate) ended: u64,
}

/// What one session holds; nothing at first. It is given back on drop.
#[derive(Debug)]
pub(crate) struct Holding {
    budget: Budget,
    /// The session; whoever has not logged in yet holds little, and does not count.
    entry: Option<Arc<Entry>>,
    number: Option<u64>,
    /// Of its own buffers.
    bytes: usize,
    told: (usize, bool),
}

/// An answer's rows that count until nobody has a part of them.
struct Counted {
    rows: Bytes,
    budget: Budget,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(buffered_max: NonZeroUsize) -> Self {
        Self(Arc::new(Inner {
            used: AtomicUsize::new(0),
            used_max: AtomicUsize::new(buffered_max.get()),
            ended: AtomicU64::new(0),
            holders: Mutex::default(),
            pressed: Notify::new(),
        }))
    }

    /// Makes it one of so many bytes.
    pub(crate) fn change(&self, buffered_max: NonZeroUsize) {
        self.0.used_max.store(buffered_max.get(), Relaxed);
        self.look();
    }

    /// Whether all of it is used.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.used.load(Relaxed) >= self.0.used_max.load(Relaxed)
    }

    /// What is used, and of how much.
    pub(crate) fn read(&self) -> BudgetStats {
        BudgetStats {
            used: self.0.used.load(Relaxed),
            used_max: self.0.used_max.load(Relaxed),
            holders: self.holders().held.len(),
            ended: self.0.ended.load(Relaxed),
        }
    }

    /// What a session holds: nothing yet.
    pub(crate) fn holding(&self, entry: Option<Arc<Entry>>) -> Holding {
        Holding { budget: self.clone(), entry, number: None, bytes: 0, told: (0, false) }
    }

    /// The same rows, counted until nobody has a part of them; small ones as they are.
    pub(crate) fn counted(&self, rows: Bytes) -> Bytes {
        if rows.len() <= SMALL_MAX {
            return rows;
        }
        self.add(rows.len());
        Bytes::from_owner(Counted { rows, budget: self.clone() })
    }

    /// The most that may be held whole of an answer that is held up to `whole_max` otherwise.
    pub(crate) fn whole_max(&self, whole_max: usize) -> usize {
        if self.is_spent() { whole_max.min(SMALL_MAX) } else { whole_max }
    }

    /// Ends holders while the budget is pressed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends nobody any more.
    pub(crate) async fn keep(&self) -> Infallible {
        loop {
            while self.excess() > 0 {
                self.relieve();
                sleep(LOOK_PAUSE).await;
            }
            self.0.pressed.notified().await;
        }
    }

    /// How much is used above which holders are ended.
    fn excess(&self) -> usize {
        let (of, parts) = PRESSED;
        let pressed_at = self.0.used_max.load(Relaxed) / parts * of;
        self.0.used.load(Relaxed).saturating_sub(pressed_at)
    }

    /// Ends those who hold the most, as far as that could be enough.
    fn relieve(&self) {
        let mut excess = self.excess();
        let held_min = if self.is_spent() { SPENT_HELD_MIN } else { HELD_MIN };
        let mut holders = self.holders();
        let mut first: Vec<&mut Held> = holders
            .held
            .values_mut()
            .filter(|held| held.waits && held.since.elapsed() >= held_min)
            .collect();
        first.sort_by_cached_key(|held| std::cmp::Reverse(held.burden()));
        for held in first {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(held.bytes);
            if !std::mem::replace(&mut held.is_ended, true) {
                self.0.ended.fetch_add(1, Relaxed);
                held.end(self);
            }
        }
    }

    fn add(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Relaxed);
        self.look();
    }

    fn subtract(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Relaxed);
    }

    fn look(&self) {
        if self.excess() > 0 {
            self.0.pressed.notify_one();
        }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        // Nothing in here panics between two changes that belong together.
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// How much of a burden it is: bytes times milliseconds.
    fn burden(&self) -> u128 {
        self.bytes as u128 * (1 + self.since.elapsed().as_millis())
    }

    fn end(&self, budget: &Budget) {
        let person = &self.entry.person;
        tracing::warn!(
            user = &*person.user,
            database = &*person.database,
            peer = ?person.ends.peer,
            bytes = self.bytes,
            held = ?self.since.elapsed(),
            buffered = budget.0.used.load(Relaxed),
            buffered_max = budget.0.used_max.load(Relaxed),
            "too many bytes wait for clients: one that has held many for long is ended (53200)",
        );
        self.entry.evict();
    }
}

impl Holding {
    /// Whether it is nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.number.is_none()
    }

    /// Whether the budget is spent.
    pub(crate) fn is_spent(&self) -> bool {
        self.budget.is_spent()
    }

    /// Resolves when the session is to end, for this or another reason.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let entry = self.entry.clone();
        async move {
            match entry {
                Some(entry) => entry.killed().await,
                None => std::future::pending().await,
            }
        }
    }

    /// So much it is now: of the session's own buffers, and of an answer that others may share.
    /// `waits` tells that its client must do something first; as long as that is so, what has been
    /// written of a buffer is still in it.
    pub(crate) fn set(&mut self, bytes: usize, shared: usize, waits: bool) {
        let bytes = if waits { bytes.max(self.bytes) } else { bytes };
        if bytes > self.bytes {
            self.budget.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.budget.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
        let told = (bytes + shared, waits);
        if told != self.told {
            self.told = told;
            self.tell();
        }
    }

    fn tell(&mut self) {
        let Some(entry) = &self.entry else { return };
        let (bytes, waits) = self.told;
        let mut holders = self.budget.holders();
        match self.number {
            Some(number) if bytes == 0 => {
                holders.held.remove(&number);
                self.number = None;
            }
            None if bytes == 0 => {}
            Some(number) => {
                if let Some(held) = holders.held.get_mut(&number) {
                    (held.bytes, held.waits) = (bytes, waits);
                }
            }
            None => {
                let number = holders.next;
                holders.next += 1;
                let (entry, since) = (Arc::clone(entry), Instant::now());
                let held = Held { entry, since, bytes, waits, is_ended: false };
                holders.held.insert(number, held);
                self.number = Some(number);
            }
        }
    }
}

/// What a client is told that is ended for what it holds.
pub(crate) fn evicted() -> SqlError {
    let message = "terminating connection because too many bytes wait for clients";
    SqlError::new(state::OUT_OF_MEMORY, message)
        .detail("This one has held many of them for long.")
        .hint("Read answers, and send requests, without long pauses; see buffered_max.")
}

/// What a client is told whose request, or answer, has no room.
pub(crate) fn spent() -> SqlError {
    let message = "too many bytes wait for clients that are slow";
    SqlError::new(state::OUT_OF_MEMORY, message)
        .hint("Try again later, or ask for less at a time; see buffered_max.")
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.rows
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.subtract(self.rows.len());
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0, 0, false);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BUFFERED_MAX)
    }
}

#[cfg(test)]
mod tests;
