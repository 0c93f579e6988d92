//! Bytes out and in, as they are, and the count of what they are.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::Connection;
use crate::scan::Event;
use crate::walk::HEADER_LEN;

/// A read is given so much room at least, in bytes; less and the buffer grows.
const ROOM_MIN: usize = 4 * 1024;

/// By how much a buffer that is full grows, in bytes.
const ROOM_STEP: usize = 16 * 1024;

/// How many pieces go into one write.
const SLICES_MAX: usize = 16;

impl Connection {
    /// Sends whole or partial frames, in one write where the socket takes it.
    ///
    /// A server that is not read from may stop reading: whoever sends more than a socket buffer
    /// takes must receive meanwhile, with [`Connection::poll_send`] and
    /// [`Connection::poll_receive`] in one task.
    ///
    /// Dropping the future leaves in `frames` what has not been sent.
    ///
    /// # Errors
    ///
    /// The socket's errors; the connection is broken then.
    pub async fn send(&mut self, frames: &mut impl Buf) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, frames)).await
    }

    /// Waits for bytes from the server, and appends them to `into` and what is in them to
    /// `events`. The events' offsets count from the start of `into`.
    ///
    /// One call reads once: at most the room that `into` has, or 16 KiB if that is little. While
    /// nothing comes, what was sent and has not gone out yet goes out. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// The socket's errors; its end (`UnexpectedEof`); bytes that are not the protocol
    /// (`InvalidData`, with a [`StreamError`](crate::StreamError) inside), in which case `into`
    /// has them all the same. The connection is broken then.
    pub async fn receive(
        &mut self,
        into: &mut BytesMut,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        poll_fn(|cx| self.poll_receive(cx, into, events)).await
    }

    /// [`Connection::send`], for callers that wait for several things at once.
    ///
    /// Ready when all of `frames` has gone out. It may be called with another `frames` the next
    /// time, as long as the bytes that were not taken come first.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        let sent = self.poll_write_all(cx, frames);
        if let Poll::Ready(Err(_)) = &sent {
            self.broken = true;
        }
        sent
    }

    /// [`Connection::receive`], for callers that wait for several things at once.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`].
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        events: &mut Vec<Event>,
    ) -> Poll<io::Result<()>> {
        if self.unfinished {
            return Poll::Ready(Err(io::Error::other("an exchange on it was not finished")));
        }
        let received = self.poll_read(cx, into, events);
        if received.is_pending()
            && let Poll::Ready(Err(error)) = self.poll_flush(cx)
        {
            self.broken = true;
            return Poll::Ready(Err(error));
        }
        received
    }

    /// Writes what the stream still holds back of what it has taken: whoever has nothing more to
    /// send need not come again for that.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while frames.has_remaining() {
            if self.dues.is_full() {
                let what = "too many messages were sent whose answers were not read";
                return Poll::Ready(Err(io::Error::other(what)));
            }
            let stream = Pin::new(&mut self.stream);
            let sent = if frames.chunk().len() == frames.remaining() {
                let sent = ready!(stream.poll_write(cx, frames.chunk()))?;
                self.note(&frames.chunk()[..sent])?;
                sent
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = frames.chunks_vectored(&mut slices);
                let sent = ready!(stream.poll_write_vectored(cx, &slices[..filled]))?;
                let mut left = sent;
                for slice in &slices[..filled] {
                    let part = &slice[..left.min(slice.len())];
                    left -= part.len();
                    self.note(part)?;
                }
                sent
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            frames.advance(sent);
        }
        self.poll_flush(cx)
    }

    /// Counts the frames in what was sent.
    fn note(&mut self, mut sent: &[u8]) -> io::Result<()> {
        while !sent.is_empty() {
            if let Some((tag, len)) = self.outgoing.whole(sent) {
                self.dues.sent(tag, len - HEADER_LEN);
                sent = &sent[len..];
                continue;
            }
            let begun = self.outgoing.has_header();
            let piece = self.outgoing.step(sent).map_err(|(tag, length)| {
                let what = format!("a message 0x{tag:02x} of length {length} can't be sent");
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })?;
            // From its complete header on a frame will have an answer.
            if !begun && let Some(body) = piece.body {
                self.dues.sent(piece.tag, body);
            }
            sent = &sent[piece.len..];
        }
        Ok(())
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        events: &mut Vec<Event>,
    ) -> Poll<io::Result<()>> {
        if into.capacity() - into.len() < ROOM_MIN {
            into.reserve(ROOM_STEP);
        }
        let before = into.len();
        let read = match ready!(pin!(self.stream.read_buf(into)).poll(cx)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => self.absorb(into, before, events),
            Err(error) => Err(error),
        };
        if read.is_err() {
            self.broken = true;
        }
        Poll::Ready(read)
    }

    /// Counts what came into `buffer` from `at` on.
    pub(super) fn absorb(
        &mut self,
        buffer: &[u8],
        at: usize,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let first = events.len();
        let scanned = self.scanner.scan(&buffer[at..], at, events);
        for event in &events[first..] {
            self.dues.received(event);
            match event.tag {
                b'Z' => self.status = event.status(buffer).unwrap_or(self.status),
                b'S' => {
                    if let Some(body) = event.body(buffer) {
                        self.parameters.update(body);
                    }
                }
                _ => {}
            }
        }
        scanned.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
