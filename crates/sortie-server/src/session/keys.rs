//! Who may be cancelled: the keys of all sessions.
//!
//! # Invariants
//!
//! 1. A process number belongs to one session at a time, and is free when its [`Key`] is dropped.
//! 2. A cancel reaches only the statement that runs when it arrives: nothing is remembered.
//! 3. Nobody learns from the time it takes how much of a secret was right.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, futures::Notified, watch};

/// The keys of all sessions. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<Shared>);

/// One session's place among the keys.
#[derive(Debug)]
pub(crate) struct Key {
    process: i32,
    session: Session,
    settle: watch::Sender<u64>,
    /// It found room above the bound.
    is_above: bool,
    keys: Keys,
}

#[derive(Debug)]
struct Shared {
    sessions_max: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<i32, Session>,
    /// How many of them found room above the bound.
    above: usize,
    last: i32,
}

#[derive(Clone, Debug)]
struct Session {
    secret: Box<[u8]>,
    cancelled: Arc<Notify>,
    asked: Arc<AtomicU64>,
    /// How many of the cancels that were asked for have had their effect.
    settled: watch::Receiver<u64>,
}

/// A cancel that was asked for with a right key.
#[derive(Debug)]
pub(crate) struct Cancel {
    process: i32,
    number: u64,
    settled: watch::Receiver<u64>,
}

impl Keys {
    /// Creates an empty table for at most `sessions_max` sessions.
    pub(crate) fn new(sessions_max: usize) -> Self {
        let (sessions_max, table) = (AtomicUsize::new(sessions_max), Mutex::default());
        Self(Arc::new(Shared { sessions_max, table }))
    }

    /// Lets another bound hold for sessions that begin from now on.
    pub(crate) fn limit(&self, sessions_max: usize) {
        self.0.sessions_max.store(sessions_max, Ordering::Relaxed);
    }

    /// Gives a session its key, with a secret of `length` bytes, or `None` when there are too many
    /// sessions.
    pub(crate) fn register(&self, length: usize) -> Option<Key> {
        self.register_above(0, length)
    }

    /// As [`Keys::register`], for one who finds room where there are too many, too, unless so many
    /// have found theirs like that.
    pub(crate) fn register_above(&self, more: usize, length: usize) -> Option<Key> {
        let (settle, settled) = watch::channel(0);
        let (cancelled, asked) = (Arc::default(), Arc::default());
        let session = Session { secret: secret(length)?, cancelled, asked, settled };
        let mut table = self.table();
        // The bound may have been lowered to less than there are.
        let is_above = table.sessions.len() >= self.0.sessions_max.load(Ordering::Relaxed);
        if is_above && table.above >= more {
            return None;
        }
        table.above += usize::from(is_above);
        let process = loop {
            table.last = table.last.checked_add(1).unwrap_or(1);
            let process = table.last;
            // Ends: fewer sessions than numbers, or the bound above has turned us away.
            if let Entry::Vacant(place) = table.sessions.entry(process) {
                place.insert(session.clone());
                break process;
            }
        };
        Some(Key { process, session, settle, is_above, keys: self.clone() })
    }

    /// Cancels what the session with this key is running. `None` for a wrong key.
    pub(crate) fn cancel(&self, process: i32, secret: &[u8]) -> Option<Cancel> {
        let session = self.table().sessions.get(&process).cloned()?;
        if !equal(&session.secret, secret) {
            return None;
        }
        let number = session.asked.fetch_add(1, Ordering::Relaxed) + 1;
        session.cancelled.notify_waiters();
        Some(Cancel { process, number, settled: session.settled })
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table().sessions.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.session.secret
    }

    /// How many cancels were asked for so far.
    pub(crate) fn asked(&self) -> u64 {
        self.session.asked.load(Ordering::Relaxed)
    }

    /// Resolves when a cancel arrives from now on, or rather from when it is enabled.
    pub(crate) fn cancelled(&self) -> Notified<'_> {
        self.session.cancelled.notified()
    }
}

impl Key {
    /// All cancels that were asked for so far have had their effect, or have none.
    pub(crate) fn settle(&self) {
        self.settle.send_replace(self.session.asked.load(Ordering::Relaxed));
    }
}

impl Cancel {
    /// Whose statement it cancels.
    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    /// Waits until the cancel can hit nothing any more, or its session is gone.
    pub(crate) async fn settled(mut self) {
        let number = self.number;
        // An error says that the session is gone.
        self.settled.wait_for(|settled| *settled >= number).await.ok();
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut table = self.keys.table();
        table.sessions.remove(&self.process);
        table.above -= usize::from(self.is_above);
    }
}

fn secret(length: usize) -> Option<Box<[u8]>> {
    let mut secret = vec![0; length].into_boxed_slice();
    getrandom::fill(&mut secret).ok()?;
    Some(secret)
}

fn equal(known: &[u8], given: &[u8]) -> bool {
    known.len() == given.len()
        && known.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancel_reaches_only_its_own_running_statement() {
        let keys = Keys::new(2);
        let (one, two) = (keys.register(4).unwrap(), keys.register(4).unwrap());
        let mut running = std::pin::pin!(one.cancelled());
        let mut other = std::pin::pin!(two.cancelled());
        running.as_mut().enable();
        other.as_mut().enable();
        assert!(keys.cancel(one.process(), one.secret()).is_some());
        running.await;
        assert!(!other.as_mut().enable());
        // The next statement knows nothing of it.
        assert!(!std::pin::pin!(one.cancelled()).enable());
    }

    #[test]
    fn some_find_room_above_the_bound() {
        let keys = Keys::new(1);
        let _one = keys.register(4).unwrap();
        assert!(keys.register(4).is_none());
        let _above = keys.register_above(1, 4).unwrap();
        assert!(keys.register_above(1, 4).is_none() && keys.len() == 2);
    }

    #[test]
    fn they_find_it_also_where_the_bound_is_below_what_there_is() {
        let keys = Keys::new(3);
        let all: Vec<_> = (0..3).map(|_| keys.register(4).unwrap()).collect();
        keys.limit(1);
        for _ in 0..2 {
            let _above = keys.register_above(1, 4).unwrap();
            assert!(keys.register_above(1, 4).is_none() && keys.register(4).is_none());
        }
        drop(all);
        assert!(keys.register(4).is_some() && keys.len() == 0);
    }

    #[tokio::test]
    async fn a_cancel_is_waited_for_until_it_can_hit_nothing() {
        let keys = Keys::new(2);
        let key = keys.register(4).unwrap();
        let cancel = keys.cancel(key.process(), key.secret()).unwrap();
        let mut settled = std::pin::pin!(cancel.settled());
        tokio::select! {
            biased;
            () = &mut settled => panic!("nobody has settled it"),
            () = std::future::ready(()) => {}
        }
        key.settle();
        settled.await;
        let cancel = keys.cancel(key.process(), key.secret()).unwrap();
        drop(key);
        cancel.settled().await;
    }

    #[test]
    fn a_wrong_key_cancels_nothing() {
        let keys = Keys::new(2);
        let one = keys.register(4).unwrap();
        let mut wrong = one.secret().to_vec();
        wrong[3] ^= 1;
        assert!(keys.cancel(one.process(), &wrong).is_none());
        assert!(keys.cancel(one.process(), &one.secret()[..3]).is_none());
        assert!(keys.cancel(one.process(), &[]).is_none());
        assert!(keys.cancel(one.process() + 1, one.secret()).is_none());
    }

    #[test]
    fn a_long_key_is_compared_as_a_whole() {
        let keys = Keys::new(2);
        let one = keys.register(32).unwrap();
        assert!(keys.cancel(one.process(), one.secret()).is_some());
        assert!(keys.cancel(one.process(), &one.secret()[..4]).is_none());
        let mut wrong = one.secret().to_vec();
        wrong[31] ^= 1;
        assert!(keys.cancel(one.process(), &wrong).is_none());
    }

    #[test]
    fn keys_are_bounded_and_given_back() {
        let keys = Keys::new(2);
        let (one, two) = (keys.register(4).unwrap(), keys.register(4).unwrap());
        assert!(keys.register(4).is_none());
        drop(one);
        let three = keys.register(4).unwrap();
        assert_ne!(two.process(), three.process());
        drop((two, three));
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn numbers_start_again_behind_those_in_use() {
        let keys = Keys::new(2);
        let one = keys.register(4).unwrap();
        keys.table().last = i32::MAX;
        assert_eq!((one.process(), keys.register(4).unwrap().process()), (1, 2));
    }
}
