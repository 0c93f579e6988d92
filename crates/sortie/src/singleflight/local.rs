//! Loads that their callers drive: for futures that can't be sent to a task of their own.

use std::future::poll_fn;
use std::hash::Hash;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::slice;
use std::task::{Context, Poll};

use tracing::Span;

use crate::observe::{Begins, Event};
use crate::rt::time::{self, Instant};
use crate::singleflight::arrivals::Caller;
use crate::singleflight::call::{Call, FlightCx, FlightId, Landed, Role};
use crate::singleflight::config::Join;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{self, Airborne};
use crate::singleflight::lineage::{self, Frame};
use crate::singleflight::party::{Outcome, Sitter};
use crate::singleflight::seat::{Ended, Seat};
use crate::singleflight::sought::Lent;
use crate::singleflight::takeoff::Place;
use crate::singleflight::{SingleFlight, solo};

/// How often a caller arrives: each time again, the one that drove its load had gone, or was
/// late.
const ARRIVALS_MAX: usize = 16;

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// As [`run_with`](Self::run_with), for a load that can't be sent to a task: one that borrows,
    /// or that is bound to its thread. Its caller drives it.
    ///
    /// The flight is in the same table, and callers of every form share it. It promises less:
    ///
    /// * *A leader that is dropped takes its load along.* One of the callers that wait begins its
    ///   own: at once, but from the beginning. What [`Idle`](crate::Idle) says of loads without
    ///   callers does not apply.
    /// * *A leader that is not polled stops the load*, for all who share it. At its soft age one of
    ///   them leads a successor, at `flight_max` they are told. A flight without followers has no
    ///   successor.
    /// * There are no retries.
    ///
    /// # Errors
    ///
    /// As [`run_with`](Self::run_with). [`Aborted`](FlightError::Aborted) also when sixteen leaders
    /// in turn were dropped, or were late.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future of a leader drops its load, and hands the flight to a
    /// caller that waits; dropping any other gives up its place and touches nobody else's.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), and for callers that share such a load without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use sortie::{Call, SingleFlight};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = SingleFlight::<u64, u64, std::io::Error>::new();
    /// let queries = Cell::new(0); // Of this thread, and borrowed by the loads.
    /// let load = |_cx| async {
    ///     queries.set(queries.get() + 1);
    ///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    ///     Ok(100)
    /// };
    /// let (one, two) = tokio::join!(
    ///     flights.run_local(42, Call::new(), load),
    ///     flights.run_local(42, Call::new(), load),
    /// );
    /// assert_eq!((one.unwrap().value, two.unwrap().value, queries.get()), (100, 100, 1));
    /// # }
    /// ```
    pub async fn run_local<L, F>(
        &self,
        key: K,
        call: Call,
        load: L,
    ) -> Result<Landed<V>, FlightError<E>>
    where
        L: FnOnce(FlightCx) -> F,
        F: Future<Output = Result<V, E>>,
    {
        self.table.clock.ask();
        let (hash, arrived) = (self.table.hash(&key), Instant::now());
        if call.deadline.is_some_and(|deadline| deadline <= arrived) {
            self.table.count(hash, |stats| &mut stats.expired);
            return Err(FlightError::TimedOut);
        }
        let mut key = Some(key);
        let mut join = call.join.unwrap_or(self.table.config.join);
        for _arrival in 0..ARRIVALS_MAX {
            let now = Instant::now();
            let gate = self.table.gate(now);
            let place = poll_fn(|task| {
                let sitter = Sitter { waker: task.waker(), until: call.deadline };
                let (key, gate) = (Lent(&mut key), gate.as_ref());
                let at_limit = call.at_limit;
                let caller = Caller { key, hash, join, now: Some(now), at_limit, gate, sitter };
                Poll::Ready(self.place(caller, || None))
            });
            let seat = match place.await {
                Place::Seated(seat) => seat,
                Place::Lead(id) => {
                    let cx = launch::cx(id, now, gate, &self.table.config);
                    return self.drive(hash, cx, call.deadline, load).await;
                }
                Place::Solo(key) => return self.drive_alone(key, now, call.deadline, load).await,
                Place::Refused(error) => return Err(error),
            };
            if let Ended::Answered(outcome) = seat.ended(call.deadline).await {
                return outcome;
            }
            if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(FlightError::TimedOut);
            }
            self.table.count(hash, |stats| &mut stats.takeovers);
            // What began after it came the first time is late enough for it.
            if join == Join::Fresh {
                join = Join::Since(arrived);
            }
        }
        Err(FlightError::Aborted)
    }

    /// Runs the load of a flight, and waits with the others for what comes of it.
    async fn drive<L, F>(
        &self,
        hash: u64,
        cx: FlightCx,
        until: Option<Instant>,
        load: L,
    ) -> Outcome<Landed<V>, E>
    where
        L: FnOnce(FlightCx) -> F,
        F: Future<Output = Result<V, E>>,
    {
        let (FlightId(id), began, flight_end) = (cx.flight, cx.began, cx.deadline());
        let (span, frame) = (launch::span(id, Begins::Leader.label()), self.frame(id));
        // Dropped in turn from the last: the load, the seat, and then the flight is lost.
        let (airborne, mut seat);
        let mut load = pin!(Some(async move { load(cx).await }));
        let taken_off = poll_fn(|task| {
            let sitter = Sitter { waker: task.waker(), until };
            Poll::Ready(match poll_inside(load.as_mut(), slice::from_ref(&frame), &span, task) {
                Poll::Ready(outcome) => Err(self.landed(hash, id, outcome, began, span.id())),
                Poll::Pending => match self.table.depart(hash, id, None, None, sitter) {
                    Ok((seat, _alarm)) => Ok(seat),
                    Err(cell) => Err(self.answered(&cell, began)),
                },
            })
        });
        match taken_off.await {
            Err(outcome) => return outcome,
            Ok((mine, waits)) => {
                airborne = Airborne::new(&self.table, hash, id, &span);
                seat = Seat::new(&self.table, mine, Role::Leader, began).waits(waits).drives();
            }
        }
        let end = [flight_end, until].into_iter().flatten().min();
        let mut late = end.map(|end| Box::pin(time::sleep_until(end)));
        // It has just said that it waits: a load that gives way is not driven on at once.
        let mut waits = true;
        let ended = poll_fn(|task| {
            // A later flight may have answered them all.
            if let Poll::Ready(ended) = seat.poll(task) {
                return Poll::Ready(Err(ended));
            }
            if !mem::take(&mut waits)
                && let Poll::Ready(outcome) =
                    poll_inside(load.as_mut(), slice::from_ref(&frame), &span, task)
            {
                return Poll::Ready(Ok(outcome));
            }
            let late = late.as_mut().is_some_and(|late| late.as_mut().poll(task).is_ready());
            if late { Poll::Ready(Ok(Err(FlightError::TimedOut))) } else { Poll::Pending }
        });
        match ended.await {
            Err(ended) => return ended.answer(),
            // It gives up by itself, and another may go on.
            Ok(Err(FlightError::TimedOut)) if end != flight_end => {
                return Err(FlightError::TimedOut);
            }
            Ok(outcome) => {
                load.set(None);
                airborne.land(outcome);
            }
        }
        seat.has_driven().ended(until).await.answer()
    }

    /// Runs the load outside the table.
    async fn drive_alone<L, F>(
        &self,
        key: K,
        began: Instant,
        until: Option<Instant>,
        load: L,
    ) -> Outcome<Landed<V>, E>
    where
        L: FnOnce(FlightCx) -> F,
        F: Future<Output = Result<V, E>>,
    {
        let cx = launch::cx(0, began, None, &self.table.config);
        let end = [cx.deadline(), until].into_iter().flatten().min();
        let (span, frame) = (launch::span(0, "solo"), solo::frame(self.table.address(), key));
        let mut load = pin!(Some(async move { load(cx).await }));
        let mut late = None;
        let outcome = poll_fn(|task| {
            let frames = slice::from_ref(&frame);
            if let Poll::Ready(outcome) = poll_inside(load.as_mut(), frames, &span, task) {
                return Poll::Ready(outcome);
            }
            let Some(end) = end else { return Poll::Pending };
            let late = late.get_or_insert_with(|| Box::pin(time::sleep_until(end)));
            late.as_mut().poll(task).map(|()| Err(FlightError::TimedOut))
        });
        let outcome = outcome.await;
        self.table.tell(|| Event::answered(Role::Solo, outcome.is_ok(), began, began, None));
        outcome.map(|value| Landed { value, role: Role::Solo, flight: FlightId(0), began })
    }
}

/// Polls a load inside its lineage and its span; its panic is an outcome.
fn poll_inside<V, E>(
    load: Pin<&mut Option<impl Future<Output = Result<V, E>>>>,
    frames: &[Frame],
    span: &Span,
    task: &mut Context<'_>,
) -> Poll<Outcome<V, E>> {
    let load = load.as_pin_mut().expect("it is polled until it has ended");
    let work = AssertUnwindSafe(|| span.in_scope(|| load.poll(task)));
    match lineage::inside(|stack| stack.extend_from_slice(frames), || catch_unwind(work)) {
        Ok(polled) => polled.map(|ended| ended.map_err(FlightError::failed)),
        Err(payload) => Poll::Ready(Err(FlightError::panicked(&*payload))),
    }
}
