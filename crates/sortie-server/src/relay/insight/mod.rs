//! Why statements are not shared, and (`mode = observe`) what sharing them would have saved.
//!
//! | part | module |
//! |---|---|
//! | a text in two numbers, or as it is shown | `scan` |
//! | the same, of a text that came before, with other values | `pattern` |
//! | which statements would have been answered together | `overlap` |
//! | the session's side | `notice`; of the batch that comes over and over, `again` |
//! | what comes while a session has a server | `foresee` |
//!
//! # Invariants
//!
//! 1. What is remembered is bounded: of statements there is no room for only their reason is kept.
//! 2. What a verdict was is believed for `BELIEVED`, and for texts that differ in constants alone.
//!    So what is reported may be off where a constant decides (`'now'::date`); what is shared is
//!    judged by its own text, always.

mod again;
mod foresee;
mod notice;
mod overlap;
mod pattern;
mod scan;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::foresee::Foreseen;
pub(super) use self::notice::Noticed;
use self::overlap::{Overlaps, Spot};
pub(super) use self::pattern::Lately;
pub(super) use self::scan::mix;
use super::shared::PipeReason;

/// Statements that are told apart, each with its reason.
const CAUSES_MAX: usize = 1_000;

/// Texts whose cause is found without looking at the table.
const KNOWN_MAX: usize = 4_096;

/// Bytes of a text that is shown.
const TEXT_MAX: usize = 300;

/// How long it is believed what was judged of a text.
const BELIEVED: Duration = Duration::from_secs(30);

/// By their text as it is shown, and the reason.
type Causes = HashMap<(Box<str>, PipeReason), Arc<Cause>>;

/// What is known of one cluster's statements.
#[derive(Debug)]
pub(crate) struct Insight {
    causes: Mutex<Causes>,
    /// Those of statements that are not told apart, by reason.
    others: [Arc<Cause>; PipeReason::ALL.len()],
    known: RwLock<Known>,
    /// Made for the first statement that is observed.
    overlaps: OnceLock<Overlaps>,
    overlapped: AtomicU64,
    overlapped_micros: AtomicU64,
    blind: AtomicU64,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    causes: hashbrown::HashMap<u64, Arc<Cause>>,
}

/// Statements that look the same, and were not shared for the same reason.
#[derive(Debug)]
pub(crate) struct Cause {
    /// Without comments and constants; `None` for those that are not told apart.
    pub(crate) text: Option<Box<str>>,
    pub(crate) reason: PipeReason,
    count: AtomicU64,
    micros: AtomicU64,
    saved: AtomicU64,
    saved_micros: AtomicU64,
}

/// What a cause stands for, at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CauseStats {
    pub(crate) count: u64,
    /// How long servers took, in microseconds.
    pub(crate) micros: u64,
    /// Of these, what would have been saved.
    pub(crate) saved: u64,
    pub(crate) saved_micros: u64,
}

/// A statement that would have been shared, while it runs.
#[derive(Debug)]
pub(super) struct Sighting {
    insight: Arc<Insight>,
    cause: Arc<Cause>,
    spot: Option<Spot>,
}

/// What was seen of a prepared statement, once for all times that it is run.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    cause: Arc<Cause>,
    /// What its key begins with: all but its values.
    key: u64,
}

impl Default for Insight {
    fn default() -> Self {
        let known = Known { since: Instant::now(), causes: hashbrown::HashMap::new() };
        let (overlapped, overlapped_micros, blind) = Default::default();
        Self {
            causes: Mutex::default(),
            others: PipeReason::ALL.map(|reason| Arc::new(Cause::new(None, reason))),
            known: RwLock::new(known),
            overlaps: OnceLock::new(),
            overlapped,
            overlapped_micros,
            blind,
        }
    }
}

impl Insight {
    /// Those of this reason that are not told apart.
    pub(super) fn other(&self, reason: PipeReason) -> &Arc<Cause> {
        &self.others[reason as usize]
    }

    /// The cause that was found for this number, if that is not too long ago.
    fn find(&self, number: u64) -> Option<Arc<Cause>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.causes.get(&number)?;
        (known.since.elapsed() < BELIEVED).then(|| Arc::clone(found))
    }

    /// Has this cause found for that number from now on.
    fn keep(&self, number: u64, cause: &Arc<Cause>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.since.elapsed() >= BELIEVED || known.causes.len() >= KNOWN_MAX {
            *known = Known { since: Instant::now(), causes: hashbrown::HashMap::new() };
        }
        known.causes.insert(number, Arc::clone(cause));
    }

    /// A statement that would have been shared can't be followed.
    fn lose_sight(&self) {
        self.blind.fetch_add(1, Relaxed);
    }

    /// The cause of statements that look like this text.
    fn cause(&self, text: &[u8], reason: PipeReason) -> Arc<Cause> {
        let text: Box<str> = scan::written(text, TEXT_MAX).into();
        let mut causes = self.causes();
        let is_full = causes.len() >= CAUSES_MAX;
        match causes.entry((text, reason)) {
            std::collections::hash_map::Entry::Occupied(known) => Arc::clone(known.get()),
            std::collections::hash_map::Entry::Vacant(_) if is_full => {
                Arc::clone(self.other(reason))
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                let text = place.key().0.clone();
                Arc::clone(place.insert(Arc::new(Cause::new(Some(text), reason))))
            }
        }
    }

    /// All causes that something came of, those that took the most time first.
    pub(crate) fn causes_by_time(&self) -> Vec<(Arc<Cause>, CauseStats)> {
        let mut all: Vec<_> = self.causes().values().chain(&self.others).cloned().collect();
        all.retain(|cause| cause.read().count > 0);
        let mut all: Vec<_> = all.into_iter().map(|cause| (cause.read(), cause)).collect();
        all.sort_by(|(one, _), (other, _)| {
            (other.micros, other.count).cmp(&(one.micros, one.count))
        });
        all.into_iter().map(|(stats, cause)| (cause, stats)).collect()
    }

    /// How many statements would have been answered by others' loads, how long servers took for
    /// them, and how many could not be followed.
    pub(crate) fn saved(&self) -> (u64, u64, u64) {
        let read = |number: &AtomicU64| number.load(Relaxed);
        (read(&self.overlapped), read(&self.overlapped_micros), read(&self.blind))
    }

    fn causes(&self) -> MutexGuard<'_, Causes> {
        // Nothing in here panics between two changes that belong together.
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cause {
    fn new(text: Option<Box<str>>, reason: PipeReason) -> Self {
        let (count, micros, saved, saved_micros) = Default::default();
        Self { text, reason, count, micros, saved, saved_micros }
    }

    /// One more statement.
    pub(super) fn count(&self) {
        self.count.fetch_add(1, Relaxed);
    }

    /// It took a server so long.
    pub(super) fn took(&self, micros: u64) {
        self.micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn read(&self) -> CauseStats {
        let read = |number: &AtomicU64| number.load(Relaxed);
        let (count, micros) = (read(&self.count), read(&self.micros));
        CauseStats {
            count,
            micros,
            saved: read(&self.saved),
            saved_micros: read(&self.saved_micros),
        }
    }
}

impl Sighting {
    /// A statement with this key begins.
    pub(super) fn new(insight: &Arc<Insight>, cause: &Arc<Cause>, key: u64) -> Self {
        let spot = insight.overlaps.get_or_init(Overlaps::new).enter(key);
        if spot.is_none() {
            insight.lose_sight();
        }
        let (insight, cause) = (Arc::clone(insight), Arc::clone(cause));
        Self { insight, cause, spot }
    }

    /// Its answer is there; that took its server so long.
    pub(super) fn end(self, micros: u64) {
        if self.spot.is_some_and(Spot::is_saved) {
            self.cause.saved.fetch_add(1, Relaxed);
            self.cause.saved_micros.fetch_add(micros, Relaxed);
            self.insight.overlapped.fetch_add(1, Relaxed);
            self.insight.overlapped_micros.fetch_add(micros, Relaxed);
        }
    }
}

impl Drop for Sighting {
    fn drop(&mut self) {
        if let (Some(spot), Some(overlaps)) = (self.spot, self.insight.overlaps.get()) {
            overlaps.leave(spot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn statements_are_told_apart_as_long_as_there_is_room() {
        let insight = Insight::default();
        for number in 0..CAUSES_MAX {
            let text = format!("SELECT a{number}");
            insight.cause(text.as_bytes(), PipeReason::Grammar).count();
        }
        let again = insight.cause(b"SELECT  a7 /* x */", PipeReason::Grammar);
        again.count();
        again.took(9);
        assert_eq!((again.read().count, again.read().micros), (2, 9));
        assert!(insight.cause(b"SELECT b", PipeReason::Grammar).text.is_none());
        insight.cause(b"SELECT b", PipeReason::Command).count();
        let all = insight.causes_by_time();
        assert_eq!(all[0].0.text.as_deref(), Some("SELECT a7"));
        assert_eq!(all.len(), CAUSES_MAX + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_is_believed_for_a_while() {
        let insight = Insight::default();
        let cause = insight.cause(b"SELECT 1", PipeReason::Observe);
        insight.keep(7, &cause);
        assert!(insight.find(7).is_some() && insight.find(8).is_none());
        tokio::time::advance(BELIEVED).await;
        assert!(insight.find(7).is_none());
        for number in 0..2 * KNOWN_MAX as u64 {
            insight.keep(number, &cause);
        }
        assert!(insight.known.read().unwrap().causes.len() <= KNOWN_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_overlaps_is_counted_with_its_time_and_leaves_nothing() {
        let insight = Arc::new(Insight::default());
        let cause = insight.cause(b"SELECT 1", PipeReason::Observe);
        let herd: Vec<_> = (0..5).map(|_| Sighting::new(&insight, &cause, 1)).collect();
        for one in herd {
            one.end(2_000);
        }
        assert_eq!(insight.saved(), (3, 6_000, 0));
        assert_eq!((cause.read().saved, cause.read().saved_micros), (3, 6_000));
        // One that never ends well.
        drop(Sighting::new(&insight, &cause, 1));
        Sighting::new(&insight, &cause, 1).end(9);
        assert_eq!(insight.saved().0, 3);
    }
}
