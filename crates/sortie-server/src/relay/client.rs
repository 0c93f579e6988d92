//! A client's connection, both directions at once.
//!
//! # Invariants
//!
//! 1. Nothing is read ahead while more than `AHEAD_MAX` bytes are not taken.
//! 2. A client that takes nothing of what is written to it for `stall_max` is given up.
//! 3. While it takes nothing, or owes the rest of a request, what is there counts: see
//!    [`budget`](crate::budget).
//! 4. While nothing is in a buffer, a resting connection has none.
//! 5. A client that has closed may only have closed its sending half: what it has asked for goes
//!    on for `GRACE`, and no longer, as it may as well be gone.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::buffers;
use crate::budget::Holding;
use crate::session::line::Line;

/// What is read at a time, in bytes.
const READ_LEN: usize = 16 << 10;

/// Bytes that are read and not taken, beyond which nothing is read. A frame may be longer where
/// somebody waits for the whole of it: see `room_for`.
const AHEAD_MAX: usize = 64 << 10;

/// How long a client that is told that it must go may go on sending.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// How long a client that sends no more may wait for the rest of its answers.
const GRACE: Duration = Duration::from_millis(500);

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client<S> {
    stream: Line<S>,
    /// What was read and not taken.
    pub(super) input: BytesMut,
    /// What was said and not written.
    pub(super) output: BytesMut,
    pub(super) stall_max: Duration,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// Bytes that the frame in front needs, if it is long.
    room: usize,
    /// Runs since the client has closed.
    grace: Option<Pin<Box<Sleep>>>,
    /// Bytes that have come from it so far, and have gone to it.
    traffic: (u64, u64),
    /// Something is being written that nobody could go on with.
    is_within: bool,
    /// The rest of what was read must come before anything can be done.
    owes: bool,
    /// What of it counts.
    pub(super) holding: Holding,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(
        (stream, input, output): (Line<S>, BytesMut, BytesMut),
        stall_max: Duration,
        holding: Holding,
    ) -> Self {
        let (stall, room, grace) = Default::default();
        let (traffic, is_within, owes) = Default::default();
        Self {
            stream,
            input,
            output,
            stall_max,
            stall,
            room,
            grace,
            traffic,
            is_within,
            owes,
            holding,
        }
    }

    /// The frame in front is so long, and is wanted as a whole.
    pub(super) fn room_for(&mut self, frame: usize) {
        self.room = frame;
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.input.len() < AHEAD_MAX.max(self.room)
    }

    /// Whether nothing of what was read or said is left.
    pub(super) fn is_even(&self) -> bool {
        self.input.is_empty() && self.output.is_empty()
    }

    /// How many bytes have come from the client so far, and have gone to it.
    pub(super) fn traffic(&self) -> (u64, u64) {
        self.traffic
    }

    /// Whether the last that the client has got is a part of something that was being written.
    pub(super) fn is_within(&self) -> bool {
        self.is_within
    }

    /// Whether the client sends no more.
    pub(super) fn has_closed(&self) -> bool {
        self.grace.is_some()
    }

    /// Whether it takes nothing now of what is written.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// What was read is a part of a request, and nothing can be done before the rest comes; or
    /// that is over.
    pub(super) fn owes(&mut self, owes: bool) {
        self.owes = owes;
        self.hold(0);
    }

    /// Counts what it has, and so many bytes of an answer that others may share, if it counts.
    fn hold(&mut self, shared: usize) {
        let is_long = self.input.capacity() > buffers::KEPT_MAX;
        if self.owes || self.stall.is_some() || is_long || !self.holding.is_nothing() {
            self.count(shared);
        }
    }

    #[cold]
    fn count(&mut self, shared: usize) {
        let waits = self.owes || self.stall.is_some();
        let buffers = [self.input.capacity(), self.output.capacity()];
        let counted = buffers.into_iter().filter(|room| waits || *room > buffers::KEPT_MAX);
        self.holding.set(counted.sum(), shared, waits);
    }

    /// Reads ahead what there is room for; resolves when the client is gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.has_room() {
            // Once more after bytes came: only a read that finds none leaves a waker.
            if let Err(gone) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(gone);
            }
        }
        Poll::Pending
    }

    /// Reads what is there, at least one byte.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` some time after the client has closed, and what the connection fails with.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(grace) = &mut self.grace {
            ready!(grace.as_mut().poll(cx));
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        let mut room = [MaybeUninit::uninit(); READ_LEN];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            self.grace = Some(Box::pin(sleep(GRACE)));
            return self.poll_fill(cx);
        }
        buffers::borrow(&mut self.input);
        self.input.extend_from_slice(read.filled());
        self.traffic.0 += read.filled().len() as u64;
        Poll::Ready(Ok(()))
    }

    /// Writes what was said; ready when all of it is written.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the client stalls, and what the connection fails with.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.traffic.1 += written as u64;
                    self.stall = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stalled(cx, 0),
            }
        }
        if self.stream.is_encrypted() {
            ready!(self.poll_encrypted(cx))?;
        }
        self.hold(0);
        Poll::Ready(Ok(()))
    }

    /// Writes what the encryption still holds.
    fn poll_encrypted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) {
            self.stall = None;
            return Poll::Ready(flushed);
        }
        self.poll_stalled(cx, 0)
    }

    /// The client takes nothing, of these bytes of an answer neither.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, shared: usize) -> Poll<io::Result<()>> {
        let stall_max = self.stall_max;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        let is_over = stall.as_mut().poll(cx).is_ready();
        self.hold(shared);
        if !is_over {
            return Poll::Pending;
        }
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    /// Writes what was said, and `bytes` behind it.
    ///
    /// # Errors
    ///
    /// As [`Client::poll_flush`].
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        self.traffic.1 += bytes.len() as u64;
        self.is_within = true;
        std::future::poll_fn(|cx| self.poll_write(cx, &mut bytes)).await?;
        self.is_within = false;
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        while bytes.has_remaining() {
            match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    bytes.advance(written);
                    self.stall = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stalled(cx, bytes.len()),
            }
        }
        self.hold(0);
        Poll::Ready(Ok(()))
    }

    /// Gives back the buffers that are empty.
    pub(super) fn rest(&mut self) {
        buffers::give_back(&mut self.input);
        buffers::give_back(&mut self.output);
        self.owes &= !self.input.is_empty();
        self.hold(0);
    }

    /// Writes what was said and closes this direction; a client that is gone does not matter.
    ///
    /// What a client is still sending is taken for a while and thrown away: closing over it resets
    /// the connection, and the client may never read what was said.
    pub(super) async fn close(mut self) {
        let ended = self.holding.ended();
        let is_said = tokio::select! {
            said = std::future::poll_fn(|cx| self.poll_flush(cx)) => said.is_ok(),
            () = ended => false,
        };
        if !is_said {
            return;
        }
        let _closed = timeout(self.stall_max, self.stream.shutdown()).await;
        let rest = std::future::poll_fn(|cx| {
            if self.has_closed() {
                return Poll::Ready(());
            }
            while !self.input.is_empty() {
                self.input.clear();
                if ready!(self.poll_fill(cx)).is_err() {
                    break;
                }
            }
            Poll::Ready(())
        });
        let _taken = timeout(LINGER_MAX, rest).await;
    }
}
