//! Where a cancel goes: the one server of a configuration, and a socket whose end can be awaited.

use std::io;
use std::net::IpAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_postgres::config::{Config, Host};

/// The server's port where a configuration names none.
const PORT: u16 = 5432;

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Address {
    place: Place,
    port: u16,
    /// The name that a certificate is checked against; empty for a Unix socket.
    pub(super) host: String,
}

#[derive(Clone, Debug)]
enum Place {
    Name(String),
    Ip(IpAddr),
    #[cfg(unix)]
    Folder(PathBuf),
}

impl Address {
    /// The server that `config` names; `None` when it names none or several.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let [ref host] = *config.get_hosts() else { return None };
        let port = match *config.get_ports() {
            [] => PORT,
            [port] => port,
            _ => return None,
        };
        let (place, host) = match host {
            Host::Tcp(name) => (Place::Name(name.clone()), name.clone()),
            #[cfg(unix)]
            Host::Unix(folder) => (Place::Folder(folder.clone()), String::new()),
        };
        let place = match *config.get_hostaddrs() {
            [] => place,
            [ip] => Place::Ip(ip),
            _ => return None,
        };
        Some(Self { place, port, host })
    }

    /// Connects. The name is looked up anew each time: a failover may have moved it.
    pub(super) async fn connect(&self) -> io::Result<CancelSocket> {
        let stream: Box<dyn Stream> = match &self.place {
            Place::Name(name) => Box::new(TcpStream::connect((name.as_str(), self.port)).await?),
            Place::Ip(ip) => Box::new(TcpStream::connect((*ip, self.port)).await?),
            #[cfg(unix)]
            Place::Folder(folder) => {
                let path = folder.join(format!(".s.PGSQL.{}", self.port));
                Box::new(UnixStream::connect(path).await?)
            }
        };
        Ok(CancelSocket(Arc::new(Mutex::new(stream))))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A socket that stays open while a clone of it is kept: `tokio_postgres` drops the one it sends a
/// cancel on, and what matters is when the *server* ends it.
#[derive(Clone)]
pub struct CancelSocket(Arc<Mutex<Box<dyn Stream>>>);

impl CancelSocket {
    /// Reads to the end, whatever comes.
    pub(super) async fn end(mut self) -> io::Result<()> {
        let mut rest = [0; 64];
        while self.read(&mut rest).await? > 0 {}
        Ok(())
    }

    fn stream(&self) -> MutexGuard<'_, Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for CancelSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CancelSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for CancelSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelSocket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Option<String> {
        Address::of(&text.parse().unwrap()).map(|address| address.host)
    }

    #[test]
    fn a_recall_belongs_to_one_server() {
        assert_eq!(host("host=db.example port=6000").as_deref(), Some("db.example"));
        assert_eq!(host("host=/run/postgresql").as_deref(), Some(""));
        assert_eq!(host("user=nobody"), None);
        assert_eq!(host("host=a,b"), None);
        assert_eq!(host("host=a port=1,2"), None);
    }
}
