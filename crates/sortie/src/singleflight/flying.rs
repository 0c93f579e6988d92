//! One call of one key, from its first poll to its answer.
//!
//! Written by hand: most calls end in their first poll, and that must not pay for the state of
//! those that wait.

use std::hash::Hash;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::rt::time::{self, Instant, Sleep};
use crate::singleflight::SingleFlight;
use crate::singleflight::arrivals::Caller;
use crate::singleflight::call::{Call, FlightCx, Landed};
use crate::singleflight::error::FlightError;
use crate::singleflight::party::{Outcome, Sitter};
use crate::singleflight::resting::{Lead, Led};
use crate::singleflight::seat::{Ended, Seat};
use crate::singleflight::sought::Sought;
use crate::singleflight::takeoff::Takeoff;

/// What every call of one key comes to.
pub(super) struct Flying<'a, S, L, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    flights: &'a SingleFlight<K, V, E>,
    hash: u64,
    call: Call,
    /// Its caller, or its load, is told when the load began.
    timed: bool,
    /// Taken in the first poll, as the load is.
    key: Option<S>,
    load: Option<L>,
    stage: Stage<'a, K, V, E>,
    /// Boxed: a timer is large, and most calls have none.
    late: Option<Pin<Box<Sleep>>>,
}

/// A call whose caller wants the value and nothing else.
pub(super) struct Valued<C>(pub(super) C);

/// Where a call is after its first poll.
pub(super) enum Stage<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Not polled yet, or over.
    Still,
    Leads(Lead<'a, K, V, E>),
    Waits(Seat<'a, K, V, E>),
    Alone(Alone<'a, V, E>),
}

/// Boxed: no other call must carry room for it.
type Alone<'a, V, E> = Pin<Box<dyn Future<Output = Outcome<Landed<V>, E>> + Send + 'a>>;

#[cold]
fn alarm(deadline: Instant) -> Pin<Box<Sleep>> {
    Box::pin(time::sleep_until(deadline))
}

/// Nothing in it is polled in place.
impl<S, L, K, V, E> Unpin for Flying<'_, S, L, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    #[inline]
    pub(super) fn fly<S, L>(
        &self,
        key: S,
        hash: u64,
        call: Call,
        load: L,
    ) -> Flying<'_, S, L, K, V, E> {
        self.table.clock.ask();
        Flying { timed: true, ..self.fly_untimed(key, hash, call, load) }
    }

    /// As `fly`, for a caller and a load that are not told when the load began.
    #[inline]
    pub(super) fn fly_untimed<S, L>(
        &self,
        key: S,
        hash: u64,
        call: Call,
        load: L,
    ) -> Flying<'_, S, L, K, V, E> {
        let (key, load, timed) = (Some(key), Some(load), false);
        Flying { flights: self, hash, call, timed, key, load, stage: Stage::Still, late: None }
    }

    /// Out of the way of calls that are in the table.
    #[cold]
    fn apart<L, F>(
        &self,
        key: K,
        deadline: Option<Instant>,
        now: Option<Instant>,
        load: L,
    ) -> Alone<'_, V, E>
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let now = now.unwrap_or_else(Instant::now);
        Box::pin(self.solo(key, deadline, now, load))
    }
}

impl<S, L, F, K, V, E> Future for Flying<'_, S, L, K, V, E>
where
    S: Sought<K>,
    L: Fn(FlightCx) -> F + Send + Sync + 'static,
    F: Future<Output = Result<V, E>> + Send + 'static,
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Outcome<Landed<V>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { flights, hash, call, timed, key, load, stage, late } = self.get_mut();
        let Some(key) = key.take() else {
            return stage.go_on(task, late);
        };
        let (flights, hash, Call { join, deadline, at_limit }) = (*flights, *hash, *call);
        let now = (*timed || flights.table.clock.is_asked()).then(Instant::now);
        if now.is_some_and(|now| deadline.is_some_and(|deadline| deadline <= now)) {
            flights.table.count(hash, |stats| &mut stats.expired);
            return Poll::Ready(Err(FlightError::TimedOut));
        }
        let gate = now.and_then(|now| flights.table.gate(now));
        let join = join.unwrap_or(flights.table.config.join);
        let sitter = Sitter { waker: task.waker(), until: deadline };
        let caller = Caller { key, hash, join, now, at_limit, gate: gate.as_ref(), sitter };
        match flights.takeoff(caller, load, stage, task) {
            Takeoff::Landed(landed) => return Poll::Ready(landed),
            Takeoff::Flies => {}
            Takeoff::Solo(key) => {
                let load = load.take().expect("a solo caller's load was not taken");
                stage.set(Stage::Alone(flights.apart(key, deadline, now, load)));
            }
        }
        if let (Some(deadline), Stage::Leads(_) | Stage::Waits(_)) = (deadline, &stage) {
            *late = Some(alarm(deadline));
        }
        // A follower keeps nothing of its own load alive while it waits.
        *load = None;
        match stage {
            // It has polled its load just now.
            Stage::Leads(_) => stage.in_time(late, task),
            _ => stage.go_on(task, late),
        }
    }
}

impl<C, V, E> Future for Valued<C>
where
    C: Future<Output = Outcome<Landed<V>, E>> + Unpin,
{
    type Output = Outcome<V, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(task).map(|landed| landed.map(|landed| landed.value))
    }
}

impl<K, V, E> Stage<'_, K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Within the first poll, where nothing is there that would have to be dropped.
    #[inline]
    pub(super) fn set(&mut self, stage: Self) {
        mem::forget(mem::replace(self, stage));
    }

    /// Polls what comes after the first poll, for as long as it is not too late for its caller.
    fn go_on(
        &mut self,
        task: &mut Context<'_>,
        late: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Outcome<Landed<V>, E>> {
        let polled = match self {
            Self::Leads(lead) => match lead.poll(task) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Led::Landed(landed)) => Poll::Ready(landed),
                Poll::Ready(Led::Seated(mut seat)) => {
                    let polled = seat.poll(task).map(Ended::answer);
                    *self = Self::Waits(seat);
                    polled
                }
            },
            Self::Waits(seat) => seat.poll(task).map(Ended::answer),
            Self::Alone(alone) => alone.as_mut().poll(task),
            Self::Still => panic!("polled after it was ready"),
        };
        if polled.is_pending() {
            return self.in_time(late, task);
        }
        *self = Self::Still;
        polled
    }

    /// Ends what has not ended, if it is too late for its caller.
    #[inline]
    fn in_time(
        &mut self,
        late: &mut Option<Pin<Box<Sleep>>>,
        task: &mut Context<'_>,
    ) -> Poll<Outcome<Landed<V>, E>> {
        let Some(late) = late else { return Poll::Pending };
        ready!(late.as_mut().poll(task));
        *self = Self::Still;
        Poll::Ready(Err(FlightError::TimedOut))
    }
}
