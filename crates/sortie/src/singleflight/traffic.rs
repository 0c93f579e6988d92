//! The flights of one key: `{running, next}`, and who waits for which.
//!
//! A pure state machine under the shard lock: it decides, and leaves what must happen outside the
//! lock (waking, aborting, launching, dropping what is the user's) in [`Effects`].
//!
//! # Invariants
//!
//! 1. At most two flights of a key have begun and not ended; ids grow in the order of beginning.
//! 2. An outcome goes to those who wait for that flight or for an earlier one, never for a later.
//! 3. A failure goes only to those whom no other flight of the key can still answer.
//! 4. A flight that is *closed* (past its soft age, or forgotten) takes no new callers.

use std::mem;
use std::sync::Arc;
use std::task::Waker;

use crate::rt::task::AbortHandle;
use crate::rt::time::Instant;
use crate::singleflight::config::{Config, Idle, Join, WhenStuck};
use crate::singleflight::launch::{Begin, Bell, Loader};
use crate::singleflight::party::{Cell, Landing, Outcome, Party, Seats};
use crate::singleflight::stats::FlightStats;

/// What a shard lends its entries for one transition.
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) stats: &'a mut FlightStats,
    pub(super) ids: &'a mut Ids,
}

/// Gives out ids that grow within a shard and are unique within the registry.
pub(super) struct Ids {
    pub(super) last: u64,
    pub(super) stride: u64,
}

impl Ids {
    pub(super) fn next(&mut self) -> u64 {
        self.last += self.stride;
        self.last
    }
}

/// What must happen after the lock is released.
pub(super) struct Effects<V, E> {
    pub(super) landed: Vec<Seats>,
    pub(super) begin: Option<Begin<V, E>>,
    pub(super) aborts: Vec<AbortHandle>,
    pub(super) bells: Vec<Bell>,
    /// Holds the user's closures and values, whose drop is the user's code.
    pub(super) rubbish: Vec<Flight<V, E>>,
    pub(super) unwaited: Option<Waiting<V, E>>,
}

impl<V, E> Default for Effects<V, E> {
    fn default() -> Self {
        Self {
            landed: Vec::new(),
            begin: None,
            aborts: Vec::new(),
            bells: Vec::new(),
            rubbish: Vec::new(),
            unwaited: None,
        }
    }
}

/// One begun load.
pub(super) struct Flight<V, E> {
    pub(super) id: u64,
    began: Instant,
    party: Party<V, E>,
    /// Parties of earlier flights that failed while this one could still answer them.
    inherited: Vec<Party<V, E>>,
    /// Still in its leader's first poll: the leader needs it, and nobody can abort it.
    inline: bool,
    loader: Option<Loader<V, E>>,
    task: Option<AbortHandle>,
    bell: Option<Bell>,
    idle_since: Option<Instant>,
    /// A later flight has begun beside it; none starts by itself a second time.
    relieved: bool,
}

/// Callers for whom no load has begun yet.
pub(super) struct Waiting<V, E> {
    party: Party<V, E>,
    loader: Loader<V, E>,
}

/// The entry of one key. `running` is `None` only within a transition.
pub(super) struct Traffic<V, E> {
    /// Flights with a smaller id are closed: the key was forgotten after they began.
    fence: u64,
    running: Option<Flight<V, E>>,
    next: Option<Flight<V, E>>,
    waiting: Option<Waiting<V, E>>,
}

/// The id of a party, a seat in it, and the cell where the outcome will be.
pub(super) type Seat<V, E> = (u64, usize, Arc<Cell<V, E>>);

/// What an arriving caller is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    Lead,
    JoinRunning,
    JoinNext,
    Wait,
    Busy,
}

/// When the task of a flight must look again, or why it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    At(Option<Instant>),
    TimedOut,
    Gone,
}

impl<V, E> Flight<V, E> {
    pub(super) fn inline(id: u64, began: Instant) -> Self {
        Self {
            id,
            began,
            party: Party::new(id),
            inherited: Vec::new(),
            inline: true,
            loader: None,
            task: None,
            bell: None,
            idle_since: None,
            relieved: false,
        }
    }

    fn late(&self, config: &Config, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= config.soft_age
    }

    fn parties(&self) -> impl Iterator<Item = &Party<V, E>> {
        std::iter::once(&self.party).chain(&self.inherited)
    }

    fn parties_mut(&mut self) -> impl Iterator<Item = &mut Party<V, E>> {
        std::iter::once(&mut self.party).chain(&mut self.inherited)
    }

    fn interest(&self) -> usize {
        usize::from(self.inline) + self.parties().map(Party::taken).sum::<usize>()
    }
}

impl<V, E> Traffic<V, E> {
    pub(super) fn new(first: Flight<V, E>) -> Self {
        Self { fence: 0, running: Some(first), next: None, waiting: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.running.is_none()
    }

    pub(super) fn flight(&self, id: u64) -> Option<&Flight<V, E>> {
        self.flights().find(|flight| flight.id == id)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight<V, E>> {
        self.running.iter().chain(&self.next)
    }

    fn flight_mut(&mut self, id: u64) -> Option<&mut Flight<V, E>> {
        self.running.iter_mut().chain(&mut self.next).find(|flight| flight.id == id)
    }

    pub(super) fn party_mut(&mut self, id: u64) -> Option<&mut Party<V, E>> {
        let begun = self.running.iter_mut().chain(&mut self.next).flat_map(Flight::parties_mut);
        begun.chain(self.waiting.iter_mut().map(|waiting| &mut waiting.party)).find(|p| p.id == id)
    }

    pub(super) fn has_party(&self, id: u64) -> bool {
        let begun = self.flights().flat_map(Flight::parties);
        begun.chain(self.waiting.iter().map(|waiting| &waiting.party)).any(|p| p.id == id)
    }

    /// Decides what a caller does that arrives now. Changes nothing.
    pub(super) fn choose(&self, join: Join, config: &Config, now: Instant) -> Choice {
        let Some(running) = &self.running else { return Choice::Lead };
        let newest = self.next.as_ref().unwrap_or(running);
        if self.open(newest, config, now) {
            return match join {
                Join::Running if self.next.is_some() => Choice::JoinNext,
                Join::Running => Choice::JoinRunning,
                Join::Fresh => Choice::Wait,
            };
        }
        let Some(next) = &self.next else { return Choice::Lead };
        if !(running.late(config, now) && next.late(config, now)) {
            return Choice::Wait;
        }
        // Both hang. A caller who takes what runs takes the first of them to answer.
        let joinable = |flight: &Flight<V, E>| flight.id >= self.fence && !flight.party.answered();
        match (config.when_stuck, join) {
            (WhenStuck::Busy, _) => Choice::Busy,
            (WhenStuck::Wait, Join::Running) if joinable(running) => Choice::JoinRunning,
            (WhenStuck::Wait, Join::Running) if joinable(next) => Choice::JoinNext,
            (WhenStuck::Wait, _) => Choice::Wait,
        }
    }

    fn open(&self, flight: &Flight<V, E>, config: &Config, now: Instant) -> bool {
        flight.id >= self.fence && !flight.late(config, now)
    }

    /// Takes a caller in as the leader of a second flight, with everybody who waits for one.
    pub(super) fn lead(&mut self, id: u64, began: Instant) -> Option<Waiting<V, E>> {
        debug_assert!(self.next.is_none(), "a key has at most two flights");
        let mut flight = Flight::inline(id, began);
        let mut waiting = self.waiting.take();
        if let Some(waiting) = &mut waiting {
            mem::swap(&mut flight.party, &mut waiting.party);
        }
        if let Some(running) = &mut self.running {
            running.relieved = true;
        }
        self.next = Some(flight);
        waiting
    }

    /// Seats a caller with a begun flight.
    pub(super) fn join(&mut self, choice: Choice, waker: &Waker) -> Seat<V, E> {
        for flight in self.running.iter_mut().chain(&mut self.next) {
            flight.idle_since = None;
        }
        let flight = if choice == Choice::JoinNext { &mut self.next } else { &mut self.running };
        let flight = flight.as_mut().expect("the choice was made under this lock");
        Self::sit(&mut flight.party, waker)
    }

    /// Seats a caller with those for whom no load has begun.
    pub(super) fn wait(
        &mut self,
        waker: &Waker,
        ids: &mut Ids,
        loader: impl FnOnce() -> Loader<V, E>,
    ) -> Seat<V, E> {
        let waiting = self
            .waiting
            .get_or_insert_with(|| Waiting { party: Party::new(ids.next()), loader: loader() });
        Self::sit(&mut waiting.party, waker)
    }

    fn sit(party: &mut Party<V, E>, waker: &Waker) -> Seat<V, E> {
        (party.id, party.sit(waker), Arc::clone(&party.cell))
    }

    /// Takes a flight out of its leader's first poll: the leader becomes one of its callers.
    ///
    /// `Err` when a later flight has answered its callers meanwhile: the answer is the leader's too.
    pub(super) fn depart(
        &mut self,
        id: u64,
        loader: Loader<V, E>,
        bell: Option<Bell>,
        waker: &Waker,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) -> Result<Seat<V, E>, Arc<Cell<V, E>>> {
        let flight = self.flight_mut(id).expect("nobody removes a flight in its first poll");
        flight.inline = false;
        flight.bell = bell;
        if flight.party.answered() {
            let cell = Arc::clone(&flight.party.cell);
            desk.stats.superseded += 1;
            self.remove(id, fx);
            self.settle(desk, Instant::now(), fx);
            return Err(cell);
        }
        flight.loader = Some(loader);
        Ok(Self::sit(&mut flight.party, waker))
    }

    /// Gives a flight the handle of its task. `false` when it is gone already.
    pub(super) fn own(&mut self, id: u64, task: AbortHandle) -> Result<(), AbortHandle> {
        match self.flight_mut(id) {
            Some(flight) => flight.task = Some(task),
            None => return Err(task),
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
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) -> Result<Arc<Cell<V, E>>, Outcome<V, E>> {
        let newer = self.next.as_ref().is_some_and(|next| next.id == id);
        let flight = if newer { &mut self.next } else { &mut self.running };
        let mut flight = flight.take().expect("the caller has found the flight");
        let ended = match (&outcome, newer, &mut self.next) {
            // Invariant 3. What the earlier flight can't give them, the later one still may.
            (Err(_), false, Some(next)) if !flight.party.answered() => {
                next.inherited.push(mem::replace(&mut flight.party, Party::new(id)));
                next.inherited.append(&mut flight.inherited);
                Err(outcome)
            }
            (_, false, _) if flight.party.answered() => Err(outcome),
            (Ok(_), true, _) => {
                let cell = Self::deliver(&mut flight, outcome, fx);
                self.supersede(&cell, desk, fx);
                Ok(cell)
            }
            _ => Ok(Self::deliver(&mut flight, outcome, fx)),
        };
        fx.rubbish.push(flight);
        self.settle(desk, Instant::now(), fx);
        ended
    }

    fn deliver(
        flight: &mut Flight<V, E>,
        outcome: Outcome<V, E>,
        fx: &mut Effects<V, E>,
    ) -> Arc<Cell<V, E>> {
        let cell = Arc::clone(&flight.party.cell);
        fx.landed.push(flight.party.land(Landing { began: flight.began, outcome }));
        for party in &mut flight.inherited {
            fx.landed.push(party.land_in(&cell));
        }
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
            desk.stats.superseded += 1;
            let id = running.id;
            self.remove(id, fx);
        }
    }

    /// Closes every flight that has begun to later callers.
    pub(super) fn forget(&mut self, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        self.fence = desk.ids.last + 1;
        self.settle(desk, Instant::now(), fx);
    }

    /// Brings the entry to rest: idle flights end, the next begins if it is its turn.
    pub(super) fn settle(&mut self, desk: &mut Desk<'_>, now: Instant, fx: &mut Effects<V, E>) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.party.taken() == 0) {
            fx.unwaited = self.waiting.take();
        }
        self.end_idle(desk, now, fx);
        if self.running.is_none() {
            self.running = self.next.take();
        }
        if self.next.is_some() {
            return;
        }
        let closed = self.running.as_ref().is_none_or(|it| !self.open(it, desk.config, now));
        if closed && let Some(Waiting { party, loader }) = self.waiting.take() {
            desk.stats.nexts += 1;
            self.begin(party, loader, "next", desk, fx);
        } else if let Some(running) = &mut self.running
            && running.late(desk.config, now)
            && !running.relieved
            && !running.inline
            && running.interest() > 0
            && let Some(loader) = running.loader.clone()
        {
            desk.stats.successors += 1;
            let party = Party::new(desk.ids.next());
            self.begin(party, loader, "successor", desk, fx);
        }
    }

    fn begin(
        &mut self,
        party: Party<V, E>,
        loader: Loader<V, E>,
        how: &'static str,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) {
        // Read under the lock: not before any of the waiting callers arrived.
        let mut flight = Flight::inline(desk.ids.next(), Instant::now());
        let begin = Begin::new(flight.id, flight.began, loader.clone(), desk.config, how);
        flight.inline = false;
        flight.party = party;
        flight.bell.clone_from(&begin.bell);
        flight.loader = Some(loader);
        match &mut self.running {
            Some(running) => {
                running.relieved = true;
                self.next = Some(flight);
            }
            None => self.running = Some(flight),
        }
        fx.begin = Some(begin);
    }

    fn end_idle(&mut self, desk: &mut Desk<'_>, now: Instant, fx: &mut Effects<V, E>) {
        let before = self.running.as_ref().map_or(0, Flight::interest);
        // A later flight can answer the earlier one's callers, so they are its callers too.
        let idle = [
            self.running.as_ref().filter(|_| before == 0).map(|flight| flight.id),
            self.next.as_ref().filter(|next| before + next.interest() == 0).map(|next| next.id),
        ];
        for id in idle.into_iter().flatten() {
            let flight = self.flight_mut(id).expect("found above");
            match desk.config.idle {
                Idle::Detach => {}
                Idle::Linger(most) => {
                    let since = *flight.idle_since.get_or_insert_with(|| {
                        fx.bells.extend(flight.bell.clone());
                        now
                    });
                    if now.saturating_duration_since(since) >= most {
                        desk.stats.aborted += 1;
                        self.remove(id, fx);
                    }
                }
                Idle::Abort => {
                    desk.stats.aborted += 1;
                    self.remove(id, fx);
                }
            }
        }
    }

    fn remove(&mut self, id: u64, fx: &mut Effects<V, E>) {
        let slot = [&mut self.running, &mut self.next]
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(|flight| flight.id == id));
        let mut flight = slot.and_then(Option::take).expect("the caller has found the flight");
        fx.aborts.extend(flight.task.take());
        fx.rubbish.push(flight);
    }

    /// What the task of a flight has to do now that a timer or its bell rang.
    pub(super) fn due(&mut self, id: u64, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) -> Due {
        let now = Instant::now();
        self.settle(desk, now, fx);
        let Some(flight) = self.flight(id) else { return Due::Gone };
        let age = now.saturating_duration_since(flight.began);
        if age >= desk.config.flight_max {
            return Due::TimedOut;
        }
        let linger = match (desk.config.idle, flight.idle_since) {
            (Idle::Linger(most), Some(since)) => since.checked_add(most),
            _ => None,
        };
        let late = flight.began.checked_add(desk.config.soft_age).filter(|late| *late > now);
        let max = flight.began.checked_add(desk.config.flight_max);
        Due::At([linger, late, max].into_iter().flatten().min())
    }
}
