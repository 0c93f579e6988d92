//! A load that runs: in its lineage and its span, its panics contained, its failures tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tracing::Span;

use crate::rt::time::{self, Sleep};
use crate::singleflight::call::FlightCx;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{Load, Loading};
use crate::singleflight::lineage::{self, Frame};
use crate::singleflight::party::Outcome;
use crate::singleflight::retry::Again;

/// A load that polls inside its lineage and its span, and whose panic is an outcome.
pub(super) struct Contained<V, E> {
    stage: Stage<V, E>,
    frames: Vec<Frame>,
    span: Span,
    again: Option<Box<Again<V, E>>>,
}

enum Stage<V, E> {
    Begin(Load<V, E>, FlightCx),
    Runs(Loading<V, E>),
    /// Has failed, and is tried again.
    Waits(Pin<Box<Sleep>>),
    Over,
}

impl<V, E> Contained<V, E> {
    pub(super) fn running(loading: Loading<V, E>, frames: Vec<Frame>, span: Span) -> Self {
        Self { stage: Stage::Runs(loading), frames, span, again: None }
    }

    /// A load that is called in its first poll.
    pub(super) fn begin(load: Load<V, E>, cx: FlightCx, frames: Vec<Frame>, span: Span) -> Self {
        Self { stage: Stage::Begin(load, cx), frames, span, again: None }
    }

    /// Lets it try again.
    pub(super) fn again(mut self, again: Option<Again<V, E>>) -> Self {
        self.again = again.map(Box::new);
        self
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    fn poll_stage(stage: &mut Stage<V, E>, task: &mut Context<'_>) -> Poll<Outcome<V, E>> {
        if let Stage::Begin(load, cx) = stage {
            *stage = Stage::Runs(load(cx.clone()));
        }
        let Stage::Runs(loading) = stage else { unreachable!("it runs, or is not polled") };
        let ended = loading.as_mut().poll(task);
        if ended.is_ready() {
            // The load's own things are released before anybody is told of its outcome.
            *stage = Stage::Over;
        }
        ended
    }
}

impl<V, E> Contained<V, E> {
    /// Polls one attempt.
    fn attempt(&mut self, task: &mut Context<'_>) -> Poll<Outcome<V, E>> {
        let Self { stage, frames, span, .. } = self;
        let work = AssertUnwindSafe(|| span.in_scope(|| Self::poll_stage(stage, task)));
        match lineage::inside(|stack| stack.extend_from_slice(frames), || catch_unwind(work)) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(Err(FlightError::panicked(&*payload))),
        }
    }
}

impl<V, E> Future for Contained<V, E> {
    type Output = Outcome<V, E>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        // At most `retries_max` rounds begin another attempt.
        loop {
            let this = &mut *self;
            if let (Stage::Waits(pause), Some(again)) = (&mut this.stage, &this.again) {
                ready!(pause.as_mut().poll(task));
                let (load, cx) = (Arc::clone(&again.load), again.cx.clone());
                this.stage = Stage::Begin(load, cx);
            }
            let ended = ready!(self.attempt(task));
            let again = self.again.as_mut();
            let Some(pause) = again.and_then(|again| again.pause(&ended)) else {
                return Poll::Ready(ended);
            };
            self.stage = Stage::Waits(Box::pin(time::sleep(pause)));
        }
    }
}
