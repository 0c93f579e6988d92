//! The two directions of one connection, both bounded.
//!
//! # Invariants
//!
//! 1. Bytes that were read stay in `input` until a frame is taken: a read that is dropped because
//!    something else happened first loses nothing.
//! 2. `output` is written before it holds more than `egress_max` bytes and one frame.
//! 3. A client that takes nothing for `egress_stall_max` is given up.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::limits::Limits;
use super::line::Line;
use crate::config::Identity;

/// What is reserved for one read, in bytes. PostgreSQL and libpq read as much at a time.
const READ_LEN: usize = 8 << 10;

/// Rows up to this length are copied behind what waits: cheaper than a second piece to write.
const COPY_MAX: usize = 16 << 10;

/// An idle connection gives back a buffer that grew above this, in bytes.
const KEEP_MAX: usize = 64 << 10;

/// How long a client that is told that it must go may go on sending.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// A connection with its buffers.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    stream: Line<S>,
    /// What was read and not yet taken.
    pub(crate) input: BytesMut,
    /// What was said and not yet written.
    pub(crate) output: BytesMut,
    ingress_max: usize,
    egress_max: usize,
    egress_stall_max: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) fn new(stream: S, limits: &Limits) -> Self {
        Self {
            stream: Line::Plain(stream),
            input: BytesMut::new(),
            output: BytesMut::new(),
            // The longest frame and its type byte must fit, or it would be awaited for ever.
            ingress_max: limits.frame_max + 1,
            egress_max: limits.egress_max,
            egress_stall_max: limits.egress_stall_max,
        }
    }

    /// Takes the connection out, with what was read and not taken, and said and not written.
    pub(crate) fn into_parts(self) -> (Line<S>, BytesMut, BytesMut) {
        (self.stream, self.input, self.output)
    }

    /// Whether nobody on the way can read what is said.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// The certificate that the client has shown, in DER; somebody vouches for it.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.stream.certificate()
    }

    /// Encrypts the connection; what was read and not taken belongs to the handshake. Returns the
    /// protocol that both sides agree on, if the client names one.
    ///
    /// # Errors
    ///
    /// What the handshake failed with. The connection is of no further use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn encrypt(&mut self, identity: &Identity) -> io::Result<Option<Vec<u8>>> {
        self.stream.encrypt(Arc::clone(&identity.config), self.input.split()).await
    }

    /// Whether more may be read ahead.
    pub(crate) fn has_room(&self) -> bool {
        self.input.len() < self.ingress_max
    }

    /// Reads what is there, at least one byte.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the client has closed, and what the connection fails with.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been read when it is dropped.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        if self.input.is_empty() && self.input.capacity() > KEEP_MAX {
            self.input = BytesMut::new();
        }
        // A frame that is still in use shares the buffer, and then more room is a new one.
        if self.input.capacity() - self.input.len() < READ_LEN / 8 {
            self.input.reserve(READ_LEN);
        }
        match self.stream.read_buf(&mut (&mut self.input).limit(READ_LEN)).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Says `rows`, which are shared: long ones are written from where they are.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the client stalls, and what the connection fails with.
    pub(crate) async fn say(&mut self, rows: Bytes) -> io::Result<()> {
        if rows.len() <= COPY_MAX {
            self.output.extend_from_slice(&rows);
            return self.flush_over(self.egress_max).await;
        }
        let waiting = self.output.split();
        self.write(waiting.chain(rows)).await
    }

    /// Writes what was said, if it is more than `length` bytes.
    ///
    /// # Errors
    ///
    /// As [`Socket::say`].
    pub(crate) async fn flush_over(&mut self, length: usize) -> io::Result<()> {
        if self.output.len() <= length {
            return Ok(());
        }
        let waiting = self.output.split();
        self.write(waiting).await?;
        if self.output.capacity() > KEEP_MAX {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Writes what was said.
    ///
    /// # Errors
    ///
    /// As [`Socket::say`].
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.flush_over(0).await
    }

    /// Writes what was said when it has become much.
    ///
    /// # Errors
    ///
    /// As [`Socket::say`].
    pub(crate) async fn relieve(&mut self) -> io::Result<()> {
        self.flush_over(self.egress_max).await
    }

    /// Writes what was said and closes this direction; a client that is gone does not matter.
    ///
    /// What a client is still sending is taken for a while and thrown away: closing over it resets
    /// the connection, and the client may never read what was said.
    pub(crate) async fn close(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let _closed = timeout(self.egress_stall_max, self.stream.shutdown()).await;
        let rest = async {
            while !self.input.is_empty() {
                self.input.clear();
                if self.fill().await.is_err() {
                    return;
                }
            }
        };
        let _taken = timeout(LINGER_MAX, rest).await;
    }

    async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let written = timeout(self.egress_stall_max, self.stream.write_buf(&mut bytes)).await;
            match written {
                Ok(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_stalled) => return Err(ErrorKind::TimedOut.into()),
            }
        }
        if self.stream.is_encrypted() {
            let flushed = timeout(self.egress_stall_max, self.stream.flush()).await;
            return flushed.unwrap_or_else(|_stalled| Err(ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::Instant;

    use super::*;

    fn limits() -> Limits {
        Limits { egress_max: 100, egress_stall_max: Duration::from_secs(3), ..Limits::default() }
    }

    #[tokio::test]
    async fn long_and_short_rows_keep_their_order() {
        let (server, mut client) = duplex(1 << 20);
        let mut socket = Socket::new(server, &limits());
        socket.output.extend_from_slice(b"head");
        socket.say(Bytes::from(vec![b'a'; COPY_MAX + 1])).await.unwrap();
        socket.say(Bytes::from_static(b"tail")).await.unwrap();
        socket.close().await;
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.unwrap();
        let expected = [&b"head"[..], &vec![b'a'; COPY_MAX + 1], b"tail"].concat();
        assert_eq!(seen, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (server, client) = duplex(10);
        let mut socket = Socket::new(server, &limits());
        let start = Instant::now();
        let error = socket.say(Bytes::from(vec![b'a'; 200])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served_as_long_as_it_takes_something() {
        let (server, mut client) = duplex(10);
        let mut socket = Socket::new(server, &limits());
        let reads = async {
            let mut seen = [0; 200];
            for piece in seen.chunks_mut(10) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                client.read_exact(piece).await.unwrap();
            }
            seen
        };
        let (written, seen) = tokio::join!(socket.say(Bytes::from(vec![b'a'; 200])), reads);
        written.unwrap();
        assert_eq!(seen, [b'a'; 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_still_sending_gets_to_read_why_it_must_go() {
        let (server, mut client) = duplex(10);
        let mut socket = Socket::new(server, &limits());
        socket.output.extend_from_slice(b"too long");
        client.write_all(b"a").await.unwrap();
        socket.fill().await.unwrap();
        let talks = async {
            client.write_all(&vec![b'a'; 100_000]).await.unwrap();
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await.unwrap();
            seen
        };
        let start = Instant::now();
        let ((), seen) = tokio::join!(socket.close(), talks);
        assert_eq!(seen, b"too long");
        assert!(start.elapsed() <= LINGER_MAX);
    }

    #[tokio::test]
    async fn reading_ahead_is_bounded() {
        let (server, mut client) = duplex(1 << 20);
        let limits = Limits { frame_max: 9_999, ..limits() };
        let mut socket = Socket::new(server, &limits);
        client.write_all(&vec![0; 100_000]).await.unwrap();
        while socket.has_room() {
            socket.fill().await.unwrap();
        }
        assert!(socket.input.len() < 10_000 + READ_LEN, "{}", socket.input.len());
    }
}
