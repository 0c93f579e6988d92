//! A caller that waits.

use std::future::poll_fn;
use std::hash::Hash;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{Either, select};

use crate::observe::Event;
use crate::rt::task::after_others;
use crate::rt::time::{self, Instant, Sleep};
use crate::singleflight::call::{Landed, Role};
use crate::singleflight::error::FlightError;
use crate::singleflight::lineage::Waits;
use crate::singleflight::lost::Turn;
use crate::singleflight::party::{Cell, Outcome};
use crate::singleflight::table::{SeatId, Seated, Table};

/// How often a caller lets all others run that can before it needs a load to be with a task. Most
/// leaders whose loads can go on have polled them by then, and a task costs more than all that.
/// The first of those who follow does that for all of them.
const ROUNDS: u8 = 2;

/// A caller's seat. It drives nothing and owns nothing: it may be parked or dropped at any time,
/// and dropping it gives the seat back.
pub(super) struct Seat<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    table: &'a Arc<Table<K, V, E>>,
    id: SeatId,
    cell: Arc<Cell<V, E>>,
    role: Role,
    arrived: Instant,
    /// What it is inside of waits with it.
    waits: Option<Box<Waits>>,
    /// Rings when it must look after a flight that has no task.
    watch: Option<Pin<Box<Sleep>>>,
    /// It drives its flight itself.
    drives: bool,
    /// Not polled since it was taken, in a poll of the same task.
    new: bool,
    /// How often it lets others run before it has a load that rests with its leader given a task.
    rounds: u8,
}

/// How a caller's wait ends.
pub(super) enum Ended<V, E> {
    Answered(Outcome<Landed<V>, E>),
    /// Its own load is needed: it must arrive anew.
    Arrive,
}

impl<V, E> Ended<V, E> {
    /// The answer of a caller that has no load to arrive with.
    pub(super) fn answer(self) -> Outcome<Landed<V>, E> {
        match self {
            Self::Answered(outcome) => outcome,
            Self::Arrive => Err(FlightError::Aborted),
        }
    }
}

impl<'a, K, V, E> Seat<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) fn new(
        table: &'a Arc<Table<K, V, E>>,
        (id, cell): Seated<V, E>,
        role: Role,
        arrived: Instant,
    ) -> Self {
        let (waits, watch, drives) = (None, None, false);
        Self { table, id, cell, role, arrived, waits, watch, drives, new: true, rounds: 0 }
    }

    pub(super) fn waits(mut self, waits: Option<Box<Waits>>) -> Self {
        self.waits = waits;
        self
    }

    /// Was taken in another poll, or for a caller that was not there.
    pub(super) fn polled(mut self) -> Self {
        self.new = false;
        self
    }

    /// Leaves a load that rests to its leader for a while.
    pub(super) fn waits_a_while(mut self, rests: bool) -> Self {
        self.rounds = if rests { ROUNDS } else { 0 };
        self
    }

    /// Must look then after a flight that has no task.
    pub(super) fn watches(mut self, watch: Option<Instant>) -> Self {
        self.look_at(watch);
        self
    }

    /// Its caller drives the flight.
    pub(super) fn drives(mut self) -> Self {
        self.drives = true;
        self
    }

    /// Its caller has driven the flight to its end.
    pub(super) fn has_driven(mut self) -> Self {
        self.drives = false;
        self
    }

    fn look_at(&mut self, moment: Option<Instant>) {
        let Some(moment) = moment.filter(|_| !self.drives) else { return };
        if self.watch.as_ref().is_none_or(|watch| watch.deadline() > moment) {
            self.watch = Some(Box::pin(time::sleep_until(moment)));
        }
    }
}

impl<K, V, E> Seat<'_, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Waits for the outcome, to the caller's own deadline.
    pub(super) async fn ended(mut self, deadline: Option<Instant>) -> Ended<V, E> {
        let landing = poll_fn(|task| self.poll(task));
        let Some(deadline) = deadline else { return landing.await };
        // Boxed: a timer is large, and most calls have none.
        let late = Box::pin(time::sleep_until(deadline));
        match select(pin!(landing), late).await {
            Either::Left((ended, _)) => ended,
            Either::Right(((), _)) => Ended::Answered(Err(FlightError::TimedOut)),
        }
    }

    pub(super) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Ended<V, E>> {
        let mut turn = Turn::Wait(None);
        let new = mem::take(&mut self.new);
        if (!new || self.rounds > 0) && self.cell.read().is_none() {
            let takes = self.rounds == 0;
            if !takes {
                self.rounds -= 1;
                after_others(task);
            }
            if !new && (takes || !self.table.stays(self.id, task.waker())) {
                turn = self.table.rewake(self.id, task.waker(), takes);
            }
        }
        // Each look is at a later age of a flight than the one before.
        loop {
            // Read after the waker is in place: an outcome that lands in between is not missed.
            if let Some(landing) = self.cell.read() {
                self.table.tell(|| landing.answers(self.role, self.arrived));
                return Poll::Ready(Ended::Answered(landing.to_caller(self.role)));
            }
            match turn {
                Turn::Wait(watch) => self.look_at(watch),
                Turn::Arrive => return Poll::Ready(Ended::Arrive),
                Turn::Aborted => return Poll::Ready(Ended::Answered(Err(FlightError::Aborted))),
            }
            let Some(watch) = &mut self.watch else { return Poll::Pending };
            ready!(watch.as_mut().poll(task));
            self.watch = None;
            turn = self.table.look(self.id);
        }
    }
}

impl<K, V, E> Drop for Seat<'_, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.cell.read().is_none() {
            let span = self.table.leave(self.id);
            self.table.tell(|| Event::Left {
                role: self.role,
                waited: self.arrived.elapsed(),
                span,
            });
        }
    }
}
