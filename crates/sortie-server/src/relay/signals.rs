//! Cancels, and the endpoint's end, while a session holds a connection.
//!
//! # Invariants
//!
//! 1. A cancel hits what its client has asked for before it, or nothing. What a session sends
//!    ahead of that is not the client's: a cancel that comes meanwhile is remembered, or answered
//!    for what has not been sent.

use std::io;
use std::task::{Context, Poll};

use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, sleep, timeout};

use super::failure::shutting_down;
use super::hold::Unready;
use super::session::{Session, Signals};
use super::shared::Shared;
use crate::listener::DRAIN_MAX;
use crate::session::failure::Failure;

/// How long the end of a cancel is waited for.
pub(super) const CANCEL_MAX: Duration = Duration::from_secs(5);

/// How long a transaction may go on when the endpoint drains: when that is over its client is
/// told so, before the connection is cut.
pub(super) const TRANSACTION_MAX: Duration = DRAIN_MAX.saturating_sub(Duration::from_millis(500));

impl<D: Future<Output = ()>> Signals<'_, '_, D> {
    /// Whether the endpoint drains.
    pub(super) fn is_draining(&mut self, cx: &mut Context<'_>) -> bool {
        if self.deadline.is_none() && self.drained.as_mut().poll(cx).is_ready() {
            self.deadline = Some(Box::pin(sleep(TRANSACTION_MAX)));
        }
        self.deadline.is_some()
    }

    /// Whether it has drained for as long as transactions may go on.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }
}

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
        let Some(held) = &self.held else { return Ok(true) };
        let is_cancelled = self.cancel_due || held.cancelling.is_some();
        if !is_cancelled && !self.is_behind() && signals.quiet.holds(self.key, cx) {
            return Ok(false);
        }
        let (came, is_draining) = self.poll_both(cx, signals);
        let Some(held) = &mut self.held else { return Ok(true) };
        self.cancel_due |= came && held.cancelling.is_none();
        let mut moved = self.cancel_due && self.cancel();
        let Some(held) = &mut self.held else { return Ok(true) };
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
        if self.is_behind() && !self.is_within_a_transaction() {
            self.keep_place()?;
        }
        if is_draining && (!self.is_within_a_transaction() || signals.is_over(cx)) {
            return Err(Failure::Fatal(shutting_down()));
        }
        Ok(moved)
    }

    /// Whether a cancel has come, and whether the endpoint drains.
    pub(super) fn poll_both<D: Future<Output = ()>>(
        &self,
        cx: &mut Context<'_>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> (bool, bool) {
        let asked = self.key.asked();
        let (came, is_draining) = (self.hear_cancel(cx, signals), signals.is_draining(cx));
        if !came && !is_draining {
            signals.quiet.begin(asked, cx);
        }
        (came, is_draining)
    }

    /// Whether something is under way, or may be taken back yet.
    fn is_within_a_transaction(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let server = &held.leased.server;
        let is_idle = server.owed() == 0 && server.status() == Status::Idle;
        !(is_idle && self.out.is_empty() && self.course.is_clear())
    }

    /// Cancels what is under way, as soon as that is the client's: until then the cancel is due.
    /// Returns whether something is to be done again.
    fn cancel(&mut self) -> bool {
        let Some(held) = &mut self.held else { return false };
        if self.course.is_unset() {
            // Nothing of the client's has been sent yet, and nothing will be.
            let cancels = !matches!(self.unready, Some(Unready::Unclean(_)));
            if cancels {
                self.unready = Some(Unready::Cancelled);
                self.cancel_due = false;
            }
            return cancels;
        }
        // Whether something may run: a batch does before its Sync has come.
        let owed = held.leased.server.owed() > 0 || !self.course.is_answered();
        if owed && !self.course.is_replaying() {
            self.cancel_due = false;
            self.lanes.cancelled();
            let key = held.leased.server.cancel_key().clone();
            held.cancelling = Some(Box::pin(async move {
                timeout(CANCEL_MAX, key.cancel())
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }));
            return true;
        }
        if !owed && self.out.is_empty() {
            self.forget_cancel();
        }
        false
    }

    /// What a cancel was for is over: it hits nothing any more.
    pub(super) fn forget_cancel(&mut self) {
        if std::mem::take(&mut self.cancel_due) {
            self.key.settle();
        }
    }
}
