//! A session on its way through the cores.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::Place;

/// What is carried: a session, from its start to its end.
type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A session's stay on one core. It resolves when the session has ended, or is to go on elsewhere.
///
/// Its wakers, sockets and timers are those of the core that polled it last, or they reach it from
/// the one before: nothing is lost on the way, as it is polled at once when it arrives.
pub(crate) struct Ride {
    /// `None` when the stay is over.
    session: Option<Session>,
    place: Place,
    /// The window in which it was last counted.
    window: Option<usize>,
}

impl Ride {
    /// A session that begins.
    pub(crate) fn begin(session: impl Future<Output = ()> + Send + 'static, place: Place) -> Self {
        Self::go_on(Box::pin(session), place)
    }

    /// A session that comes from another core.
    pub(crate) fn go_on(session: Session, place: Place) -> Self {
        Self { session: Some(session), place, window: None }
    }
}

impl Future for Ride {
    /// The session, if it has not ended.
    type Output = Option<Session>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Session>> {
        let Self { session: riding, place: Place(desk), window } = &mut *self;
        let Some(session) = riding else { return Poll::Ready(None) };
        if session.as_mut().poll(cx).is_ready() {
            *riding = None;
            return Poll::Ready(None);
        }
        let now = desk.window.load(Relaxed);
        if window.replace(now) != Some(now) {
            desk.active.fetch_add(1, Relaxed);
        }
        if desk.departs() { Poll::Ready(riding.take()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests;
