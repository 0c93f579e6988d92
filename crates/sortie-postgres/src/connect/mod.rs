//! Opens connections: look the name up, dial, encrypt, log in; all within one deadline.
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
mod tls;
mod trust;

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout;

pub(crate) use binding::end_point;
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
    let opening = async {
        let (mut stream, place) = dial::dial(info, login).await?;
        let mut input = BytesMut::new();
        let greeting = handshake::shake(&mut stream, &mut input, info, login).await?;
        Ok(Opened { stream, place: Arc::new(place), greeting, rest: input })
    };
    let opened = match timeout(info.connect_timeout, opening).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(ConnectCause::Timeout(info.connect_timeout)),
    };
    opened.map_err(|cause| ConnectError::new(&info.address, cause))
}
