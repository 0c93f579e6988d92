//! A caller that waits.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, select};

use crate::observe::Event;
use crate::rt::time::{self, Instant};
use crate::singleflight::call::{Landed, Role};
use crate::singleflight::error::FlightError;
use crate::singleflight::lineage::Waits;
use crate::singleflight::party::Cell;
use crate::singleflight::table::{SeatId, Seated, Table};

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
    /// Not polled since it was taken, in a poll of the same task.
    new: bool,
}

impl<'a, K, V, E> Seat<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) fn new(
        table: &'a Arc<Table<K, V, E>>,
        (id, cell): Seated<V, E>,
        role: Role,
        arrived: Instant,
    ) -> Self {
        Self { table, id, cell, role, arrived, waits: None, new: true }
    }

    pub(super) fn waits(mut self, waits: Option<Box<Waits>>) -> Self {
        self.waits = waits;
        self
    }

    /// Waits for the outcome, to the caller's own deadline.
    pub(super) async fn landed(
        mut self,
        deadline: Option<Instant>,
    ) -> Result<Landed<V>, FlightError<E>> {
        let landing = poll_fn(|task| self.poll(task));
        let Some(deadline) = deadline else { return landing.await };
        // Boxed: a timer is large, and most calls have none.
        let late = Box::pin(time::sleep_until(deadline));
        match select(pin!(landing), late).await {
            Either::Left((landed, _)) => landed,
            Either::Right(((), _)) => Err(FlightError::TimedOut),
        }
    }

    pub(super) fn poll(&mut self, task: &Context<'_>) -> Poll<Result<Landed<V>, FlightError<E>>> {
        if !std::mem::take(&mut self.new) && self.cell.read().is_none() {
            self.table.rewake(self.id, task.waker());
        }
        // Read after the waker is in place: an outcome that lands in between is not missed.
        let Some(landing) = self.cell.read() else { return Poll::Pending };
        self.table.tell(|| landing.answers(self.role, self.arrived));
        Poll::Ready(landing.to_caller(self.role))
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
