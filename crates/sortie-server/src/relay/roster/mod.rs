//! Who has a session, and what each has had so far, for whoever shows it to people.
//!
//! # Invariants
//!
//! 1. Only a session itself writes the numbers of its [`Entry`]: no core takes another's line.
//! 2. What a session has had is not lost at its end: it is added to its database's sums under the
//!    lock that removes the entry.
//! 3. A session says that it works before it looks whether its cluster is paused. So whoever has
//!    paused a cluster, and finds nobody at work, knows that nobody begins.

mod meter;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::Instant;

pub(super) use self::meter::{Meter, Work};
use self::tally::Tally;
pub(crate) use self::tally::Totals;

/// Everybody's entries. It has no bound of its own: a session has a place among the `Keys` first.
#[derive(Debug)]
pub(crate) struct Roster {
    born: Instant,
    table: Mutex<Table>,
    /// What was had up to the last two times that were looked at, for averages.
    marks: Mutex<[Mark; 2]>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<i32, Arc<Entry>>,
    /// What those had who are gone, by database: as many as are configured.
    gone: HashMap<Arc<str>, Totals>,
}

/// What everybody had had at some time.
#[derive(Clone, Debug)]
struct Mark {
    at: Instant,
    totals: HashMap<Arc<str>, Totals>,
}

/// Where a connection's two ends are, as far as they have addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    /// The session's number, which its cancel key has, too.
    pub(crate) id: i32,
    pub(crate) user: Box<str>,
    /// The cluster's name, or the admin database's.
    pub(crate) database: Arc<str>,
    pub(crate) ends: Ends,
    pub(crate) is_encrypted: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) person: Person,
    pub(crate) began: Instant,
    born: Instant,
    pub(super) tally: Tally,
    application: Mutex<Box<str>>,
    doing: AtomicU8,
    /// When it was asked last, and since when it waits, in microseconds since the roster's birth.
    asked: AtomicU64,
    waits: AtomicU64,
    /// The process of the server that it has; 0 is none.
    server: AtomicI32,
    /// Cancel requests for it that are under way.
    cancels: AtomicU32,
    ends: Notify,
    is_told: AtomicBool,
    /// It ends because of what it holds.
    is_evicted: AtomicBool,
}

/// What a session does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Doing {
    /// Nothing that needs a server.
    Rests = 0,
    /// It has a server, or waits for a shared read.
    Works = 1,
    /// It waits for a server.
    Waits = 2,
    /// It waits for the end of a pause.
    IsHeld = 3,
}

impl Roster {
    pub(crate) fn new() -> Self {
        let born = Instant::now();
        let mark = Mark { at: born, totals: HashMap::new() };
        Self { born, table: Mutex::default(), marks: Mutex::new([mark.clone(), mark]) }
    }

    /// A session begins. The entry stays until the guard goes.
    pub(crate) fn enter(self: &Arc<Self>, person: Person, application: &str) -> Listed {
        let entry = Arc::new(Entry {
            began: Instant::now(),
            born: self.born,
            tally: Tally::default(),
            application: Mutex::new(application.into()),
            doing: AtomicU8::new(Doing::Rests as u8),
            asked: AtomicU64::new(micros(self.born.elapsed())),
            waits: AtomicU64::new(0),
            server: AtomicI32::new(0),
            cancels: AtomicU32::new(0),
            ends: Notify::new(),
            is_told: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            person,
        });
        self.table().entries.insert(entry.person.id, Arc::clone(&entry));
        Listed { roster: Arc::clone(self), entry }
    }

    /// All sessions, the oldest numbers first.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.table().entries.values().cloned().collect()
    }

    /// The session of this number.
    pub(crate) fn entry(&self, id: i32) -> Option<Arc<Entry>> {
        self.table().entries.get(&id).cloned()
    }

    /// What everybody has had so far, by database.
    pub(crate) fn totals(&self) -> HashMap<Arc<str>, Totals> {
        let table = self.table();
        let mut totals = table.gone.clone();
        for entry in table.entries.values() {
            let sum = totals.entry(Arc::clone(&entry.person.database)).or_default();
            sum.add(&entry.tally.read());
        }
        totals
    }

    /// Remembers what was had up to now.
    pub(crate) fn mark(&self) {
        let mark = Mark { at: Instant::now(), totals: self.totals() };
        let mut marks = self.marks();
        marks.swap(0, 1);
        marks[1] = mark;
    }

    /// What was had between the last two marks, by database, and how long that was; since the
    /// beginning where nobody has marked anything yet.
    pub(crate) fn lately(&self) -> (Duration, HashMap<Arc<str>, Totals>) {
        let [before, mut last] = self.marks().clone();
        if last.at == self.born {
            last = Mark { at: Instant::now(), totals: self.totals() };
        }
        for (database, totals) in &mut last.totals {
            if let Some(before) = before.totals.get(database) {
                totals.subtract(before);
            }
        }
        (last.at.duration_since(before.at), last.totals)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> MutexGuard<'_, [Mark; 2]> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's entry in the roster, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Listed {
    roster: Arc<Roster>,
    pub(crate) entry: Arc<Entry>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut table = self.roster.table();
        table.entries.remove(&self.entry.person.id);
        let database = Arc::clone(&self.entry.person.database);
        table.gone.entry(database).or_default().add(&self.entry.tally.read());
    }
}

impl Entry {
    pub(crate) fn application(&self) -> Box<str> {
        self.application.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_application(&self, name: &str) {
        let mut known = self.application.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != *name {
            *known = name.into();
        }
    }

    pub(crate) fn doing(&self) -> Doing {
        match self.doing.load(SeqCst) {
            0 => Doing::Rests,
            1 => Doing::Works,
            2 => Doing::Waits,
            _ => Doing::IsHeld,
        }
    }

    pub(super) fn set(&self, doing: Doing) {
        let order = if doing == Doing::Works { SeqCst } else { Release };
        // Ordered against the look at what pauses: see the invariants.
        self.doing.store(doing as u8, order);
    }

    /// How long ago it was asked for something.
    pub(crate) fn asked(&self) -> Duration {
        self.since(&self.asked)
    }

    /// How long it has been waiting, if it waits.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let waits = matches!(self.doing(), Doing::Waits | Doing::IsHeld);
        waits.then(|| self.since(&self.waits))
    }

    fn since(&self, mark: &AtomicU64) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_micros(mark.load(Relaxed)))
    }

    /// The process of the server that it has, if it has one.
    pub(crate) fn server(&self) -> Option<i32> {
        Some(self.server.load(Relaxed)).filter(|process| *process != 0)
    }

    /// A statement that needed no server has been answered.
    pub(crate) fn served(&self) {
        self.tally.served();
        self.asked.store(micros(self.born.elapsed()), Relaxed);
    }

    /// Cancel requests for it that are under way.
    pub(crate) fn cancels(&self) -> u32 {
        self.cancels.load(Relaxed)
    }

    /// A cancel request for it is under way, until the guard goes.
    pub(super) fn cancelling(self: &Arc<Self>) -> Cancelling {
        self.cancels.fetch_add(1, Relaxed);
        Cancelling(Arc::clone(self))
    }

    /// Has the session end. Returns whether nobody has done that before.
    pub(crate) fn kill(&self) -> bool {
        let is_first = !self.is_told.swap(true, Release);
        // It waits for this from its beginning, or finds it then.
        self.ends.notify_one();
        is_first
    }

    /// Has the session end because of what it holds in memory.
    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Release);
        self.kill();
    }

    /// Whether it ends because of that.
    pub(crate) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Acquire)
    }

    /// Whether it has been told to end.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Acquire)
    }

    /// Resolves when the session is to end. Only the session itself waits for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing that was said before.
    pub(crate) async fn killed(&self) {
        self.ends.notified().await;
    }

    /// Does the session's work, until it is to end: `None` then.
    ///
    /// # Cancel safety
    ///
    /// As that of the work.
    pub(in crate::relay) async fn unless_killed<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let (mut work, mut killed) = (pin!(work), pin!(self.killed()));
        // Whom it wakes: while that is so nothing need be asked.
        let mut awaits: Option<Waker> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let awaited = awaits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if awaited && !self.is_told() {
                return Poll::Pending;
            }
            if killed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            // Without it a poll only says that there will be another one.
            awaits = coop::has_budget_remaining().then(|| cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A cancel request that is under way.
#[derive(Debug)]
pub(super) struct Cancelling(Arc<Entry>);

impl Drop for Cancelling {
    fn drop(&mut self) {
        self.0.cancels.fetch_sub(1, Relaxed);
    }
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
