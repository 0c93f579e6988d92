//! A client's socket, which goes where its session goes.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream as Plain};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

thread_local! {
    /// Which core this thread is.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The calling thread is this core from now on.
pub(super) fn enter(index: usize) {
    HERE.set(Some(index));
}

/// A socket whose events come to the core that uses it, so that none has to be passed on.
///
/// It is one task's as a whole: who waits for the one half of it would not be woken any more when
/// the other half has moved on to another core.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    core: Option<usize>,
}

impl Socket {
    /// Has the events of a stream come here.
    ///
    /// # Errors
    ///
    /// The system can't tell of them.
    pub(crate) fn new(stream: Plain) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::from_std(stream)?, core: HERE.get() })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Has its events come here, if it comes from another core. When there is no descriptor for
    /// that they still come by the other one, which is only slower.
    fn follow(&mut self) -> Pin<&mut TcpStream> {
        let here = HERE.get();
        if self.core != here {
            self.core = here;
            match again(&self.stream) {
                // Dropping the old one takes it out of its runtime.
                Ok(stream) => self.stream = stream,
                Err(error) => tracing::debug!(%error, "a socket stays with another core"),
            }
        }
        Pin::new(&mut self.stream)
    }
}

/// The same socket by another descriptor, whose events come here.
fn again(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(Plain::from(stream.as_fd().try_clone_to_owned()?))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.follow().poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.follow().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.follow().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.follow().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.follow().poll_shutdown(cx)
    }
}
