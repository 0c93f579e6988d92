//! From an address to a connected socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::error::ConnectCause;
use super::stream::Stream;
use crate::conninfo::{Address, ConnInfo};

/// Where a connection really went: a name may stand for several servers, and a cancel request
/// must go to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) peer: Peer,
}

#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Dials the server: the addresses that its name has now, in turn, until one answers.
pub(crate) async fn dial(info: &ConnInfo) -> Result<(Stream, Place), ConnectCause> {
    let (host, port) = match &info.address {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { folder, port } => {
            let peer = Peer::Unix(folder.join(format!(".s.PGSQL.{port}")));
            let stream = peer.dial().await.map_err(ConnectCause::Dial)?;
            return Ok((stream, Place { peer }));
        }
    };
    let addresses = match info.host_address {
        Some(address) => vec![SocketAddr::from((address, port))],
        None => lookup_host((host, port)).await.map_err(ConnectCause::Lookup)?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let peer = Peer::Tcp(address);
        match peer.dial().await {
            Ok(stream) => return Ok((stream, Place { peer })),
            Err(error) => last = error,
        }
    }
    Err(ConnectCause::Dial(last))
}

impl Place {
    /// Opens another connection to the same server, as far as encryption goes.
    pub(crate) async fn again(&self) -> io::Result<Stream> {
        self.peer.dial().await
    }
}

impl Peer {
    async fn dial(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}
