//! Connections without anything of the sessions that had them before.

use bytes::Bytes;
use sortie_postgres::{ExchangeError, Login, Pooled, Request, Server};
use tokio::time::Instant;

use super::{Trouble, kept};
use crate::relay::is_apart;

/// A simple query `DISCARD ALL`.
const DISCARD_ALL: &[u8] = b"Q\0\0\0\x10DISCARD ALL\0";

/// So many connections are taken one after the other because what is left on them can't be taken
/// away; each is closed.
const UNCLEAN_MAX: u32 = 64;

/// Takes a connection for a read that many may share: sessions of the pipe lane leave parameters
/// and prepared statements on theirs, which must neither change the answer nor be overwritten.
/// There may be nothing on it but statements that such reads keep.
///
/// # Cancel safety
///
/// Dropping the future gives the connection back, to be cleaned by who gets it next.
pub(crate) async fn checkout(
    server: &Server,
    login: &Login,
    deadline: Instant,
) -> Result<Pooled, Trouble> {
    let mut unclean = 0;
    loop {
        let mut connection = server.checkout(login, None, deadline).await?;
        if kept::is_kept(connection.residue()) {
            return Ok(connection);
        }
        if is_apart(connection.residue()) {
            // Ends: there are no more of them than there are sessions that make them.
            connection.doom();
            continue;
        }
        match discard(&mut connection).await {
            // It may be what a session has set that lets everything fail there.
            Err(ExchangeError::Server(_)) if unclean < UNCLEAN_MAX => {
                unclean += 1;
                connection.doom();
            }
            discarded => {
                discarded?;
                return Ok(connection);
            }
        }
    }
}

pub(super) async fn discard(connection: &mut Pooled) -> Result<(), ExchangeError> {
    connection.set_residue(Some(kept::ANYTHING));
    connection.exchange(Request::new(Bytes::from_static(DISCARD_ALL))).await?;
    connection.set_residue(None);
    Ok(())
}
