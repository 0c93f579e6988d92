//! Connections without anything of the sessions that had them before.

use bytes::Bytes;
use sortie_postgres::{ExchangeError, Login, Pooled, Request, Residue, Server};
use tokio::time::Instant;

use super::Trouble;
use crate::relay::{APART, is_apart};

/// A simple query `DISCARD ALL`.
const DISCARD_ALL: &[u8] = b"Q\0\0\0\x10DISCARD ALL\0";

/// So many connections are taken one after the other because what is left on them can't be taken
/// away; each is closed.
const UNCLEAN_MAX: u32 = 64;

/// Nobody's, with everything that can be left: whoever gets the connection cleans it.
pub(super) const ANYTHING: Residue = Residue { owner: 0, version: !APART };

/// Takes a connection for a read that many may share: sessions of the pipe lane leave parameters
/// and prepared statements on theirs, which must neither change the answer nor be overwritten.
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
        if connection.residue().is_none() {
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

async fn discard(connection: &mut Pooled) -> Result<(), ExchangeError> {
    connection.set_residue(Some(ANYTHING));
    connection.exchange(Request::new(Bytes::from_static(DISCARD_ALL))).await?;
    connection.set_residue(None);
    Ok(())
}
