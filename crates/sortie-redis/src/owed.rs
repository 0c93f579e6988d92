//! Invalidations that Redis has not been told yet, because it was away.
//!
//! # Invariants
//!
//! 1. Of a key the newest is kept, with the later of the positions. They are paid in the order in
//!    which they came; one that is refused lets the others past.
//! 2. From before an invalidation returns until it is paid, its bucket is *blocked*: nothing is
//!    read from there.
//! 3. Over the bound, everything is owed instead of many keys: what it costs is misses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sortie::Position;

use crate::names::Place;

pub(crate) struct Owed {
    books: Mutex<Books>,
    /// A bit for each bucket.
    blocked: AtomicU64,
    max: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Debt {
    serial: u64,
    pub(crate) what: What,
    pub(crate) position: Option<Position>,
}

/// A debt's place in the order of paying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn(u64);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum What {
    Key(Place),
    Everything,
}

#[derive(Default)]
struct Books {
    serial: u64,
    everything: Option<Debt>,
    /// By serial; and each key's serial.
    debts: BTreeMap<u64, Debt>,
    keys: HashMap<Arc<[u8]>, u64>,
    /// Of each bucket that owes any, how many.
    by_bucket: BTreeMap<u8, u32>,
}

impl Debt {
    pub(crate) fn turn(&self) -> Turn {
        Turn(if self.what == What::Everything { 0 } else { self.serial })
    }
}

impl Owed {
    pub(crate) fn new(max: usize) -> Self {
        Self { books: Mutex::default(), blocked: AtomicU64::new(0), max }
    }

    #[inline]
    pub(crate) fn blocks(&self, bucket: u8) -> bool {
        self.blocked.load(Ordering::Acquire) & (1 << bucket) != 0
    }

    pub(crate) fn len(&self) -> usize {
        let books = self.books.lock();
        books.debts.len() + usize::from(books.everything.is_some())
    }

    pub(crate) fn key(&self, place: &Place, position: Option<&Position>) {
        let mut books = self.books.lock();
        let mut position = position.cloned();
        if let Some(old) = books.keys.get(&place.key).copied()
            && let Some(old) = books.take(old)
        {
            position = later(old.position, position.as_ref());
        }
        if books.debts.len() >= self.max {
            books.give_up_keys(position.as_ref());
        } else {
            let serial = books.next();
            books.keys.insert(Arc::clone(&place.key), serial);
            *books.by_bucket.entry(place.bucket).or_default() += 1;
            let what = What::Key(place.clone());
            books.debts.insert(serial, Debt { serial, what, position });
        }
        self.blocked.store(books.blocked(), Ordering::Release);
    }

    pub(crate) fn everything(&self, position: Option<&Position>) {
        let mut books = self.books.lock();
        books.owe_everything(position);
        self.blocked.store(books.blocked(), Ordering::Release);
    }

    /// What is to be paid after what came in this turn, or first.
    pub(crate) fn next(&self, after: Option<Turn>) -> Option<Debt> {
        let books = self.books.lock();
        let keys = |after| books.debts.range(after + 1..).next().map(|(_, debt)| debt.clone());
        match after {
            None => books.everything.clone().or_else(|| keys(0)),
            Some(Turn(after)) => keys(after),
        }
    }

    /// Takes a debt off, unless a newer one has taken its place meanwhile.
    pub(crate) fn paid(&self, debt: &Debt) {
        let mut books = self.books.lock();
        match debt.what {
            What::Key(_) => drop(books.take(debt.serial)),
            What::Everything => {
                books.everything = books.everything.take().filter(|new| new.serial != debt.serial);
            }
        }
        self.blocked.store(books.blocked(), Ordering::Release);
    }
}

impl Books {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn take(&mut self, serial: u64) -> Option<Debt> {
        let debt = self.debts.remove(&serial)?;
        if let What::Key(place) = &debt.what {
            self.keys.remove(&place.key);
            if let Some(count) = self.by_bucket.get_mut(&place.bucket) {
                *count -= 1;
            }
        }
        Some(debt)
    }

    fn give_up_keys(&mut self, position: Option<&Position>) {
        let debts = std::mem::take(&mut self.debts);
        self.keys.clear();
        self.by_bucket.clear();
        let of_keys = debts.into_values().filter_map(|debt| debt.position);
        let highest = of_keys.fold(position.cloned(), |all, one| later(all, Some(&one)));
        self.owe_everything(highest.as_ref());
    }

    fn owe_everything(&mut self, position: Option<&Position>) {
        let old = self.everything.take().and_then(|debt| debt.position);
        let (serial, position) = (self.next(), later(old, position));
        self.everything = Some(Debt { serial, what: What::Everything, position });
    }

    fn blocked(&self) -> u64 {
        if self.everything.is_some() {
            return u64::MAX;
        }
        let bits = self.by_bucket.iter().filter(|(_, count)| **count > 0);
        bits.fold(0, |blocked, (bucket, _)| blocked | (1 << bucket))
    }
}

fn later(old: Option<Position>, new: Option<&Position>) -> Option<Position> {
    match (old, new) {
        (Some(old), Some(new)) => Some(old.raised(new).0),
        (old, new) => new.cloned().or(old),
    }
}

#[cfg(test)]
mod tests {
    use sortie::{ShardId, WalPoint};

    use super::*;
    use crate::names::BUCKETS;

    fn place(key: u32) -> Place {
        Place::of(key.to_be_bytes().to_vec())
    }

    fn at(lsn: u64) -> Position {
        Position::of([(ShardId::new(0), WalPoint { system: 1, timeline: 1, lsn })])
    }

    #[test]
    fn of_a_key_the_newest_is_owed_and_all_are_paid_in_order() {
        let owed = Owed::new(10);
        owed.key(&place(1), Some(&at(5)));
        owed.key(&place(2), None);
        let early = owed.next(None).unwrap();
        owed.key(&place(1), Some(&at(3)));
        owed.paid(&early); // Paid while a newer one came: that one is still owed.
        assert!(owed.blocks(place(1).bucket) && owed.blocks(place(2).bucket));
        let mut paid = Vec::new();
        while let Some(debt) = owed.next(None) {
            owed.paid(&debt);
            paid.push((debt.what, debt.position));
        }
        assert_eq!(paid, [(What::Key(place(2)), None), (What::Key(place(1)), Some(at(5)))]);
        assert_eq!((owed.blocked.load(Ordering::Relaxed), owed.len()), (0, 0));
    }

    #[test]
    fn over_the_bound_everything_is_owed() {
        let owed = Owed::new(3);
        for key in 0..4 {
            owed.key(&place(key), Some(&at(u64::from(key) + 7)));
        }
        assert_eq!(owed.len(), 1);
        let debt = owed.next(None).unwrap();
        assert_eq!((&debt.what, &debt.position), (&What::Everything, &Some(at(10))));
        assert!((0..BUCKETS).all(|bucket| owed.blocks(bucket)));
        owed.key(&place(9), None); // Newer than everything: paid after it.
        owed.paid(&debt);
        assert_eq!(owed.next(None).unwrap().what, What::Key(place(9)));
        assert!(owed.blocks(place(9).bucket));
    }
}
