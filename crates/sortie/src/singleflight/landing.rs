//! A flight that ends.
//!
//! Three ways, from the most common to the least: nobody but its leader has asked for its key; one
//! party waits for it, and nobody for anything else; all that [`Traffic`] knows of.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::span::Id;

use crate::observe::{Ends, Event};
use crate::rt::sync::MutexGuard;
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::flight::Flight;
use crate::singleflight::party::{Cell, Landing, Outcome};
use crate::singleflight::shared::Held;
use crate::singleflight::table::{Desks, Table};
use crate::singleflight::traffic::Traffic;

/// What is told of an outcome, beside itself.
type Beside = (Option<Id>, Option<Held>);

/// An outcome that has not been published.
type Kept<V, E> = (Outcome<V, E>, Beside);

/// Where the outcome lies, or the outcome if it went to nobody.
type Landed<V, E> = Result<Arc<Cell<V, E>>, Outcome<V, E>>;

impl<V, E> Traffic<V, E> {
    /// The flight with this id, if there is one party here, and it waits for that flight.
    fn only(&mut self, id: u64) -> Option<&mut Flight<V, E>> {
        let only = self.next.is_none() && self.waiting.is_none();
        self.running.as_deref_mut().filter(|it| {
            let known = it.inherited.is_empty() && it.idle_since.is_none() && it.rests.is_none();
            only && known && it.id == id && !it.party.answered()
        })
    }
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Publishes the outcome of a flight and removes it. The outcome comes back if nobody took it.
    pub(super) fn land(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        outcome: Outcome<V, E>,
        span: Option<Id>,
    ) -> Landed<V, E> {
        match self.land_lone(hash, id, Ends::of(&outcome)) {
            Ok(()) => Err(outcome),
            Err(shard) => self.land_shared(shard, (hash, id), outcome, span),
        }
    }

    /// Ends a flight that nobody but its leader has asked for, whose outcome need not go through
    /// here. The shard of any other is handed on as it is, locked.
    #[inline]
    pub(super) fn land_lone(
        &self,
        hash: u64,
        id: u64,
        how: Ends,
    ) -> Result<(), MutexGuard<'_, Desks<K, V, E>>> {
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, lone, stats, .. } = &mut *shard;
        if let Ok(found) = entries.find_entry(hash, |entry| entry.is_light(id)) {
            let (entry, _) = found.remove();
            match how {
                Ends::Landed => lone.landed += 1,
                _ => stats.count(how),
            }
            self.give_key(spare);
            drop(shard);
            if let State::Light { began: Some(began), .. } = entry.state {
                self.note(hash, how, began);
                self.tell(|| Event::ended(id, how, began, 1));
            }
            return Ok(());
        }
        Err(shard)
    }

    /// Ends a flight that others have asked for too.
    pub(super) fn land_shared(
        self: &Arc<Self>,
        shard: MutexGuard<'_, Desks<K, V, E>>,
        (hash, id): (u64, u64),
        outcome: Outcome<V, E>,
        span: Option<Id>,
    ) -> Landed<V, E> {
        let (shard, held) = match &self.shared {
            None => (shard, None),
            Some(budget) => {
                drop(shard);
                let held = budget.hold(&outcome);
                (self.shard(hash).lock(), held)
            }
        };
        let landed = self.land_only(shard, hash, id, (outcome, (span, held)));
        landed.or_else(|kept| self.land_among(hash, id, kept))
    }

    /// Ends the one flight of a key, if nobody waits for anything else. Nothing comes of that but
    /// that its callers are woken.
    fn land_only(
        &self,
        mut shard: MutexGuard<'_, Desks<K, V, E>>,
        hash: u64,
        id: u64,
        kept: Kept<V, E>,
    ) -> Result<Arc<Cell<V, E>>, Kept<V, E>> {
        let Desks { entries, spare, stats, .. } = &mut *shard;
        let Ok(mut found) = entries.find_entry(hash, |entry| entry.has_flight(id)) else {
            return Err(kept);
        };
        let Some(flight) = found.get_mut().full().and_then(|traffic| traffic.only(id)) else {
            return Err(kept);
        };
        let (outcome, (span, held)) = kept;
        let (how, began) = (Ends::of(&outcome), flight.began);
        let (cell, inline) = (Arc::clone(&flight.party.cell), usize::from(flight.inline));
        flight.span = span;
        let landing = Landing { held, ..flight.landing(outcome) };
        let seats = flight.party.land(landing);
        let (entry, _) = found.remove();
        stats.count(how);
        self.give_key(spare);
        drop(shard);
        let answered = seats.taken();
        self.waiters.0.fetch_sub(answered, Relaxed);
        seats.wake();
        self.note(hash, how, began);
        self.tell(|| Event::ended(id, how, began, answered + inline));
        drop(entry);
        Ok(cell)
    }

    /// Ends one of the flights of a key.
    fn land_among(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        (outcome, (span, mut held)): Kept<V, E>,
    ) -> Landed<V, E> {
        let mut untaken = Some(outcome);
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let landed = self.transition(hash, found, |traffic, desk, fx| {
            let outcome = untaken.take()?;
            if let Some(flight) = traffic.flight(id) {
                self.note(hash, Ends::of(&outcome), flight.began);
            }
            match traffic.land(id, outcome, (span, held.take()), desk, fx) {
                Ok(cell) => Some(cell),
                Err(outcome) => {
                    untaken = Some(outcome);
                    None
                }
            }
        });
        landed.flatten().ok_or_else(|| untaken.expect("it was not taken"))
    }
}
