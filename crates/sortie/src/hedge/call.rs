//! The life of one hedged call.
//!
//! # Invariants
//!
//! 1. Every attempt is owned by the call's future: no task is spawned, and dropping the future
//!    drops every attempt.
//! 2. Futures are declared after [`Call`], so they drop before it: when the reaper hears of a
//!    loser, the loser's future is gone.
//! 3. [`Call`] closes the ledger when it drops, whichever way the call ended.
//! 4. No two attempts of a call are on the same replica.
//! 5. An attempt is polled before a timer or a [`FuturesUnordered`] is built: a replica that
//!    answers at once costs neither.

use std::any::Any;
use std::future::{Future, poll_fn, ready};
use std::ops::ControlFlow::{self, Break, Continue};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use super::Policy;
use super::class::{Class, Classify};
use super::error::{AttemptFailure, FailedAttempt, HedgeError, HedgeErrorKind};
use super::ledger::End;
use super::reaper::{AttemptId, AttemptKind, Loser, Loss, Reaper};
use crate::replicas::ReplicaSet;
use crate::rt::time::{Instant, Sleep, sleep};

/// An attempt about to be made.
pub(super) struct Started<R> {
    pub(super) ordinal: usize,
    pub(super) replica: R,
    pub(super) span: Span,
}

/// An attempt that has ended. The outer error is a panic.
pub(super) struct Ended<O> {
    pub(super) ordinal: usize,
    pub(super) outcome: Result<O, Box<dyn Any + Send>>,
}

/// Makes an attempt; a panic in it, or in the closure that makes it, becomes its outcome.
pub(super) fn fly<R, F, Fut>(
    attempt: &F,
    started: Started<R>,
) -> impl Future<Output = Ended<Fut::Output>> + use<R, F, Fut>
where
    F: Fn(R) -> Fut,
    Fut: Future,
{
    let Started { ordinal, replica, span } = started;
    // Unwind safe: a future that has panicked is never polled again, only dropped.
    let fly =
        || if span.is_disabled() { attempt(replica) } else { span.in_scope(|| attempt(replica)) };
    let made = catch_unwind(AssertUnwindSafe(fly));
    let flying = match made {
        Ok(future) => Either::Left(AssertUnwindSafe(future).catch_unwind()),
        Err(panic) => Either::Right(ready(Err(panic))),
    };
    let flying = flying.map(move |outcome| Ended { ordinal, outcome });
    // Entering a span that nobody looks at would cost more than all the rest of a ready attempt.
    if span.is_disabled() { flying.left_future() } else { flying.instrument(span).right_future() }
}

/// Runs one call.
pub(super) async fn run<R, T, E, F, Fut, C, P>(
    policy: Arc<Policy<C, P>>,
    replicas: ReplicaSet<R>,
    attempt: F,
) -> Result<T, HedgeError<E>>
where
    R: Clone,
    F: Fn(R) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    P: Reaper<R>,
{
    let mut call = Call::new(policy, replicas);
    let mut failed = Vec::new();
    // The one attempt in flight, as a rule; `others` exists only once there are more.
    let mut lead = pin!(None);
    let mut others: Option<FuturesUnordered<_>> = None;
    let mut timer = pin!(None::<Sleep>);

    let mut wanted = Some(AttemptKind::First);
    let result = loop {
        // The only place that starts an attempt.
        if let Some(started) = wanted.and_then(|kind| call.start(kind)) {
            timer.set(None); // The delay counts from the attempt started last.
            let flying = fly(&attempt, started);
            if lead.is_none() {
                lead.set(Some(flying));
            } else {
                others.get_or_insert_default().push(flying);
            }
        } else if call.running == 0 {
            break Err(call.fail(failed));
        }

        let ended = poll_fn(|cx| {
            if let Some(future) = lead.as_mut().as_pin_mut()
                && let Poll::Ready(ended) = future.poll(cx)
            {
                lead.set(None);
                return Poll::Ready(Some(ended));
            }
            if let Some(others) = &mut others
                && let Poll::Ready(Some(ended)) = others.poll_next_unpin(cx)
            {
                return Poll::Ready(Some(ended));
            }
            call.mark_waiting();
            if timer.is_none() {
                timer.set(call.delay().map(sleep));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        });
        wanted = match ended.await {
            None => Some(AttemptKind::Hedge),
            Some(ended) => match call.settle(ended, &mut failed) {
                Continue(wanted) => wanted,
                Break(Ok(value)) => break Ok(value),
                Break(Err(())) => break Err(HedgeError::new(HedgeErrorKind::Answered, failed)),
            },
        };
    };

    // Invariant 2, on the way out: losers go before `call` tells the reaper about them.
    lead.set(None);
    drop(others);
    drop(call);
    result
}

/// The books of one call.
struct Call<R: Clone, C, P: Reaper<R>> {
    policy: Arc<Policy<C, P>>,
    replicas: ReplicaSet<R>,
    /// The call's number, counted by its replica set.
    number: usize,
    /// Where in the set the first attempt goes.
    turn: usize,
    /// Attempts that have started and not ended.
    running: usize,
    /// Every attempt before this one has a `since`.
    waiting: usize,
    records: Records,
    /// Whether the request has been counted as ended.
    closed: bool,
}

/// One attempt's entry in the books.
#[derive(Clone, Copy)]
struct Record {
    kind: AttemptKind,
    running: bool,
    /// When the attempt was first seen waiting for its replica: from then on it is in flight. One
    /// that ends at its first poll never is; it reads no clock and moves no gauge.
    since: Option<Instant>,
}

/// The attempts in the order they started; the first one costs no allocation.
struct Records {
    /// Meaningless until `len` is 1.
    first: Record,
    more: Vec<Record>,
    len: usize,
}

impl<R: Clone, C, P: Reaper<R>> Call<R, C, P> {
    fn new(policy: Arc<Policy<C, P>>, replicas: ReplicaSet<R>) -> Self {
        let (number, turn) = replicas.next_turn();
        let records = Records::new();
        Self { policy, replicas, number, turn, running: 0, waiting: 0, records, closed: false }
    }

    /// Starts the next attempt, unless nobody is left to ask.
    fn start(&mut self, kind: AttemptKind) -> Option<Started<R>> {
        if !self.may_start() {
            return None;
        }
        let ordinal = self.records.len;
        let place = self.place(ordinal);
        let replica = self.replicas.replica(place).clone();
        self.records.push(Record { kind, running: true, since: None });
        self.running += 1;
        let span = if traced() {
            let label = self.replicas.label_of(place);
            attempt_span(self.policy.label.as_deref(), label, kind, self.id(ordinal))
        } else {
            Span::none()
        };
        Some(Started { ordinal, replica, span })
    }

    /// Returns how long to wait before the next attempt; `None` if there is none to wait for.
    fn delay(&self) -> Option<Duration> {
        self.policy.delay.filter(|_| self.may_start())
    }

    /// Books the attempts that have been polled and did not end at once as in flight.
    fn mark_waiting(&mut self) {
        if self.waiting == self.records.len {
            return;
        }
        let now = Instant::now();
        for ordinal in self.waiting..self.records.len {
            let place = self.place(ordinal);
            let record = self.records.get_mut(ordinal);
            if record.running {
                record.since = Some(now);
                self.policy.counters.begin(record.kind);
                self.replicas.enter(place);
            }
        }
        self.waiting = self.records.len;
    }

    /// Books an attempt's end. Breaks if that ends the call: with the value, or with an error that
    /// is the last of `failed`. Continues with the kind of attempt to start now, if any.
    fn settle<T, E>(
        &mut self,
        ended: Ended<Result<T, E>>,
        failed: &mut Vec<FailedAttempt<E>>,
    ) -> ControlFlow<Result<T, ()>, Option<AttemptKind>>
    where
        C: Classify<T, E>,
    {
        let Ended { ordinal, outcome } = ended;
        let (end, failure) = match outcome {
            Err(panic) => (End::Panicked, AttemptFailure::panicked(&*panic)),
            Ok(outcome) => match (self.policy.classify.classify(&outcome), outcome) {
                (Class::Win | Class::Answer, Ok(value)) => {
                    self.closed = true;
                    self.end(ordinal, End::Won);
                    return Break(Ok(value));
                }
                (Class::Win | Class::Answer, Err(error)) => {
                    (End::Answered, AttemptFailure::Answered(error))
                }
                (Class::FailOver, Err(error)) => (End::FailedOver, AttemptFailure::Failed(error)),
                (Class::Abstain, Err(error)) => (End::Abstained, AttemptFailure::Abstained(error)),
                (Class::FailOver, Ok(_)) => (End::FailedOver, AttemptFailure::Refused),
                (Class::Abstain, Ok(_)) => (End::Abstained, AttemptFailure::Refused),
            },
        };
        let replica = Arc::clone(self.replicas.label_of(self.place(ordinal)));
        let kind = self.records.get(ordinal).kind;
        failed.push(FailedAttempt { replica, kind, elapsed: self.age(ordinal), failure });
        self.closed = matches!(end, End::Answered);
        self.end(ordinal, end);
        match end {
            End::Answered => Break(Err(())),
            // Ignored, unless nobody is left to give the answer.
            End::Abstained if self.running > 0 => Continue(None),
            _ => Continue(Some(AttemptKind::Failover)),
        }
    }

    /// Books the end of a call that nobody is left to answer.
    fn fail<E>(&mut self, failed: Vec<FailedAttempt<E>>) -> HedgeError<E> {
        self.closed = true;
        if failed.is_empty() {
            self.policy.counters.request_empty();
            return HedgeError::new(HedgeErrorKind::NoReplicas, failed);
        }
        self.policy.counters.request_exhausted();
        HedgeError::new(HedgeErrorKind::Exhausted, failed)
    }

    fn end(&mut self, ordinal: usize, end: End) {
        let record = self.records.get_mut(ordinal);
        debug_assert!(record.running, "an attempt ends once");
        record.running = false;
        self.running -= 1;
        let Record { kind, since, .. } = *record;
        if since.is_some() {
            self.policy.counters.end(kind, end);
            self.replicas.leave(self.place(ordinal));
        } else {
            self.policy.counters.begin_and_end(kind, end);
        }
    }

    fn may_start(&self) -> bool {
        self.records.len < self.policy.attempts_max.min(self.replicas.len())
    }

    fn place(&self, ordinal: usize) -> usize {
        let (place, replicas) = (self.turn + ordinal, self.replicas.len());
        if place < replicas { place } else { place - replicas }
    }

    fn id(&self, ordinal: usize) -> AttemptId {
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        AttemptId { call: self.number as u64, ordinal }
    }

    fn age(&self, ordinal: usize) -> Duration {
        self.records.get(ordinal).since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl<R: Clone, C, P: Reaper<R>> Drop for Call<R, C, P> {
    fn drop(&mut self) {
        let (end, why) =
            if self.closed { (End::Lost, Loss::Lost) } else { (End::Abandoned, Loss::Abandoned) };
        if !self.closed && self.records.len > 0 {
            self.closed = true;
            self.policy.counters.request_abandoned();
        }
        for ordinal in 0..self.records.len {
            let Record { kind, running, .. } = *self.records.get(ordinal);
            if running {
                self.end(ordinal, end);
                let place = self.place(ordinal);
                self.policy.reaper.reap(Loser {
                    attempt: self.id(ordinal),
                    kind,
                    replica: self.replicas.replica(place).clone(),
                    label: Arc::clone(self.replicas.label_of(place)),
                    age: self.age(ordinal),
                    why,
                });
            }
        }
    }
}

impl Records {
    fn new() -> Self {
        let first = Record { kind: AttemptKind::First, running: false, since: None };
        Self { first, more: Vec::new(), len: 0 }
    }

    fn push(&mut self, record: Record) {
        if self.len == 0 {
            self.first = record;
        } else {
            self.more.push(record);
        }
        self.len += 1;
    }

    fn get(&self, ordinal: usize) -> &Record {
        match ordinal {
            0 => &self.first,
            _ => &self.more[ordinal - 1],
        }
    }

    fn get_mut(&mut self, ordinal: usize) -> &mut Record {
        match ordinal {
            0 => &mut self.first,
            _ => &mut self.more[ordinal - 1],
        }
    }
}

/// Whether anybody may look at an attempt's span. Asked before one is made, because even a span
/// that nobody looks at has a price when `tracing` is built to write to `log` as well.
pub(super) fn traced() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

fn attempt_span(hedge: Option<&str>, replica: &str, kind: AttemptKind, id: AttemptId) -> Span {
    tracing::debug_span!("attempt", hedge, replica, kind = kind.as_str(), %id)
}
