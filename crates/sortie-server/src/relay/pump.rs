//! Moves bytes between a client and the server connection that its session holds.
//!
//! # Invariants
//!
//! 1. The server is read only while less than `EGRESS_MAX` bytes wait for the client, and the
//!    client only while less than `INGRESS_MAX` bytes wait for the server: who is slow stalls the
//!    other side, and nothing piles up here.
//! 2. Both directions move in one task, so that two sides that both write can't block each other.
//! 3. A client that says Terminate behind what is not answered is answered first, as it would be
//!    by PostgreSQL: the server is told as well, and its end is the session's.
//! 4. While a cancel is on its way to the server, nothing new is sent there.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use sortie_postgres::backend::{Severity, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, timeout};

use super::course::Heard;
use super::decide::{self, BEGIN_LEN, FRAME_MAX};
use super::frames::{self, Head};
use super::hold::Unready;
use super::rebuild::Change;
use super::session::{Session, Signals, lost, shutting_down};
use super::shared::{PipeReason, Shared};
use super::{buffers, failure as server_failure};
use crate::session::failure::{self, Failure};

/// Bytes that may wait for a client before no more are read from its server.
const EGRESS_MAX: usize = 64 << 10;

/// Bytes that may wait for a server before no more are read from its client.
const INGRESS_MAX: usize = 64 << 10;

/// How long the end of a cancel is waited for.
pub(super) const CANCEL_MAX: Duration = Duration::from_secs(5);

/// The last frame of a session.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Why moving bytes ends.
enum Stop {
    /// The session needs no connection.
    AtRest,
    /// The connection is lost.
    Lost(io::Error),
    /// The connection could not be made the session's own.
    Unready(Unready),
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Moves bytes until the session needs no connection, or has lost it.
    pub(super) async fn pump<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        match poll_fn(|cx| self.poll_pump(cx, signals)).await? {
            Stop::AtRest => Ok(()),
            Stop::Lost(error) => self.lose(&error),
            Stop::Unready(why) => {
                self.forsake(&why);
                Ok(())
            }
        }
    }

    fn poll_pump<D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Poll<Result<Stop, Failure>> {
        loop {
            let mut moved = false;
            let Some(held) = &mut self.held else { return Poll::Ready(Ok(Stop::AtRest)) };
            if !self.out.is_empty()
                && held.cancelling.is_none()
                && let Poll::Ready(sent) = held.leased.server.poll_send(cx, &mut self.out)
            {
                if let Err(error) = sent {
                    return Poll::Ready(Ok(Stop::Lost(error)));
                }
                // What had no room in front of this.
                self.accept()?;
                moved = !self.out.is_empty();
            }
            let Some(held) = &mut self.held else { return Poll::Ready(Ok(Stop::AtRest)) };
            let is_full = self.client.output.len() >= EGRESS_MAX;
            if !is_full {
                buffers::borrow(&mut self.client.output);
                let output = &mut self.client.output;
                let received = held.leased.server.poll_receive(cx, output, &mut self.events);
                if let Poll::Ready(received) = received {
                    moved = true;
                    held.leased.pulse.heard();
                    self.hear();
                    if let Err(error) = received {
                        return Poll::Ready(Ok(Stop::Lost(error)));
                    }
                }
            }
            if let Some(why) = self.unready.take() {
                return Poll::Ready(Ok(Stop::Unready(why)));
            }
            if moved && !self.client.input.is_empty() && !self.is_at_rest() {
                // It waited for room, or for the end of a replay.
                self.accept()?;
            }
            if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
                flushed?;
                // Nobody has asked the server yet.
                moved |= is_full;
            }
            if self.is_at_rest() {
                return Poll::Ready(Ok(Stop::AtRest));
            }
            if !self.leaving
                && self.out.len() < INGRESS_MAX
                && self.client.has_room()
                && let Poll::Ready(filled) = self.client.poll_fill(cx)
            {
                moved = true;
                filled?;
                self.accept()?;
            }
            moved |= self.poll_signals(cx, signals)?;
            if !moved {
                return self.poll_silence(cx);
            }
        }
    }

    /// Waits on, unless the server is given up and owes something.
    fn poll_silence(&self, cx: &mut Context<'_>) -> Poll<Result<Stop, Failure>> {
        self.present.register(cx.waker());
        let Some(held) = &self.held else { return Poll::Pending };
        match held.leased.silence(&self.cluster) {
            Some(error) if held.leased.server.owed() > 0 || !self.out.is_empty() => {
                Poll::Ready(Ok(Stop::Lost(error)))
            }
            _ => Poll::Pending,
        }
    }

    /// Looks after cancels and the server's end. Returns whether something is to be done again.
    fn poll_signals<D: Future<Output = ()>>(
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

    /// Passes on what the client has sent, as far as it is complete and the session needs its
    /// connection for it.
    pub(super) fn accept(&mut self) -> Result<(), Failure> {
        if self.course.is_replaying() {
            // Nothing of the client's may run before the connection is as its session wants it.
            return Ok(());
        }
        while self.out.len() < INGRESS_MAX && !self.leaving {
            let input = &mut self.client.input;
            if self.passing > 0 {
                if input.is_empty() {
                    break;
                }
                let passed = self.passing.min(input.len());
                if !self.dropping {
                    buffers::borrow(&mut self.out);
                    self.out.extend_from_slice(&input[..passed]);
                }
                input.advance(passed);
                self.passing -= passed;
                self.dropping &= self.passing > 0;
                if self.is_at_rest() {
                    // It was refused, and answered, before its end was here: what comes next is
                    // looked at for itself.
                    break;
                }
                continue;
            }
            let head = match frames::head(input) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(tag) => return Err(lost(tag)),
            };
            if head.tag == b'X' {
                self.leave()?;
                break;
            }
            if !decide::is_known(head.tag) {
                return Err(lost(head.tag));
            }
            if head.tag == b'd' || (head.len > FRAME_MAX && input.len() < head.len) {
                if !self.pass(head) {
                    break;
                }
                continue;
            }
            if input.len() < head.len {
                self.client.room_for(head.len);
                break;
            }
            if !self.forward(head) {
                break;
            }
        }
        self.follow();
        Ok(())
    }

    /// Passes a frame on as it comes, unread. Returns whether it can go already.
    fn pass(&mut self, Head { tag, len }: Head) -> bool {
        let Some(held) = &self.held else { return false };
        let status = held.leased.server.status();
        let begin = &self.client.input[..self.client.input.len().min(BEGIN_LEN)];
        let is_readable = tag == b'd' || begin.len() == BEGIN_LEN;
        if !is_readable || self.course.must_wait(&self.ledger, begin, status) {
            return false;
        }
        let begin = begin.len();
        self.passing = len;
        self.count(tag);
        buffers::borrow(&mut self.out);
        self.dropping = self.cluster.shards() > 1 && tag != b'd' && self.refuse(begin);
        if !self.dropping {
            let begin = &self.client.input[..begin];
            self.course.send_unread(&mut self.ledger, begin, status, &mut self.out);
        }
        true
    }

    /// The client has said Terminate, and reads on until everything before it is answered.
    fn leave(&mut self) -> Result<(), Failure> {
        let under_way = !self.course.is_clear() || !self.out.is_empty();
        match &mut self.held {
            Some(held) if under_way || held.leased.server.owed() > 0 => {
                held.leased.server.doom();
                self.out.extend_from_slice(TERMINATE);
                self.leaving = true;
                Ok(())
            }
            _ => Err(Failure::Gone),
        }
    }

    /// Passes one whole frame on. Returns whether it can go already.
    fn forward(&mut self, Head { tag, len }: Head) -> bool {
        let Some(held) = &self.held else { return false };
        let status = held.leased.server.status();
        if self.course.must_wait(&self.ledger, &self.client.input[..len], status) {
            return false;
        }
        buffers::borrow(&mut self.out);
        if !(self.cluster.shards() > 1 && self.refuse(len)) {
            if !self.course.is_skipping() {
                self.count(tag);
            }
            let frame = &self.client.input[..len];
            self.course.send(&mut self.ledger, frame, status, &mut self.out);
        }
        self.client.input.advance(len);
        true
    }

    /// Counts a statement that takes the pipe.
    fn count(&mut self, tag: u8) {
        let Some(held) = &self.held else { return };
        if !matches!(tag, b'Q' | b'E' | b'F') {
            return;
        }
        let reason = match held.leased.server.status() {
            _ if self.ledger.dirty().is_some() => PipeReason::Dirty,
            Status::Idle => held.reason,
            _ => PipeReason::Transaction,
        };
        drop(self.inner.stats.statement());
        self.lanes.piped(reason);
    }

    /// Follows what has changed about the session itself.
    pub(super) fn follow(&mut self) {
        if self.course.is_spoiled()
            && let Some(held) = &mut self.held
        {
            held.leased.server.doom();
        }
        for reason in self.course.take_soiled() {
            self.lanes.soiled(reason);
        }
        match (self.ledger.dirty(), &self.dirty) {
            (Some(_), None) => self.dirty = Some(self.lanes.dirty()),
            (None, Some(_)) => self.dirty = None,
            _ => {}
        }
    }

    /// Takes in what the server has sent: nearly all of it stays where it was read to.
    fn hear(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        let mut changes: Vec<(usize, Change)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let status = event.status(&self.client.output);
            let unset = self.course.is_unset();
            if unset && event.tag == b'E' && event.ends() {
                let body = event.body(&self.client.output).unwrap_or_default();
                let error = server_failure::unready(body);
                // The first error says what became of the others.
                let cleaning = self.course.is_cleaning();
                self.unready.get_or_insert(if cleaning {
                    Unready::Unclean(error)
                } else {
                    Unready::Unset(error)
                });
            }
            match self.course.hear(&mut self.ledger, event.tag, event.ends(), status) {
                Heard::Pass => {}
                Heard::Swallow => {
                    let over = unset && !self.course.is_unset();
                    if over {
                        self.unclean = 0;
                    }
                    changes.push((at, if over { Change::Compare } else { Change::Swallow }));
                }
                Heard::Replace(error) => changes.push((at, Change::Replace(error))),
            }
        }
        if self.unready.is_some() {
            // Nothing in it is the client's.
            self.client.output.truncate(events.first().map_or(0, |event| event.start));
        } else if !changes.is_empty() {
            self.rebuild(&events, changes);
        }
        events.clear();
        self.events = events;
        if self.course.take_reported()
            && let Some(held) = &self.held
        {
            self.known = Arc::new(held.leased.server.parameters().clone());
        }
        for (name, value) in self.course.take_switched() {
            // The server has accepted it as a parameter that it does not know.
            let shards = self.cluster.shards();
            if name.as_ref() != "sortie.shard"
                && let Err(error) = self.switches.set(&name, value.as_deref(), shards)
            {
                failure::say(&mut self.client.output, Severity::Warning, &error);
            }
        }
        self.follow();
        let idle = self.held.as_ref().is_some_and(|held| held.leased.server.is_idle());
        if idle && self.out.is_empty() && !self.course.is_answered() {
            // Something was counted otherwise than the server did it.
            self.course.settle();
            self.course.lose_count(&mut self.ledger);
        }
    }
}
