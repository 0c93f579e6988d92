//! The startup phase: from the first byte to the first `ReadyForQuery`.

use std::collections::HashMap;

use bytes::Bytes;
use sortie_postgres::{ProtocolError, Startup, backend};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::failure::Failure;
use super::keys::{Cancel, Keys};
use super::socket::Socket;
use super::{code, drained};
use crate::sql::{SqlError, state, utf8};

/// What a client came for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// A session.
    Session(Hello),
    /// To cancel another session's statement; `None` if the key was wrong.
    Cancel(Option<Cancel>),
}

/// What a client asks for when it wants a session.
#[derive(Debug)]
pub(crate) struct Hello {
    minor: u16,
    parameters: Vec<(Bytes, Bytes)>,
}

/// Who wants a session, and how.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
    /// Names and values without options of the protocol, in the client's order.
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
}

/// Answers a client until it is known what it came for.
///
/// # Errors
///
/// The client is gone, or may not have a session.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    keys: &Keys,
    drain: &mut watch::Receiver<bool>,
) -> Result<Wish, Failure> {
    // Each may be asked once: what is asked again is taken for a version that nobody speaks, so
    // that a client can't keep us here.
    let (mut tls, mut gss) = (false, false);
    loop {
        match packet(socket, drain).await? {
            Startup::Tls if !tls => tls = true,
            Startup::Gss if !gss => gss = true,
            Startup::Cancel { process, secret } => {
                return Ok(Wish::Cancel(keys.cancel(process, &secret)));
            }
            Startup::Session { minor, parameters } => {
                return Ok(Wish::Session(Hello { minor, parameters }));
            }
            _ => return Err(Failure::lost(ProtocolError::Version { major: 1234, minor: 5679 })),
        }
        socket.output.extend_from_slice(b"N");
        socket.flush().await?;
        if !socket.input.is_empty() {
            // As PostgreSQL does: nobody sends more before the answer, unless it was slipped in.
            let message = "received unencrypted data after an encryption request";
            return Err(Failure::Fatal(SqlError::new(state::PROTOCOL_VIOLATION, message)));
        }
    }
}

/// Nobody is let in any more.
pub(crate) fn going_down() -> SqlError {
    SqlError::new(code::CANNOT_CONNECT_NOW, "the database system is shutting down")
}

async fn packet<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    drain: &mut watch::Receiver<bool>,
) -> Result<Startup, Failure> {
    loop {
        if let Some(packet) = Startup::decode(&mut socket.input).map_err(Failure::lost)? {
            return Ok(packet);
        }
        tokio::select! {
            filled = socket.fill() => filled?,
            () = drained(drain) => return Err(Failure::Fatal(going_down())),
        }
    }
}

impl Hello {
    /// Reads what is asked for, and tells the client what of it is not understood.
    ///
    /// # Errors
    ///
    /// What no server would accept.
    pub(crate) fn read<S>(&self, socket: &mut Socket<S>) -> Result<Asked<'_>, SqlError> {
        let mut texts = Vec::with_capacity(self.parameters.len());
        for (name, value) in &self.parameters {
            texts.push((utf8(name)?, utf8(value)?));
        }
        let unknown: Vec<_> =
            texts.iter().map(|&(name, _)| name).filter(|name| name.starts_with("_pq_.")).collect();
        if self.minor > 0 || !unknown.is_empty() {
            backend::negotiate_protocol_version(&mut socket.output, 0, &unknown);
        }
        // Of a name that is given twice the last value counts.
        let given: HashMap<_, _> = texts.iter().copied().collect();
        let user = given.get("user").copied().unwrap_or_default();
        if user.is_empty() {
            let message = "no PostgreSQL user name specified in startup packet";
            return Err(SqlError::new(code::INVALID_AUTHORIZATION, message));
        }
        let database =
            given.get("database").copied().filter(|name| !name.is_empty()).unwrap_or(user);
        let off = |wish: &&str| matches!(*wish, "false" | "off" | "no" | "0");
        if given.get("replication").is_some_and(|wish| !off(wish)) {
            return Err(SqlError::unsupported("there is no log to replicate here"));
        }
        let parameters = texts.into_iter().filter(|(name, _)| !name.starts_with("_pq_."));
        Ok(Asked { user, database, parameters: parameters.collect() })
    }
}
