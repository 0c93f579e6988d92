//! A load, with all that it takes to leave it to others: one allocation.
//!
//! Most loads are polled by their leader alone. What others need of a load (its closure, to begin
//! it once more; whom to wake; where to run it) lies beside it and is only taken apart for them.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;
use tracing::Span;
use tracing::span::Id;

use crate::rt::task::Handle;
use crate::rt::time::Instant;
use crate::singleflight::call::FlightCx;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{self, Load};
use crate::singleflight::party::Outcome;

/// A load of whatever type. Polled inside its span while it is its leader's.
pub(super) type Resting<V, E> = Pin<Box<dyn Leavable<V, E>>>;

/// A load that may be left to others.
pub(super) trait Leavable<V, E>: Future<Output = Outcome<V, E>> + Send {
    /// What is known of its leader, if that has polled it and will do so again.
    fn rest(&self) -> Option<&Rest>;

    fn rest_mut(self: Pin<&mut Self>) -> &mut Option<Rest>;

    /// Begins the load once more. To be taken once.
    fn load(self: Pin<&mut Self>) -> Load<V, E>;
}

/// What is known of the leader of a load that it polls.
pub(super) struct Rest {
    /// The runtime that the load is to run in.
    pub(super) handle: Handle,
    /// Boxed: it is large, and most loads have none.
    pub(super) span: Option<Box<Span>>,
    pub(super) waker: Waker,
    pub(super) until: Option<Instant>,
}

pin_project! {
    /// A load in its leader's hands.
    pub(super) struct Lone<L, F> {
        load: Option<L>,
        rest: Option<Rest>,
        // `None` before it has begun and when it has ended.
        #[pin]
        loading: Option<F>,
    }
}

impl Rest {
    pub(super) fn span_id(&self) -> Option<Id> {
        self.span.as_ref().and_then(|span| span.id())
    }
}

impl<L, F> Lone<L, F>
where
    L: Fn(FlightCx) -> F,
{
    #[inline]
    pub(super) fn new(load: L) -> Pin<Box<Self>> {
        // Made in its place, and not copied there.
        let place = Box::new_uninit();
        Box::into_pin(Box::write(place, Self { load: Some(load), rest: None, loading: None }))
    }

    /// Begins it, and polls it for the first time.
    #[inline]
    pub(super) fn begin<V, E>(
        self: Pin<&mut Self>,
        cx: FlightCx,
        task: &mut Context<'_>,
    ) -> Poll<Outcome<V, E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        let mut this = self.project();
        let load = this.load.as_ref().expect("it is taken by whoever comes later");
        this.loading.set(Some(load(cx)));
        Self::polled(this.loading, task)
    }

    #[inline]
    fn polled<V, E>(mut loading: Pin<&mut Option<F>>, task: &mut Context<'_>) -> Poll<Outcome<V, E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        let running = loading.as_mut().as_pin_mut().expect("it runs when it is polled");
        let ended = ready!(running.poll(task));
        // The load's own things are released before anybody is told of its outcome.
        loading.set(None);
        Poll::Ready(ended.map_err(FlightError::failed))
    }

    /// Its leader has polled it for the first time, and will do so again.
    #[inline]
    pub(super) fn rests(self: Pin<&mut Self>, rest: Rest) {
        let none = self.project().rest.replace(rest);
        debug_assert!(none.is_none(), "it rests for the first time");
        // Which says so to the compiler, where nothing is asserted.
        mem::forget(none);
    }
}

impl<L, F, V, E> Future for Lone<L, F>
where
    L: Fn(FlightCx) -> F,
    F: Future<Output = Result<V, E>>,
{
    type Output = Outcome<V, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.rest.as_ref().and_then(|rest| rest.span.as_deref()).map(Span::enter);
        Self::polled(this.loading, task)
    }
}

impl<L, F, V, E> Leavable<V, E> for Lone<L, F>
where
    L: Fn(FlightCx) -> F + Send + Sync + 'static,
    F: Future<Output = Result<V, E>> + Send + 'static,
    E: 'static,
{
    fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    fn rest_mut(self: Pin<&mut Self>) -> &mut Option<Rest> {
        self.project().rest
    }

    fn load(self: Pin<&mut Self>) -> Load<V, E> {
        let load = self.project().load.take().expect("taken once");
        launch::load(load)
    }
}
