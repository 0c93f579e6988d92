//! The startup phase: from the first byte to the first `ReadyForQuery`.

use std::collections::HashMap;

use bytes::Bytes;
use sortie_postgres::{ProtocolError, Startup, backend};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::failure::Failure;
use super::keys::{Cancel, Keys};
use super::refusal::Refusal;
use super::socket::Socket;
use super::{code, drained};
use crate::config::{Identity, PROTOCOL, Tls};
use crate::sql::{SqlError, state, utf8};

/// The first byte of a TLS handshake; no startup packet is so long.
const HANDSHAKE: u8 = 0x16;

/// What a client says that leaves before it has said what it wants; as the length of a startup
/// packet it would be absurd.
const GOODBYE: &[u8] = b"X\0\0\0\x04";

/// The newest minor version of protocol 3, PostgreSQL 18's.
const MINOR_MAX: u16 = 2;

/// The minor version in which keys are longer than four bytes.
const LONG_KEYS_SINCE: u16 = 2;

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
    encryption: &Tls,
    keys: &Keys,
    drain: &mut watch::Receiver<bool>,
) -> Result<Wish, Failure> {
    // Each may be asked once: what is asked again is taken for a version that nobody speaks, so
    // that a client can't keep us here.
    let (mut tls, mut gss) = (false, false);
    loop {
        let Some(packet) = packet(socket, drain).await? else {
            // A client that is sure of it begins the handshake without asking.
            let identity = encryption.identity().filter(|_| !tls && !gss);
            let identity = identity.ok_or_else(|| Failure::lost(ProtocolError::StartupLength))?;
            tls = true;
            encrypt(socket, identity, true).await?;
            continue;
        };
        match packet {
            Startup::Tls if !tls => {
                tls = true;
                if let Some(identity) = encryption.identity() {
                    socket.output.extend_from_slice(b"S");
                    socket.flush().await?;
                    slipped_in(socket)?;
                    encrypt(socket, identity, false).await?;
                    continue;
                }
            }
            Startup::Gss if !gss && !socket.is_encrypted() => gss = true,
            Startup::Cancel { process, secret } => {
                return Ok(Wish::Cancel(keys.cancel(process, &secret)));
            }
            Startup::Session { .. }
                if matches!(encryption, Tls::Require(_)) && !socket.is_encrypted() =>
            {
                return Err(Failure::Refused(Refusal::Unencrypted, Some(unencrypted())));
            }
            Startup::Session { minor, parameters } => {
                return Ok(Wish::Session(Hello { minor, parameters }));
            }
            _ => return Err(Failure::lost(ProtocolError::Version { major: 1234, minor: 5679 })),
        }
        socket.output.extend_from_slice(b"N");
        socket.flush().await?;
        slipped_in(socket)?;
    }
}

/// As PostgreSQL does: nobody sends more before the answer, unless it was slipped in.
fn slipped_in<S>(socket: &Socket<S>) -> Result<(), Failure> {
    if socket.input.is_empty() {
        return Ok(());
    }
    let message = "received unencrypted data after an encryption request";
    Err(Failure::Fatal(SqlError::new(state::PROTOCOL_VIOLATION, message)))
}

/// Encrypts the connection. Whoever did not ask first must say which protocol it means: another
/// one's handshake is not to be answered by chance.
async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    identity: &Identity,
    unasked: bool,
) -> Result<(), Failure> {
    let agreed = socket.encrypt(identity).await.map_err(|error| {
        tracing::debug!(%error, "a client's TLS handshake failed");
        Failure::Refused(Refusal::Tls, None)
    })?;
    if unasked && agreed.as_deref() != Some(PROTOCOL) {
        let message = "received direct SSL connection request without ALPN protocol negotiation \
                       extension";
        return Err(Failure::Fatal(SqlError::new(state::PROTOCOL_VIOLATION, message)));
    }
    Ok(())
}

fn unencrypted() -> SqlError {
    let message = "the connection is not encrypted, and only encrypted ones are served";
    SqlError::new(code::INVALID_AUTHORIZATION, message)
        .hint("Connect with sslmode=require, or better verify-full.")
}

/// Nobody is let in any more.
pub(crate) fn going_down() -> SqlError {
    SqlError::new(code::CANNOT_CONNECT_NOW, "the database system is shutting down")
}

/// The next packet; `None` where a TLS handshake begins in its place.
async fn packet<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    drain: &mut watch::Receiver<bool>,
) -> Result<Option<Startup>, Failure> {
    loop {
        if socket.input.first() == Some(&HANDSHAKE) {
            return Ok(None);
        }
        if socket.input.starts_with(GOODBYE) {
            return Err(Failure::Gone);
        }
        if let Some(packet) = Startup::decode(&mut socket.input).map_err(Failure::lost)? {
            return Ok(Some(packet));
        }
        tokio::select! {
            filled = socket.fill() => filled?,
            () = drained(drain) => return Err(Failure::Fatal(going_down())),
        }
    }
}

impl Hello {
    /// Tells the client which version is spoken, and which of its options are not understood, if
    /// that is not what it asked for.
    pub(crate) fn negotiate<S>(&self, socket: &mut Socket<S>) {
        let names = self.parameters.iter().map(|(name, _value)| std::str::from_utf8(name));
        let unknown: Vec<_> = names.flatten().filter(|name| name.starts_with("_pq_.")).collect();
        if self.minor > MINOR_MAX || !unknown.is_empty() {
            let minor = self.minor.min(MINOR_MAX);
            backend::negotiate_protocol_version(&mut socket.output, minor, &unknown);
        }
    }

    /// How long the secret of the session's cancel key is, in bytes.
    pub(crate) fn secret_len(&self) -> usize {
        if self.minor >= LONG_KEYS_SINCE { 32 } else { 4 }
    }

    /// Reads what is asked for.
    ///
    /// # Errors
    ///
    /// What no server would accept.
    pub(crate) fn read(&self) -> Result<Asked<'_>, SqlError> {
        let mut texts = Vec::with_capacity(self.parameters.len());
        for (name, value) in &self.parameters {
            texts.push((utf8(name)?, utf8(value)?));
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
