//! The first poll of a call: it lands at once, takes a seat, or runs alone.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::ready;
use tracing::Span;
use tracing::span::Id;

use crate::observe::{Begins, Ends, Event};
use crate::rt::task::Handle;
use crate::rt::time::Instant;
use crate::singleflight::SingleFlight;
use crate::singleflight::arrivals::{Arrival, Caller, Met};
use crate::singleflight::boarding::Gate;
use crate::singleflight::call::{Call, FlightCx, FlightId, Landed, Role};
use crate::singleflight::contained::Contained;
use crate::singleflight::error::FlightError;
use crate::singleflight::flying::Stage;
use crate::singleflight::launch::{self, Airborne, Loader, Loading};
use crate::singleflight::lineage::{self, Frame};
use crate::singleflight::lone::{Lone, Rest, Resting};
use crate::singleflight::party::{Cell, Outcome, Sitter};
use crate::singleflight::resting::{Lead, Led};
use crate::singleflight::seat::Seat;
use crate::singleflight::solo;
use crate::singleflight::sought::Sought;

/// A caller's place in the table.
pub(super) enum Place<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    Lead(u64),
    Seated(Seat<'a, K, V, E>),
    Solo(K),
    Refused(FlightError<E>),
}

/// What a call comes to in its first poll.
pub(super) enum Takeoff<K, V, E> {
    Landed(Outcome<Landed<V>, E>),
    /// It waits: its stage says for what.
    Flies,
    Solo(K),
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Runs a load outside the table, for a caller that has asked for that.
    pub(crate) async fn alone<L, F>(&self, key: K, call: Call, load: L) -> Outcome<Landed<V>, E>
    where
        L: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let now = Instant::now();
        self.table.count(self.table.hash(&key), |stats| &mut stats.solos);
        self.solo(key, call.deadline, now, move |_cx| load(now)).await
    }

    pub(super) async fn solo<L, F>(
        &self,
        key: K,
        deadline: Option<Instant>,
        now: Instant,
        load: L,
    ) -> Outcome<Landed<V>, E>
    where
        L: FnOnce(FlightCx) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let load = move |cx| launch::shared(load(cx));
        let cx = launch::cx(0, now, None, &self.table.config);
        let frames = vec![solo::frame(self.table.address(), key)];
        let solo = solo::solo(frames, cx, deadline, load).await;
        self.table.tell(|| Event::answered(Role::Solo, solo.is_ok(), now, now, None));
        solo
    }

    /// Finds the caller its place; a leader's load is polled here.
    #[inline]
    pub(super) fn takeoff<'a, L, F>(
        &'a self,
        caller: Caller<'_, impl Sought<K>>,
        load: &mut Option<L>,
        stage: &mut Stage<'a, K, V, E>,
        task: &mut Context<'_>,
    ) -> Takeoff<K, V, E>
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (hash, now, until) = (caller.hash, caller.now, caller.sitter.until);
        let gate = caller.gate.cloned();
        let loader = || {
            let load = load.take().expect("asked for once");
            Some(Loader::new(load, lineage::ancestors()))
        };
        let arrival = self.table.arrive(caller, loader);
        let Arrival::Lead(id) = arrival else { return self.follow(arrival, stage) };
        self.table.tell(|| Event::Begun { flight: FlightId(id), how: Begins::Leader });
        let load = load.take().expect("a leader's load was not taken");
        let began = now.unwrap_or(self.table.clock.made);
        self.lead(hash, (id, began, until), gate, load, stage, task)
    }

    /// What becomes of a caller that does not lead. Apart, because most do.
    #[inline(never)]
    fn follow<'a>(
        &'a self,
        arrival: Arrival<K, V, E>,
        stage: &mut Stage<'a, K, V, E>,
    ) -> Takeoff<K, V, E> {
        match self.placed(arrival) {
            Place::Lead(_) => unreachable!("a leader polls its load"),
            Place::Seated(seat) => stage.set(Stage::Waits(seat)),
            Place::Solo(key) => return Takeoff::Solo(key),
            Place::Refused(error) => return Takeoff::Landed(Err(error)),
        }
        Takeoff::Flies
    }

    /// Finds the caller its place, and says so to the observer.
    pub(super) fn place(
        &self,
        caller: Caller<'_, impl Sought<K>>,
        loader: impl FnOnce() -> Option<Loader<V, E>>,
    ) -> Place<'_, K, V, E> {
        self.placed(self.table.arrive(caller, loader))
    }

    #[inline]
    fn placed(&self, arrival: Arrival<K, V, E>) -> Place<'_, K, V, E> {
        match arrival {
            Arrival::Lead(id) => {
                self.table.tell(|| Event::Begun { flight: FlightId(id), how: Begins::Leader });
                Place::Lead(id)
            }
            Arrival::Follow(now, seat, Met { began, fan_out, rests, watch }, waits) => {
                let age = || began.map(|began| now.saturating_duration_since(began));
                self.table.tell(|| Event::Joined { age: age(), fan_out });
                let seat = Seat::new(&self.table, seat, Role::Follower, now);
                Place::Seated(seat.waits(waits).watches(watch).waits_a_while(rests))
            }
            Arrival::Solo(key, why) => {
                self.table.tell(|| Event::Limited { why, solo: true });
                Place::Solo(key)
            }
            Arrival::Refused(error, why) => {
                self.table.tell(|| Event::Limited { why, solo: false });
                Place::Refused(error)
            }
        }
    }

    /// Polls a load for the first time, here.
    #[inline]
    fn lead<'a, L, F>(
        &'a self,
        hash: u64,
        (id, began, until): (u64, Instant, Option<Instant>),
        gate: Option<Arc<Gate>>,
        load: L,
        stage: &mut Stage<'a, K, V, E>,
        task: &mut Context<'_>,
    ) -> Takeoff<K, V, E>
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let cx = |gate| launch::cx(id, began, gate, &self.table.config);
        let again = self.table.retries.is_some().then(|| cx(gate.clone()));
        let span = launch::span_if_heard(id, Begins::Leader.label());
        let (mut lone, mut left) = (Lone::new(load), None);
        let first_poll = AssertUnwindSafe(|| {
            let polled = lone.as_mut().begin(cx(gate), task);
            if polled.is_pending() || again.is_some() {
                left = Some(lone);
            }
            polled
        });
        let polled = lineage::within(self.table.address(), id, || {
            let _entered = span.as_ref().map(Span::enter);
            catch_unwind(first_poll)
        });
        let outcome = match polled {
            // It is tried again, and that is its task's.
            Ok(Poll::Ready(ended)) if self.table.is_retried(&ended) => {
                let left = left.expect("a load that may be tried again is kept");
                let left: (Resting<V, E>, _, _) = (left, again, span);
                return self.try_again(hash, (id, began, until), ended, left, task).takeoff(stage);
            }
            Ok(Poll::Ready(ended)) => ended,
            Err(payload) => Err(FlightError::panicked(&*payload)),
            Ok(Poll::Pending) => {
                let mut left = left.expect("a pending load is kept");
                let Some(handle) = Self::rests_in(again.as_ref()) else {
                    let left: (Resting<V, E>, _, _) = (left, again, span);
                    return self.leave(hash, (id, began, until), left, task).takeoff(stage);
                };
                let (span, waker) = (span.map(Box::new), task.waker().clone());
                let runtime = handle.id();
                left.as_mut().rests(Rest { handle, span, waker, until });
                // Before it is laid down, which panics if there is no timer.
                stage.set(Stage::Leads(Lead::new(self, hash, (id, began))));
                let Err(left) = self.table.rest(hash, id, runtime, left) else {
                    return Takeoff::Flies;
                };
                // Its load goes on, so there is nothing for it to leave behind.
                stage.set(Stage::Still);
                return self.part(hash, (id, began), left, task).takeoff(stage);
            }
        };
        let span = span.as_ref().and_then(Span::id);
        Takeoff::Landed(self.landed(hash, id, outcome, began, span))
    }

    /// A load has failed in its first poll and is its task's from now on.
    #[cold]
    fn try_again(
        &self,
        hash: u64,
        landing: (u64, Instant, Option<Instant>),
        ended: Outcome<V, E>,
        (mut left, again, span): (Resting<V, E>, Option<FlightCx>, Option<Span>),
        task: &mut Context<'_>,
    ) -> Led<'_, K, V, E> {
        let failed = Box::pin(ready(ended));
        let loader = Loader::of(left.as_mut().load(), lineage::ancestors());
        self.depart(hash, landing, (loader, again), (failed, span), task)
    }

    /// Lands a flight within its leader's first poll.
    #[inline]
    pub(super) fn landed(
        &self,
        hash: u64,
        id: u64,
        outcome: Outcome<V, E>,
        began: Instant,
        span: Option<Id>,
    ) -> Outcome<Landed<V>, E> {
        match self.table.land_lone(hash, id, Ends::of(&outcome)) {
            Ok(()) => self.answer(id, outcome, began, span),
            Err(shard) => {
                let landed = self.table.land_shared(shard, (hash, id), outcome, span.clone());
                match landed {
                    Err(mine) => self.answer(id, mine, began, span),
                    Ok(cell) => self.answered(&cell, began),
                }
            }
        }
    }

    /// What a leader is given that has its outcome for itself.
    #[inline]
    fn answer(
        &self,
        id: u64,
        mine: Outcome<V, E>,
        began: Instant,
        span: Option<Id>,
    ) -> Outcome<Landed<V>, E> {
        self.table.tell(|| Event::answered(Role::Leader, mine.is_ok(), began, began, span));
        mine.map(|value| Landed { value, role: Role::Leader, flight: FlightId(id), began })
    }

    /// What a leader is given whose flight, or a later one, has landed within its first poll.
    pub(super) fn answered(&self, cell: &Cell<V, E>, arrived: Instant) -> Outcome<Landed<V>, E> {
        let landing = cell.read().expect("it has landed");
        self.table.tell(|| landing.answers(Role::Leader, arrived));
        landing.to_caller(Role::Leader)
    }

    pub(super) fn frame(&self, id: u64) -> Frame {
        Frame::flight(self.table.address(), id)
    }

    /// The runtime in which a load that was not ready may rest with its leader until somebody else
    /// comes.
    #[inline]
    fn rests_in(again: Option<&FlightCx>) -> Option<Handle> {
        // Retries are a task's, and a circle is seen by who is seated where.
        let alone = again.is_none() && lineage::is_empty();
        if alone { Handle::try_current().ok() } else { None }
    }

    /// A load that was not ready and can't rest with its leader is its task's from now on.
    #[cold]
    fn leave(
        &self,
        hash: u64,
        landing: (u64, Instant, Option<Instant>),
        (mut left, again, span): (Resting<V, E>, Option<FlightCx>, Option<Span>),
        task: &mut Context<'_>,
    ) -> Led<'_, K, V, E> {
        let loader = Loader::of(left.as_mut().load(), lineage::ancestors());
        self.depart(hash, landing, (loader, again), (left, span), task)
    }

    /// Others have asked for the key of a load while its leader polled it.
    pub(super) fn part(
        &self,
        hash: u64,
        (id, began): (u64, Instant),
        mut left: Resting<V, E>,
        task: &mut Context<'_>,
    ) -> Led<'_, K, V, E> {
        let load = left.as_mut().load();
        let rest = left.as_mut().rest_mut().take().expect("its leader would have left it");
        let Rest { handle, span, until, .. } = rest;
        let loader = Loader { load, ancestors: Vec::new(), handle: Some(handle) };
        let span = span.map(|span| *span);
        self.depart(hash, (id, began, until), (loader, None), (left, span), task)
    }

    /// Moves a load that was not ready to a task of its own; its leader waits like everybody else.
    fn depart(
        &self,
        hash: u64,
        (id, began, until): (u64, Instant, Option<Instant>),
        (loader, again): (Loader<V, E>, Option<FlightCx>),
        (loading, span): (Loading<V, E>, Option<Span>),
        task: &mut Context<'_>,
    ) -> Led<'_, K, V, E> {
        let span = span.unwrap_or_else(Span::none);
        // From here on a panic lands the flight as aborted instead of leaving it for ever.
        let airborne = Airborne::new(&self.table, hash, id, &span);
        let handle = loader.handle.clone();
        let handle = handle.expect("a load that is not ready at once needs a tokio runtime");
        let mut frames = loader.ancestors.clone();
        frames.push(self.frame(id));
        let again = self.table.again(&loader.load, again.as_ref());
        let bell = launch::bell(&self.table.config);
        let sitter = Sitter { waker: task.waker(), until };
        match self.table.depart(hash, id, Some(loader), bell.clone(), sitter) {
            Ok(((seat, waits), alarm)) => {
                let seat = Seat::new(&self.table, seat, Role::Leader, began).waits(waits);
                let load = Contained::running(loading, frames, span).again(again);
                launch::depart(airborne, load, alarm, bell, &handle);
                Led::Seated(seat)
            }
            Err(cell) => Led::Landed(self.answered(&cell, began)),
        }
    }
}
