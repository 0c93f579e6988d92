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

#[derive(Clone, Debug)]
enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Dials the server: the addresses that its name has now, in turn, until one answers.
pub(crate) async fn dial(info: &ConnInfo, login: &Login) -> Result<(Stream, Place), ConnectCause> {
    if let Some(path) = info.address.socket() {
        let stream = UnixStream::connect(&path).await.map_err(ConnectCause::Dial)?;
        return Ok((Stream::Unix(stream), Place { peer: Peer::Unix(path), secured: None }));
    }
    let secured = Secured::of(info, login).await?;
    let (address, mut stream) = reach(info).await?;
    let peer = Peer::Tcp(address);
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

async fn reach(info: &ConnInfo) -> Result<(SocketAddr, TcpStream), ConnectCause> {
    let Address::Tcp { host, port } = &info.address else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket has no port");
        return Err(ConnectCause::Dial(error));
    };
    let addresses = match info.host_address {
        Some(address) => vec![SocketAddr::from((address, *port))],
        None => lookup_host((host.as_str(), *port)).await.map_err(ConnectCause::Lookup)?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect(address).await {
            Ok(stream) => return Ok((address, stream)),
            Err(error) => last = error,
        }
    }
    Err(ConnectCause::Dial(last))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // A host that vanished is noticed after a minute, also by a session that only waits.
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EACH);
    SockRef::from(&stream).set_tcp_keepalive(&alive.with_retries(KEEPALIVE_RETRIES))?;
    Ok(stream)
}
