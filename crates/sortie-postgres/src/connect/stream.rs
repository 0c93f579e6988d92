//! The byte stream to a server, whatever carries it.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connected socket, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether bytes can be read by others on the way.
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// Whether nothing has come that was not read; `false` where that can't be told at a glance.
    pub(crate) fn is_quiet(&self) -> bool {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut []),
            Self::Unix(stream) => stream.try_read(&mut []),
            Self::Tls(_) => return false,
        };
        // Without an event of the socket nobody reads.
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Has the current runtime tell of the socket's events, instead of the one it was made in.
    pub(crate) fn register_here(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => *stream = registered(stream)?,
            Self::Unix(stream) => {
                let same =
                    std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
                *stream = UnixStream::from_std(same)?;
            }
            Self::Tls(stream) => {
                let (stream, _session) = stream.get_mut();
                *stream = registered(stream)?;
            }
        }
        Ok(())
    }

    /// The certificate that the server has shown.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// The same socket by another descriptor; dropping the old one takes it out of its runtime.
fn registered(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?))
}

/// Hands a call on to the stream inside.
macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Unix(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Tls(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
