//! The callers that wait for one flight, and the cell their outcome lands in.
//!
//! A *seat* is one caller's place in a party. Seats live under the shard lock; the cell is read
//! without it.

use std::iter;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use tracing::span::Id;

use crate::observe::Event;
use crate::rt::time::Instant;
use crate::singleflight::call::{FlightId, Landed, Role};
use crate::singleflight::error::FlightError;
use crate::singleflight::lineage::Noted;
use crate::singleflight::shared::Held;

pub(super) type Outcome<V, E> = Result<V, FlightError<E>>;

/// An outcome, and the beginning and the span of the load that gave it.
pub(super) struct Landing<V, E> {
    pub(super) flight: FlightId,
    pub(super) began: Instant,
    pub(super) outcome: Outcome<V, E>,
    pub(super) span: Option<Id>,
    #[expect(dead_code, reason = "it lives as long as the value, and that is all")]
    pub(super) held: Option<Held>,
}

impl<V: Clone, E> Landing<V, E> {
    /// One caller's copy.
    pub(super) fn to_caller(&self, role: Role) -> Outcome<Landed<V>, E> {
        let value = self.outcome.clone()?;
        Ok(Landed { value, role, flight: self.flight, began: self.began })
    }

    /// A caller that arrived then is answered by this now.
    pub(super) fn answers(&self, role: Role, arrived: Instant) -> Event {
        Event::answered(role, self.outcome.is_ok(), arrived, self.began, self.span.clone())
    }
}

/// Where an outcome is left for everybody who waits for it. Set once, under the shard lock, so that
/// an unset cell means that the party still stands in the table.
pub(super) struct Cell<V, E>(OnceLock<Note<V, E>>);

enum Note<V, E> {
    Here(Landing<V, E>),
    /// A later flight answered this party too: one value, not a clone made under the lock.
    There(Arc<Cell<V, E>>),
}

impl<V, E> Cell<V, E> {
    pub(super) fn read(&self) -> Option<&Landing<V, E>> {
        match self.0.get()? {
            Note::Here(landing) => Some(landing),
            Note::There(cell) => cell.read(),
        }
    }
}

/// A caller to be seated: who is woken, and how long it waits at most.
#[derive(Clone, Copy)]
pub(super) struct Sitter<'a> {
    pub(super) waker: &'a Waker,
    pub(super) until: Option<Instant>,
}

/// The latest deadline of those who ever sat in a party.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Until {
    Nobody,
    Moment(Instant),
    Ever,
}

/// Everybody who waits for one flight. The first outcome of that flight or of a later one is
/// theirs.
pub(super) struct Party<V, E> {
    pub(super) id: u64,
    pub(super) cell: Arc<Cell<V, E>>,
    seats: Seats,
    until: Until,
    /// There if loads wait in it.
    noted: Option<Noted>,
}

impl<V, E> Party<V, E> {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            cell: Arc::new(Cell(OnceLock::new())),
            seats: Seats::default(),
            until: Until::Nobody,
            noted: None,
        }
    }

    /// A load waits in it.
    pub(super) fn note(&mut self, registry: usize) {
        self.noted.get_or_insert_with(|| Noted::party(registry, self.id));
    }

    /// A flight has begun whose outcome may be this party's.
    pub(super) fn may_be_left_to(&self, flight: u64) {
        if let Some(noted) = &self.noted {
            noted.may_be_left_to(flight);
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.seats.taken
    }

    pub(super) fn answered(&self) -> bool {
        self.cell.0.get().is_some()
    }

    pub(super) fn sit(&mut self, sitter: Sitter<'_>) -> usize {
        self.take_in(sitter.waker.clone(), sitter.until)
    }

    pub(super) fn take_in(&mut self, waker: Waker, until: Option<Instant>) -> usize {
        match (&mut self.until, until) {
            (Until::Moment(until), Some(moment)) => *until = (*until).max(moment),
            (Until::Nobody, Some(moment)) => self.until = Until::Moment(moment),
            (_, None) => self.until = Until::Ever,
            (Until::Ever, Some(_)) => {}
        }
        self.seats.sit(waker)
    }

    /// How many wait that have not passed their deadlines, seen all together: past the latest of
    /// them nobody does, though some may not have been polled since.
    pub(super) fn wanted(&self, now: Instant) -> usize {
        match self.until {
            Until::Moment(until) if until < now => 0,
            _ => self.taken(),
        }
    }

    /// When nobody will want it any more, if that is known.
    pub(super) fn until(&self) -> Until {
        self.until
    }

    /// Whom to wake if its callers have to look for themselves.
    pub(super) fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.seats.wakers()
    }

    /// Frees a seat. The waker is returned to be dropped outside the lock.
    pub(super) fn leave(&mut self, seat: usize) -> Waker {
        self.seats.leave(seat)
    }

    /// Has a seat wake another waker from now on. The old one is returned to be dropped outside.
    pub(super) fn rewake(&mut self, seat: usize, waker: &Waker) -> Option<Waker> {
        match self.seats.slot(seat) {
            Slot::Taken(old) if old.will_wake(waker) => None,
            Slot::Taken(old) => Some(mem::replace(old, waker.clone())),
            Slot::Free(_) => unreachable!("a seat is polled only while it is taken"),
        }
    }

    /// Leaves the outcome for this party and returns its seats, to be woken outside the lock.
    pub(super) fn land(&mut self, landing: Landing<V, E>) -> Seats {
        self.tell(Note::Here(landing))
    }

    /// Leaves word that the outcome is in another party's cell.
    pub(super) fn land_in(&mut self, cell: &Arc<Cell<V, E>>) -> Seats {
        self.tell(Note::There(Arc::clone(cell)))
    }

    /// Tells whoever still sits here that it waits for nothing more.
    pub(super) fn end(&mut self, began: Instant, error: FlightError<E>) -> Option<Seats> {
        let sit = !self.answered() && self.taken() > 0;
        sit.then(|| {
            let (flight, outcome) = (FlightId(self.id), Err(error));
            self.land(Landing { flight, began, outcome, span: None, held: None })
        })
    }

    fn tell(&mut self, note: Note<V, E>) -> Seats {
        self.noted = None;
        let set = self.cell.0.set(note);
        debug_assert!(set.is_ok(), "a party is answered once");
        mem::take(&mut self.seats)
    }
}

/// A slab of wakers: joining and leaving cost no allocation of their own, and the first of all who
/// sit costs none at all.
pub(super) struct Seats {
    first: Slot,
    others: Vec<Slot>,
    free: Option<usize>,
    taken: usize,
}

enum Slot {
    Taken(Waker),
    Free(Option<usize>),
}

impl Default for Seats {
    fn default() -> Self {
        Self { first: Slot::Free(None), others: Vec::new(), free: Some(0), taken: 0 }
    }
}

impl Slot {
    fn waker(&self) -> Option<&Waker> {
        match self {
            Self::Taken(waker) => Some(waker),
            Self::Free(_) => None,
        }
    }
}

impl Seats {
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn wake(self) {
        let Self { first, others, .. } = self;
        for slot in iter::once(first).chain(others) {
            if let Slot::Taken(waker) = slot {
                waker.wake();
            }
        }
    }

    fn wakers(&self) -> impl Iterator<Item = Waker> {
        iter::once(&self.first).chain(&self.others).filter_map(Slot::waker).cloned()
    }

    fn slot(&mut self, seat: usize) -> &mut Slot {
        match seat.checked_sub(1) {
            None => &mut self.first,
            Some(other) => &mut self.others[other],
        }
    }

    fn sit(&mut self, waker: Waker) -> usize {
        self.taken += 1;
        let Some(seat) = self.free else {
            self.others.push(Slot::Taken(waker));
            return self.others.len();
        };
        if let Slot::Free(next) = mem::replace(self.slot(seat), Slot::Taken(waker)) {
            self.free = next;
        }
        seat
    }

    fn leave(&mut self, seat: usize) -> Waker {
        let free = Slot::Free(self.free);
        match mem::replace(self.slot(seat), free) {
            Slot::Taken(waker) => {
                self.free = Some(seat);
                self.taken -= 1;
                waker
            }
            Slot::Free(_) => unreachable!("a seat is left once"),
        }
    }
}
