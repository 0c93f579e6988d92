//! Cancels, and the server's end, while a session holds a connection.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, timeout};

use super::session::{Session, Signals, shutting_down};
use super::shared::Shared;
use crate::session::failure::Failure;

/// How long the end of a cancel is waited for.
pub(super) const CANCEL_MAX: Duration = Duration::from_secs(5);

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Looks after cancels and the server's end. Returns whether something is to be done again.
    pub(super) fn poll_signals<D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<bool, Failure> {
        let came = self.hear_cancel(cx, signals);
        let Some(held) = &mut self.held else { return Ok(true) };
        let owed = held.leased.server.owed() > 0;
        // A replay is not the client's: what it wants cancelled has not been sent yet.
        let running = owed && !self.course.is_replaying();
        if came && !running && held.cancelling.is_none() {
            self.key.settle();
        }
        if came && running && held.cancelling.is_none() {
            self.lanes.cancelled();
            let key = held.leased.server.cancel_key().clone();
            held.cancelling = Some(Box::pin(async move {
                timeout(CANCEL_MAX, key.cancel())
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }));
        }
        let mut moved = false;
        if let Some(cancelling) = &mut held.cancelling
            && let Poll::Ready(ended) = cancelling.as_mut().poll(cx)
        {
            held.cancelling = None;
            self.key.settle();
            moved = true;
            if let Err(error) = ended {
                // It may hit at any later time: nobody may have the connection after this.
                tracing::debug!(%error, "a cancel request failed");
                held.leased.server.doom();
            }
        }
        let quiet = !owed && self.out.is_empty();
        if quiet && signals.drained.as_mut().poll(cx).is_ready() {
            return Err(Failure::Fatal(shutting_down()));
        }
        Ok(moved)
    }
}
