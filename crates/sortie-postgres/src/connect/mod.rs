//! Opens connections: look the name up, dial, encrypt, log in; all within one limit of time.
//!
//! Knows how to get to a server and past its login, and nothing of what is asked there: pools,
//! statements and replies are other rooms'. Names are looked up for every connection anew, so that
//! a server that moved is found again.

mod binding;
mod der;
mod dial;
mod error;
mod handshake;
mod login;
mod scram;
mod stream;
mod subject;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};

pub(crate) use binding::end_point;
use dial::Peer;
pub(crate) use dial::Place;
pub use error::{ConnectCause, ConnectError};
pub(crate) use handshake::Greeting;
pub use login::Login;
pub(crate) use stream::Stream;
pub use subject::tls_common_name;

use crate::conninfo::ConnInfo;

/// A connection past its login, as the handshake leaves it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) place: Arc<Place>,
    pub(crate) greeting: Greeting,
    /// What came behind the greeting.
    pub(crate) rest: BytesMut,
}

/// Opens a connection within the description's `connect_timeout`.
pub(crate) async fn open(info: &ConnInfo, login: &Login) -> Result<Opened, ConnectError> {
    let begun = Instant::now();
    let opened = match timeout(info.connect_timeout, dial::peers(info)).await {
        Ok(Ok(peers)) => open_one(info, login, peers, begun).await,
        Ok(Err(cause)) => Err(cause),
        Err(_elapsed) => Err(ConnectCause::Timeout(info.connect_timeout)),
    };
    opened.map_err(|cause| ConnectError::new(&info.address, cause))
}

/// Tries the addresses in turn, until somebody is there. Each gets an equal share of the time that
/// is left, the login included: one that takes connections and says nothing is gone past too.
async fn open_one(
    info: &ConnInfo,
    login: &Login,
    peers: Vec<Peer>,
    begun: Instant,
) -> Result<Opened, ConnectCause> {
    let nowhere = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut last = ConnectCause::Dial(nowhere);
    let mut peers = peers.into_iter();
    while let Some(peer) = peers.next() {
        let shares = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        let share = info.connect_timeout.saturating_sub(begun.elapsed()) / shares;
        match timeout(share, open_at(info, login, peer)).await {
            Ok(Err(cause @ ConnectCause::Dial(_))) => last = cause,
            Ok(decided) => return decided,
            Err(_elapsed) => last = ConnectCause::Timeout(info.connect_timeout),
        }
    }
    Err(last)
}

async fn open_at(info: &ConnInfo, login: &Login, peer: Peer) -> Result<Opened, ConnectCause> {
    let (mut stream, place) = dial::dial(info, login, peer).await?;
    let mut input = BytesMut::new();
    let greeting = handshake::shake(&mut stream, &mut input, info, login).await?;
    Ok(Opened { stream, place: Arc::new(place), greeting, rest: input })
}
