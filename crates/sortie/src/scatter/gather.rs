//! The driver of a scatter: starts legs, polls those that were woken, ends at the first failure.
//!
//! Every leg's first poll happens in the driver's own turn, in one reused slot, so a leg that is
//! ready at once costs no allocation. Only those that are not get a place in a
//! `FuturesUnordered`, which gives each a waker of its own.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::iter::Enumerate;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, sleep_until};
use tracing::Span;

use super::error::{Gathered, LegError, LegFailure, LegLabel, OTHERS_MAX, Report, ScatterError};
use super::ledger::{Account, Outcome};
use super::{Scatter, leg_span};

/// A panic's payload.
pub(super) type Payload = Box<dyn Any + Send>;

/// What the legs are called: a name each, or none and the place in shard order.
#[derive(Clone, Debug)]
pub(super) struct Labels<N>(Vec<N>);

/// The name of one leg.
pub(super) struct Label<'a, N>(Option<&'a N>, usize);

/// A scatter under way. Field order is drop order: the legs go first, then the account is closed.
pub(super) struct Gather<L, N, T, E, F, Fut> {
    /// Legs that were polled once in this turn and are not ready.
    parked: Vec<Leg<Fut>>,
    /// None until a leg is found not ready.
    running: Option<FuturesUnordered<Leg<Fut>>>,
    span: Option<Span>,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: Enumerate<vec::IntoIter<L>>,
    visit: F,
    labels: Labels<N>,
    limit: usize,
    answers: Answers<T>,
    failed: Vec<(usize, LegFailure<E>)>,
    account: Account,
}

/// A started leg.
struct Leg<Fut> {
    ordinal: usize,
    /// Boxed, because it is rarely there.
    span: Option<Box<Span>>,
    slot: Slot<Fut>,
}

/// Where a leg's future lives. An `Option`, so that one allocation serves every leg that is ready
/// at its first poll.
type Slot<Fut> = Pin<Box<Option<Fut>>>;

/// Answers in shard order: the unbroken run from the first shard on needs no tags.
struct Answers<T> {
    run: Vec<T>,
    rest: Vec<Option<T>>,
}

impl<N> Labels<N> {
    pub(super) fn new(names: Vec<N>) -> Self {
        Self(names)
    }

    pub(super) fn at(&self, ordinal: usize) -> Label<'_, N> {
        Label(self.0.get(ordinal), ordinal)
    }
}

impl Labels<usize> {
    pub(super) fn ordinals() -> Self {
        Self(Vec::new())
    }
}

impl<N: fmt::Display> Labels<N> {
    pub(super) fn leg(&self, ordinal: usize) -> LegLabel {
        let name = self.0.get(ordinal).map(|name| name.to_string().into_boxed_str());
        LegLabel::new(ordinal, name)
    }
}

impl<N: fmt::Display> fmt::Display for Label<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => name.fmt(f),
            None => self.1.fmt(f),
        }
    }
}

impl<L, N, T, E, F, Fut> Gather<L, N, T, E, F, Fut>
where
    N: fmt::Display,
    F: FnMut(L) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    pub(super) fn new(
        scatter: Scatter<L, N>,
        visit: F,
        account: Account,
        span: Option<Span>,
    ) -> Self {
        let legs = scatter.legs.len();
        Self {
            parked: Vec::new(),
            running: None,
            span,
            timer: scatter.deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            waiting: scatter.legs.into_iter().enumerate(),
            visit,
            labels: scatter.labels,
            limit: scatter.limit,
            answers: Answers { run: Vec::with_capacity(legs), rest: Vec::new() },
            failed: Vec::new(),
            account,
        }
    }

    /// Runs until every leg has answered or one has failed; a leg's panic is the `Err`.
    pub(super) async fn drive(&mut self) -> Result<(), Payload> {
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| self.turn(cx))) {
            Ok(turn) => turn.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        })
        .await
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.span.clone();
        let _inside = span.as_ref().map(Span::enter);
        self.start(cx);
        if self.failed.is_empty() {
            self.admit();
            self.turn_running(cx);
        }
        self.account.show();
        if !self.failed.is_empty() || self.legs_running() == 0 {
            return Poll::Ready(());
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        for ordinal in self.call_back() {
            self.fail(ordinal, LegFailure::TimedOut);
        }
        Poll::Ready(())
    }

    /// Starts legs in shard order while there is room, and polls each once. Stops at a failure:
    /// it is the lowest shard's of this turn, because every leg before it was just polled.
    fn start(&mut self, cx: &mut Context<'_>) {
        let room = self.limit.saturating_sub(self.legs_running());
        let mut free = None;
        while self.failed.is_empty() && self.parked.len() < room {
            let Some((ordinal, target)) = self.waiting.next() else { return };
            self.account.start();
            let span = self.span.as_ref().map(|span| leg_span(span, &self.labels, ordinal));
            let inside = span.as_ref().map(Span::enter);
            let mut slot: Slot<Fut> = free.take().unwrap_or_else(|| Box::pin(None));
            slot.set(Some((self.visit)(target)));
            let polled = poll_slot(&mut slot, cx);
            drop(inside);
            match polled {
                Poll::Ready(ended) => {
                    self.settle(ordinal, ended);
                    free = Some(slot);
                }
                Poll::Pending => {
                    if self.parked.is_empty() {
                        self.parked.reserve(room.min(1 + self.waiting.len()));
                    }
                    self.parked.push(Leg { ordinal, span: span.map(Box::new), slot });
                }
            }
        }
    }

    /// Gives the parked legs wakers of their own.
    fn admit(&mut self) {
        if !self.parked.is_empty() {
            let running = self.running.get_or_insert_default();
            running.extend(self.parked.drain(..));
        }
    }

    /// Polls the legs that were woken until none is ready, also after a failure: a lower shard's
    /// may be ready in the same turn. Only nothing new is started then.
    fn turn_running(&mut self, cx: &mut Context<'_>) {
        while let Some(running) = &mut self.running
            && let Poll::Ready(Some((ordinal, ended))) = Pin::new(running).poll_next(cx)
        {
            self.settle(ordinal, ended);
            if self.failed.is_empty() {
                self.start(cx);
                self.admit();
            }
        }
    }

    fn legs_running(&self) -> usize {
        self.running.as_ref().map_or(0, FuturesUnordered::len)
    }

    /// Drops the legs that run, and says which they were, in shard order.
    fn call_back(&mut self) -> Vec<usize> {
        let running = self.running.iter().flatten();
        let mut legs: Vec<_> = self.parked.iter().chain(running).map(|leg| leg.ordinal).collect();
        legs.sort_unstable();
        self.parked = Vec::new();
        self.running = None;
        legs
    }

    fn settle(&mut self, ordinal: usize, ended: Result<T, E>) {
        match ended {
            Ok(answer) => {
                self.account.end(Outcome::Ok);
                self.answers.put(ordinal, answer);
            }
            Err(error) => self.fail(ordinal, LegFailure::Failed(error)),
        }
    }

    fn fail(&mut self, ordinal: usize, failure: LegFailure<E>) {
        self.account.end(failure.outcome());
        self.failed.push((ordinal, failure));
    }

    /// Drops the legs that still run and makes the result.
    pub(super) fn finish(mut self) -> Result<Vec<T>, ScatterError<T, E>> {
        if self.failed.is_empty() {
            return Ok(self.answers.into_all());
        }
        let cancelled = self.call_back();
        let labels = self.labels;
        self.failed.sort_unstable_by_key(|&(ordinal, _)| ordinal);
        let others_uncounted = self.failed.len().saturating_sub(1 + OTHERS_MAX);
        let mut errors = (self.failed.into_iter())
            .map(|(ordinal, failure)| LegError::new(labels.leg(ordinal), failure));
        let primary = errors.next().expect("there is a failure, checked above");
        Err(ScatterError::new(Report {
            others: errors.by_ref().take(OTHERS_MAX).collect(),
            others_uncounted,
            gathered: self.answers.into_gathered(&labels),
            cancelled: cancelled.into_iter().map(|ordinal| labels.leg(ordinal)).collect(),
            not_started: self.waiting.map(|(ordinal, _)| labels.leg(ordinal)).collect(),
            ..Report::of(primary)
        }))
    }

    /// Drops the legs one by one after a panic, so that a second one in a leg's destructor neither
    /// stops the others from being dropped nor ends the process.
    pub(super) fn abandon(mut self) {
        self.account.end(Outcome::Failed);
        let parked = mem::take(&mut self.parked);
        let running = self.running.take().into_iter().flatten();
        for leg in parked.into_iter().chain(running) {
            if catch_unwind(AssertUnwindSafe(|| drop(leg))).is_err() {
                tracing::error!("a leg's destructor panicked while a scatter was unwinding");
            }
        }
    }
}

impl<Fut: Future> Future for Leg<Fut> {
    type Output = (usize, Fut::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let leg = &mut *self;
        let _inside = leg.span.as_ref().map(|span| span.enter());
        poll_slot(&mut leg.slot, cx).map(|ended| (leg.ordinal, ended))
    }
}

/// Polls a leg, and drops it at once when it has ended.
fn poll_slot<Fut: Future>(slot: &mut Slot<Fut>, cx: &mut Context<'_>) -> Poll<Fut::Output> {
    let Some(asked) = slot.as_mut().as_pin_mut() else {
        unreachable!("a leg is never polled after it has ended");
    };
    let polled = asked.poll(cx);
    if polled.is_ready() {
        slot.set(None);
    }
    polled
}

impl<T> Answers<T> {
    fn put(&mut self, ordinal: usize, answer: T) {
        let run = self.run.len();
        if ordinal == run && self.rest.is_empty() {
            return self.run.push(answer);
        }
        let place = ordinal - run;
        if place >= self.rest.len() {
            self.rest.resize_with(place + 1, || None);
        }
        self.rest[place] = Some(answer);
    }

    fn into_all(self) -> Vec<T> {
        let mut all = self.run;
        all.extend(self.rest.into_iter().map(|a| a.expect("every leg has answered")));
        all
    }

    fn into_gathered<N: fmt::Display>(self, labels: &Labels<N>) -> Vec<Gathered<T>> {
        let answers = self.run.into_iter().map(Some).chain(self.rest);
        let there = answers.enumerate().filter_map(|(ordinal, a)| a.map(|a| (ordinal, a)));
        there.map(|(ordinal, answer)| Gathered { label: labels.leg(ordinal), answer }).collect()
    }
}
