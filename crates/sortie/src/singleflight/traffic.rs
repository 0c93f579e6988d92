//! The flights of one key: `{running, next}`, and who waits for which.
//!
//! A pure state machine under the shard lock: it decides, and leaves what must happen outside the
//! lock (waking, aborting, launching, dropping what is the user's) in [`Effects`].
//!
//! # Invariants
//!
//! 1. At most two flights of a key have begun and not ended; ids grow in the order of beginning.
//! 2. An outcome goes to those who wait for that flight or for an earlier one, never for a later.
//! 3. A load's own failure goes first to those whom no other flight of the key can still answer;
//!    the others wait for that one, once: nobody waits for more than two loads. `flight_max` is
//!    told to all callers of its flight.
//! 4. A flight that is *closed* (past its soft age, or forgotten) takes no new callers.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tracing::span::Id;

use crate::observe::Ends;
use crate::rt::time::Instant;
use crate::singleflight::arrivals::Met;
use crate::singleflight::boarding::Gate;
use crate::singleflight::config::{Config, Join, WhenStuck};
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::{Desk, Effects, Flight, Waiting};
use crate::singleflight::launch::{Bell, Loader};
use crate::singleflight::lineage::Waits;
use crate::singleflight::party::{Cell, Landing, Outcome, Party, Seats, Sitter};
use crate::singleflight::shared::Held;
use crate::singleflight::tether::Tether;

/// The entry of one key. `running` is `None` only within a transition.
pub(super) struct Traffic<V, E> {
    /// Flights with a smaller id are closed: the key was forgotten after they began.
    pub(super) fence: u64,
    pub(super) running: Option<Box<Flight<V, E>>>,
    pub(super) next: Option<Box<Flight<V, E>>>,
    pub(super) waiting: Option<Box<Waiting<V, E>>>,
}

/// The id of a party, a seat in it, and the cell where the outcome will be.
pub(super) type Seat<V, E> = (u64, usize, Arc<Cell<V, E>>);

/// A leader's seat and the first alarm of its flight, or where its answer is already.
pub(super) type Departed<S, V, E> = Result<(S, Option<Instant>), Arc<Cell<V, E>>>;

/// What an arriving caller is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    Lead,
    JoinRunning,
    JoinNext,
    Wait,
    Busy,
}

impl<V, E> Traffic<V, E> {
    #[inline]
    pub(super) fn new(first: Box<Flight<V, E>>) -> Self {
        Self { fence: 0, running: Some(first), next: None, waiting: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.running.is_none() && self.waiting.is_none()
    }

    pub(super) fn flight(&self, id: u64) -> Option<&Flight<V, E>> {
        self.flights().find(|flight| flight.id == id)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight<V, E>> {
        self.running.iter().chain(&self.next).map(|flight| &**flight)
    }

    pub(super) fn flight_mut(&mut self, id: u64) -> Option<&mut Flight<V, E>> {
        self.flights_mut().find(|flight| flight.id == id)
    }

    /// Finds a party that still waits. An answered one may stand for as long as the first poll of
    /// its flight lasts; its seats are gone.
    pub(super) fn party_mut(&mut self, id: u64) -> Option<&mut Party<V, E>> {
        let begun = self.running.iter_mut().chain(&mut self.next);
        let begun = begun.flat_map(|it| it.parties_mut());
        let mut all = begun.chain(self.waiting.iter_mut().flat_map(|it| it.parties_mut()));
        all.find(|party| party.id == id && !party.answered())
    }

    pub(super) fn has_party(&self, id: u64) -> bool {
        let begun = self.flights().flat_map(Flight::parties);
        let mut all = begun.chain(self.waiting.iter().flat_map(|it| it.parties()));
        all.any(|party| party.id == id && !party.answered())
    }

    /// The span of the load that a party waits for.
    pub(super) fn span_of(&self, party: u64) -> Option<Id> {
        let mut flights = self.flights();
        flights.find(|it| it.parties().any(|its| its.id == party))?.span.clone()
    }

    /// Decides what a caller does that arrives now. Changes nothing.
    pub(super) fn choose(&self, join: Join, config: &Config, now: Instant) -> Choice {
        let Some(running) = &self.running else { return Choice::Lead };
        let newest = self.next.as_ref().unwrap_or(running);
        if self.open(newest, now) {
            return match &self.next {
                _ if !newest.suits(join) => Choice::Wait,
                Some(_) => Choice::JoinNext,
                None => Choice::JoinRunning,
            };
        }
        let Some(next) = &self.next else { return Choice::Lead };
        if !(running.late(now) && next.late(now)) {
            return Choice::Wait;
        }
        // Both hang. A caller who may take what runs takes the first of them to answer.
        let joinable = |flight: &Flight<V, E>| {
            flight.id >= self.fence && !flight.party.answered() && flight.suits(join)
        };
        match config.when_stuck {
            WhenStuck::Busy => Choice::Busy,
            WhenStuck::Wait if joinable(running) => Choice::JoinRunning,
            WhenStuck::Wait if joinable(next) => Choice::JoinNext,
            WhenStuck::Wait => Choice::Wait,
        }
    }

    pub(super) fn open(&self, flight: &Flight<V, E>, now: Instant) -> bool {
        flight.id >= self.fence && !flight.late(now)
    }

    /// How long a caller who makes this choice is expected to wait, if loads take so long.
    pub(super) fn remaining(&self, choice: Choice, expected: Duration, now: Instant) -> Duration {
        let left = |flight: &Option<Box<Flight<V, E>>>| {
            flight.as_ref().map_or(Duration::ZERO, |flight| {
                expected.saturating_sub(now.saturating_duration_since(flight.began))
            })
        };
        match choice {
            Choice::JoinRunning => left(&self.running),
            Choice::JoinNext => left(&self.next),
            _ => left(&self.running) + expected,
        }
    }

    /// The flights that must end before a caller who makes this choice is answered.
    pub(super) fn waited_for(&self, choice: Choice) -> impl Iterator<Item = u64> {
        let newest = self.next.as_deref().filter(|_| choice == Choice::JoinNext);
        let flights = newest.into_iter().chain(self.flights().filter(move |_| newest.is_none()));
        flights.map(|flight| flight.id)
    }

    /// The party that a caller who makes this choice is seated with, if it is there already.
    pub(super) fn party_of(&self, choice: Choice) -> Option<u64> {
        match choice {
            Choice::Wait => self.waiting.as_ref().map(|it| it.party.id),
            Choice::JoinNext => self.next.as_ref().map(|it| it.party.id),
            _ => self.running.as_ref().map(|it| it.party.id),
        }
    }

    /// Notes that all who wait for this key may be left to a flight that begins.
    fn may_be_left_to(&self, later: &Flight<V, E>) {
        let all = self.flights().flat_map(Flight::parties).chain(later.parties());
        all.for_each(|party| party.may_be_left_to(later.id));
    }

    /// Gives a flight that begins its place: it relieves the one that runs, if one does.
    pub(super) fn seat(&mut self, flight: Box<Flight<V, E>>) {
        self.may_be_left_to(&flight);
        match &mut self.running {
            Some(running) => {
                running.relieved = true;
                self.next = Some(flight);
            }
            None => self.running = Some(flight),
        }
    }

    /// Takes a caller in as the leader of another flight, with everybody who waits for one.
    pub(super) fn lead(
        &mut self,
        id: u64,
        began: Instant,
        soft_age: Duration,
        gate: Option<Arc<Gate>>,
    ) -> Option<Box<Waiting<V, E>>> {
        debug_assert!(self.next.is_none(), "a key has at most two flights");
        let mut flight = Flight::inline(id, began, soft_age, gate);
        let mut waiting = self.waiting.take();
        if let Some(waiting) = &mut waiting {
            mem::swap(&mut flight.party, &mut waiting.party);
            flight.inherited = mem::take(&mut waiting.inherited);
            // Should this flight be lost, those who gave it can go on with it.
            flight.loader = waiting
                .loader
                .take()
                .map(|loader| if waiting.orphaned { loader.anywhere() } else { loader });
        }
        self.seat(flight);
        waiting
    }

    /// Seats a caller with a begun flight.
    pub(super) fn join(
        &mut self,
        choice: Choice,
        sitter: Sitter<'_>,
        loader: impl FnOnce() -> Option<Loader<V, E>>,
        wanted: impl Fn(Instant, u64),
    ) -> (Seat<V, E>, Met) {
        for flight in self.flights_mut() {
            if let Some(since) = flight.idle_since.take() {
                wanted(since, flight.id);
            }
        }
        let flight = if choice == Choice::JoinNext { &mut self.next } else { &mut self.running };
        let flight = flight.as_mut().expect("the choice was made under this lock");
        if flight.local && flight.loader.is_none() {
            flight.loader = loader();
        }
        let seat = Self::sit(&mut flight.party, sitter);
        let fan_out =
            usize::from(flight.inline) + flight.parties().map(Party::taken).sum::<usize>();
        (seat, Met { began: flight.begun(), fan_out, rests: false, watch: None })
    }

    /// Seats a caller with those for whom no load has begun.
    pub(super) fn wait(
        &mut self,
        sitter: Sitter<'_>,
        party: u64,
        loader: impl FnOnce() -> Option<Loader<V, E>>,
    ) -> (Seat<V, E>, Met) {
        let new = || Box::new(Waiting::new(Party::new(party), None));
        let waiting = self.waiting.get_or_insert_with(new);
        if waiting.loader.is_none() {
            waiting.loader = loader();
        }
        let seat = Self::sit(&mut waiting.party, sitter);
        (seat, Met { began: None, fan_out: waiting.party.taken(), rests: false, watch: None })
    }

    fn sit(party: &mut Party<V, E>, sitter: Sitter<'_>) -> Seat<V, E> {
        (party.id, party.sit(sitter), Arc::clone(&party.cell))
    }

    /// Takes a flight out of a poll of its leader: the leader becomes one of its callers. Also
    /// says when the flight's task must look after it first. Without a loader it is its leader who
    /// goes on driving it.
    ///
    /// `Err` when a later flight has answered its callers meanwhile: the answer is the leader's
    /// too.
    pub(super) fn depart(
        &mut self,
        id: u64,
        loader: Option<Loader<V, E>>,
        bell: Option<Bell>,
        sitter: Sitter<'_>,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) -> Departed<Seat<V, E>, V, E> {
        let flight = self.flight_mut(id).expect("nobody removes a flight that its leader polls");
        flight.inline = false;
        flight.bell = bell;
        if flight.party.answered() {
            let cell = Arc::clone(&flight.party.cell);
            let now = Instant::now();
            self.remove(id, (Ends::Superseded, now), &FlightError::TimedOut, desk, fx);
            self.settle(desk, now, fx);
            return Err(cell);
        }
        if loader.is_some() {
            fx.spent.extend(mem::replace(&mut flight.loader, loader));
        } else {
            flight.local = true;
            fx.wakes.extend(flight.parties().flat_map(Party::wakers));
        }
        let seat = Self::sit(&mut flight.party, sitter);
        Ok((seat, flight.alarm(desk.config, flight.began)))
    }

    /// Notes that a leader that is inside of a load waits with a party.
    pub(super) fn note_leader(&mut self, registry: usize, party: u64) -> Waits {
        let waits = Waits::lead(registry, party, self.flights().map(|flight| flight.id));
        if let Some(party) = self.party_mut(party) {
            party.note(registry);
        }
        waits
    }

    /// Gives a flight its task, or the task back when the flight is gone already.
    pub(super) fn own(
        &mut self,
        id: u64,
        task: Tether,
        span: Option<Id>,
        bell: Option<&Bell>,
    ) -> Result<(), Tether> {
        let Some(flight) = self.flight_mut(id) else { return Err(task) };
        (flight.task, flight.span) = (Some(task), span);
        if let Some(bell) = bell {
            flight.bell = Some(Arc::clone(bell));
        }
        Ok(())
    }

    /// Ends a flight: publishes its outcome and removes it, in one step.
    ///
    /// The outcome comes back when it went to nobody.
    pub(super) fn land(
        &mut self,
        id: u64,
        outcome: Outcome<V, E>,
        (span, held): (Option<Id>, Option<Held>),
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) -> Result<Arc<Cell<V, E>>, Outcome<V, E>> {
        let newer = self.next.as_ref().is_some_and(|next| next.id == id);
        let flight = if newer { &mut self.next } else { &mut self.running };
        let mut flight = flight.take().expect("the caller has found the flight");
        flight.span = span;
        let how = Ends::of(&outcome);
        let ended = match (&outcome, newer, &mut self.next) {
            (_, false, _) if flight.party.answered() => Err(outcome),
            (Err(error), false, Some(next)) if !matches!(how, Ends::TimedOut | Ends::Landed) => {
                // Invariant 3. Whom this failure reaches a second time have had their two loads.
                for mut told in mem::take(&mut flight.inherited) {
                    fx.landed.push(told.land(flight.landing(Err(error.clone()))));
                }
                next.inherit(&mut flight, fx);
                Err(outcome)
            }
            (_, true, _) if how == Ends::Landed => {
                let cell = Self::deliver(&mut flight, outcome, held, fx);
                self.supersede(&cell, desk, fx);
                Ok(cell)
            }
            _ => Ok(Self::deliver(&mut flight, outcome, held, fx)),
        };
        let answered: usize = fx.landed.iter().map(Seats::taken).sum();
        desk.ended(&flight, how, answered + usize::from(flight.inline), fx);
        // One, as a rule; room for the four that a first push makes is large.
        fx.rubbish.reserve_exact(1);
        fx.rubbish.push(*flight);
        self.settle(desk, Instant::now(), fx);
        ended
    }

    fn deliver(
        flight: &mut Flight<V, E>,
        outcome: Outcome<V, E>,
        held: Option<Held>,
        fx: &mut Effects<V, E>,
    ) -> Arc<Cell<V, E>> {
        let cell = Arc::clone(&flight.party.cell);
        let landing = Landing { held, ..flight.landing(outcome) };
        fx.landed.push(flight.party.land(landing));
        fx.landed.extend(flight.inherited.iter_mut().map(|party| party.land_in(&cell)));
        cell
    }

    /// Gives the answer of a later flight to the callers of the earlier one, which is over then.
    fn supersede(&mut self, cell: &Arc<Cell<V, E>>, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        let Some(running) = &mut self.running else { return };
        if running.party.answered() {
            return;
        }
        for party in running.parties_mut() {
            fx.landed.push(party.land_in(cell));
        }
        if !running.inline {
            let id = running.id;
            self.remove(id, (Ends::Superseded, Instant::now()), &FlightError::TimedOut, desk, fx);
        }
    }

    /// Closes every flight that has begun to later callers.
    pub(super) fn forget(&mut self, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        self.forget_up_to(desk.ids.last, desk, fx);
    }

    /// Closes the flights up to this one.
    pub(super) fn forget_up_to(&mut self, id: u64, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        self.fence = self.fence.max(id + 1);
        self.settle(desk, Instant::now(), fx);
    }

    /// Closes every flight that has begun and ends those that have a task.
    pub(super) fn cancel(&mut self, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        let now = Instant::now();
        let ended: Vec<_> = self.flights().filter(|it| !it.inline).map(|it| it.id).collect();
        for id in ended {
            self.remove(id, (Ends::Aborted, now), &FlightError::Aborted, desk, fx);
        }
        self.forget(desk, fx);
    }
}
