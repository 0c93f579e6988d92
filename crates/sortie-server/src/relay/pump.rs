//! Moves bytes between a client and the server connection that its session holds.
//!
//! # Invariants
//!
//! 1. The server is read only while less than `EGRESS_MAX` bytes wait for the client, and the
//!    client only while less than `INGRESS_MAX` bytes wait for the server: who is slow stalls the
//!    other side, and nothing piles up here.
//! 2. Both directions move in one task, so that two sides that both write can't block each other.
//! 3. A client that says Terminate, or what is no message, behind what is not answered is answered
//!    first, as it would be by PostgreSQL: the server is told to end, and its end is the session's.
//! 4. While a cancel is on its way to the server, nothing new is sent there.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::amid::Amid;
use super::buffers;
use super::course::Verified;
use super::decide::{self, BEGIN_LEN, FRAME_MAX};
use super::effect::Reason;
use super::frames::{self, Head};
use super::hold::Unready;
use super::insight::Foreseen;
use super::session::{Session, Signals, lost};
use super::shared::{PipeReason, Shared};
use crate::session::failure::Failure;

/// Bytes that may wait for a client before no more are read from its server, and nothing more is
/// answered that needs none.
pub(super) const EGRESS_MAX: usize = 64 << 10;

/// Bytes that may wait for a server before no more are read from its client.
const INGRESS_MAX: usize = 64 << 10;

/// The last frame of a session.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Has a server say what it would keep back up to the next Sync.
const FLUSH: &[u8] = b"H\0\0\0\x04";

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
            Stop::AtRest => {
                self.forget_cancel();
                Ok(())
            }
            Stop::Lost(error) => self.lose(&error),
            Stop::Unready(why) => {
                self.forsake(why);
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
                if !self.client.input.is_empty() {
                    // What had no room in front of this.
                    self.accept()?;
                }
                moved = !self.out.is_empty();
            }
            let Some(held) = &mut self.held else { return Poll::Ready(Ok(Stop::AtRest)) };
            let replaying = self.course.is_replaying();
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
            if let Some(why) = self.take_unready() {
                return Poll::Ready(Ok(Stop::Unready(why)));
            }
            // It is sent again, and goes on its way here; or it waited for room, or for the end of
            // a replay.
            let is_again = self.course.mend.is_again() && self.course.is_clear();
            let has_waited = moved && (replaying || !self.is_at_rest());
            if (is_again || has_waited) && !self.client.input.is_empty() {
                self.accept()?;
                moved = true;
            }
            if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
                flushed?;
                // Nobody has asked the server yet.
                moved |= is_full;
            }
            if self.is_at_rest() {
                return Poll::Ready(Ok(Stop::AtRest));
            }
            if self.leaving.is_none()
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

    /// Passes on what the client has sent, as far as it is complete and the session needs its
    /// connection for it.
    pub(super) fn accept(&mut self) -> Result<(), Failure> {
        if self.course.is_replaying() || self.course.is_lacking() || self.course.mend.has_failed() {
            // Nothing of the client's may run before the connection is as its session wants it,
            // or ahead of what is sent again.
            return Ok(());
        }
        if self.begin_there() {
            return Ok(());
        }
        while self.out.len() < INGRESS_MAX && self.leaving.is_none() {
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
            if !self.course.mend.is_again() && !self.foresee() {
                break;
            }
            let input = &mut self.client.input;
            let head = match frames::head(input) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(tag) => return self.leave(lost(tag)),
            };
            if head.tag == b'X' {
                self.leave(Failure::Gone)?;
                break;
            }
            if !decide::is_known(head.tag) {
                return self.leave(lost(head.tag));
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
        self.course.mend.give_up();
        self.count(tag);
        buffers::borrow(&mut self.out);
        self.dropping = self.cluster.shards() > 1 && tag != b'd' && self.refuse(begin);
        if !self.dropping {
            let begin = &self.client.input[..begin];
            self.course.send_unread(&mut self.ledger, begin, status, &mut self.out);
        }
        true
    }

    /// The client has said Terminate, or something after which nobody knows where its next message
    /// begins: the session ends for that when everything before it is answered.
    fn leave(&mut self, why: Failure) -> Result<(), Failure> {
        let under_way = !self.course.is_clear() || !self.out.is_empty();
        match &mut self.held {
            Some(held) if under_way || held.leased.server.owed() > 0 => {
                held.leased.server.doom();
                if matches!(why, Failure::Fatal(_)) {
                    self.out.extend_from_slice(FLUSH);
                }
                self.out.extend_from_slice(TERMINATE);
                self.leaving = Some(why);
                Ok(())
            }
            _ => Err(why),
        }
    }

    /// Passes one whole frame on. Returns whether it can go already.
    pub(super) fn forward(&mut self, Head { tag, len }: Head) -> bool {
        match self.answer_amid(tag, len) {
            Amid::Passes => {}
            Amid::Waits => return false,
            Amid::Answered => return true,
        }
        let Some(held) = &self.held else { return false };
        let status = held.leased.server.status();
        if self.course.must_wait(&self.ledger, &self.client.input[..len], status) {
            return false;
        }
        buffers::borrow(&mut self.out);
        let (frame, tells) = (&self.client.input[..len], frames::tells(&self.client.input));
        match self.course.verify(&self.ledger, frame, (status, tells), &mut self.out) {
            Verified::Ready => {}
            Verified::Waits => {
                // For what stands behind it.
                self.client.room_for(len + BEGIN_LEN);
                return false;
            }
            Verified::Fails(error) => {
                let _is_again = self.course.mend.pass(len);
                self.course.mend.give_up();
                self.course.fail_extended(*error, &mut self.out);
                self.client.input.advance(len);
                return true;
            }
        }
        let is_again = self.course.mend.pass(len);
        if !(self.cluster.shards() > 1 && self.refuse(len)) {
            if !is_again && !self.course.is_skipping() {
                self.count(tag);
            }
            self.keep(len, is_again);
            self.look_behind(len);
            let frame = &self.client.input[..len];
            self.course.send(&mut self.ledger, frame, status, &mut self.out);
        }
        self.client.input.advance(len);
        self.pass_foreseen(len);
        true
    }

    /// A statement that may run what its text does not say may leave anything.
    fn look_behind(&mut self, len: usize) {
        let frame = &self.client.input[..len];
        let text = match frame[0] {
            b'Q' => frames::text(&frame[frames::HEADER_LEN..]).map(|(text, _)| text),
            b'P' => frames::parse(frame).map(|parse| parse.text),
            _ => None,
        };
        let hides = |text| self.world.lane.hides(self.cluster.index, text);
        if text.is_some_and(hides) {
            self.course.soil(&mut self.ledger, Reason::Function);
        }
    }

    /// Counts a statement that takes the pipe.
    pub(super) fn count(&mut self, tag: u8) {
        let Some(held) = &self.held else { return };
        if !matches!(tag, b'Q' | b'E' | b'F') {
            return;
        }
        let begun = held.foreseen == Some(Foreseen::Begun);
        let (cause, within) = self.noticed.take();
        let reason = match held.leased.server.status() {
            _ if self.ledger.dirty().is_some() => PipeReason::Dirty,
            _ if within => held.reason,
            Status::Idle if !begun => held.reason,
            _ => PipeReason::Transaction,
        };
        drop(self.inner.stats.statement());
        self.meter.sends();
        self.lanes.piped(reason);
        // What comes behind the first one was not looked at for itself.
        let cause = cause.filter(|cause| cause.reason == reason);
        let cause = cause.unwrap_or_else(|| Arc::clone(self.cluster.insight.other(reason)));
        cause.count();
        self.timed = Some(cause);
    }

    /// Follows what has changed about the session itself.
    pub(super) fn follow(&mut self) {
        if let Some(held) = &mut self.held {
            held.is_apart = self.course.here.is_apart;
            if self.course.is_spoiled() {
                held.leased.server.doom();
            }
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
}
