//! From an address to a connected socket, encrypted as the description wants it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::error::ConnectCause;
use super::login::Login;
use super::stream::Stream;
use super::tls::{self, Offer, Secured};
use crate::conninfo::{Address, ConnInfo, TlsMode};
use crate::scan::StreamError;

/// How long a connection must be silent before the host is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EACH: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where a connection really went, and how: a name may stand for several servers, and a cancel
/// request must go to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    peer: Peer,
    /// Set if the connection is encrypted.
    secured: Option<Secured>,
}

/// One of the addresses that a server may be reached at.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The addresses that the server's name has now.
pub(super) async fn peers(info: &ConnInfo) -> Result<Vec<Peer>, ConnectCause> {
    let (host, port) = match &info.address {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { .. } => {
            return Ok(info.address.socket().map(Peer::Unix).into_iter().collect());
        }
    };
    if let Some(address) = info.host_address {
        return Ok(vec![Peer::Tcp(SocketAddr::from((address, port)))]);
    }
    let found = lookup_host((host, port)).await.map_err(ConnectCause::Lookup)?;
    Ok(found.map(Peer::Tcp).collect())
}

/// Dials one of them.
pub(super) async fn dial(
    info: &ConnInfo,
    login: &Login,
    peer: Peer,
) -> Result<(Stream, Place), ConnectCause> {
    let address = match &peer {
        Peer::Tcp(address) => *address,
        Peer::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(ConnectCause::Dial)?;
            return Ok((Stream::Unix(stream), Place { peer, secured: None }));
        }
    };
    let secured = Secured::of(info, login).await?;
    let mut stream = connect(address).await.map_err(ConnectCause::Dial)?;
    let Some(secured) = secured else {
        return Ok((Stream::Tcp(stream), Place { peer, secured: None }));
    };
    match tls::offer(&mut stream).await.map_err(ConnectCause::Closed)? {
        Offer::Spoken => {
            let stream = secured.wrap(stream).await.map_err(ConnectCause::Tls)?;
            Ok((Stream::Tls(stream), Place { peer, secured: Some(secured) }))
        }
        Offer::NotSpoken if info.tls.mode == TlsMode::Prefer => {
            Ok((Stream::Tcp(stream), Place { peer, secured: None }))
        }
        Offer::NotSpoken => Err(ConnectCause::NoTls),
        Offer::Strange(byte) => Err(StreamError::FrameType(byte).into()),
    }
}

impl Place {
    /// Opens another connection to the same server, encrypted like the first.
    pub(crate) async fn again(&self) -> io::Result<Stream> {
        let address = match &self.peer {
            Peer::Unix(path) => return UnixStream::connect(path).await.map(Stream::Unix),
            Peer::Tcp(address) => *address,
        };
        let mut stream = connect(address).await?;
        let Some(secured) = &self.secured else { return Ok(Stream::Tcp(stream)) };
        match tls::offer(&mut stream).await? {
            Offer::Spoken => secured.wrap(stream).await.map(Stream::Tls),
            Offer::NotSpoken | Offer::Strange(_) => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the server does not speak TLS any more",
            )),
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // A host that vanished is noticed after a minute, also by a session that only waits.
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EACH);
    SockRef::from(&stream).set_tcp_keepalive(&alive.with_retries(KEEPALIVE_RETRIES))?;
    Ok(stream)
}
