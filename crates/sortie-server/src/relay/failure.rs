//! What a client is told when a server fails.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use sortie_postgres::{PoolError, ServerError};

use crate::sql::{SqlError, state};

/// The client has asked for it.
pub(super) fn cancelled() -> SqlError {
    SqlError::new(state::QUERY_CANCELED, "canceling statement due to user request")
}

/// The endpoint ends, or somebody has ended the session.
pub(super) fn shutting_down() -> SqlError {
    let message = "terminating connection due to administrator command";
    SqlError::new(state::ADMIN_SHUTDOWN, message)
}

/// No server is configured for what was asked.
pub(super) fn no_server() -> SqlError {
    SqlError::new(state::CONNECTION_FAILURE, "no server of the shard is known")
}

/// A connection failed while a statement ran.
pub(super) fn lost(error: &io::Error) -> SqlError {
    let mut told = SqlError::new(
        state::CONNECTION_FAILURE,
        "the connection to the server was lost before it answered",
    );
    told.detail = Some(error.to_string());
    if error.kind() == io::ErrorKind::TimedOut {
        let hint = "It stands still, or is cut off from here; what was sent to it may have run. \
                    A read can be sent again.";
        told.hint = Some(hint.to_owned());
    }
    told
}

/// What a server did for so long that it is given up.
pub(super) fn said_nothing(patience: Option<Duration>) -> String {
    format!("the server has answered nothing for {:?}", patience.unwrap_or_default())
}

/// No connection is waited for: the server is given up.
pub(super) fn silent(patience: Option<Duration>) -> SqlError {
    SqlError::new(state::CONNECTION_FAILURE, said_nothing(patience))
        .hint("It stands still, or is cut off from here. The statement has not been run.")
}

/// No server has got as far as the session has seen.
pub(crate) fn behind() -> SqlError {
    let message = "no replica has replayed what this session has seen or written";
    SqlError::new(state::NOT_IN_STATE, message).hint(
        "They lag behind, or their replay is paused. A new session reads what they have; \
         pipe_target = \"primary\" asks the primary then.",
    )
}

/// No connection could be had.
pub(super) fn of_pool(error: &PoolError) -> SqlError {
    if let Some(server) = about_login(error) {
        // What a client of PostgreSQL would have been told.
        return SqlError { code: code(server.sqlstate()), ..SqlError::of_server(server) };
    }
    let mut told = SqlError::new(code(error.sqlstate()), error.to_string());
    told.detail = error.source().map(ToString::to_string);
    if matches!(error, PoolError::Timeout { .. } | PoolError::Crowded) {
        let hint = "All that [clusters.NAME.pool] connections_max allows are in use: SHOW POOLS, \
                    in the admin database, says by whom. The statement has not been run.";
        told.hint = Some(hint.to_owned());
    }
    told
}

/// What a session has set, under that name, could not be set on another connection: the body of
/// what the server said to it.
pub(super) fn unready(body: &[u8], name: Option<&str>) -> SqlError {
    let (code, reason) = match server_error(body) {
        Some(said) => (code(said.sqlstate()), said.message()),
        None => (state::CONNECTION_FAILURE, "the server refused it".to_owned()),
    };
    let message = format!("what this session has set can't be set on another connection: {reason}");
    let cure = match name.filter(|name| !name.contains(' ')) {
        Some(name) => format!("RESET {name}, DISCARD ALL, or connect anew."),
        None => "DISCARD ALL, or connect anew.".to_owned(),
    };
    SqlError::new(code, message).hint(format!("The statement has not been run. {cure}"))
}

/// A transaction that the client has begun could not be begun on a server: what it said, if it can
/// be read.
pub(super) fn unbegun(body: &[u8]) -> SqlError {
    let message = "the transaction can't be begun on a server";
    let unknown = SqlError::new(state::CONNECTION_FAILURE, message);
    server_error(body).map_or(unknown, |said| SqlError::of_server(&said))
}

/// A server's error with this body.
pub(super) fn server_error(body: &[u8]) -> Option<ServerError> {
    let mut frame = BytesMut::with_capacity(5 + body.len());
    frame.put_u8(b'E');
    frame.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    frame.put_slice(body);
    ServerError::new(frame.freeze()).ok()
}

/// Whether every server would say so: it is about what the client asked for.
pub(super) fn is_about_login(error: &PoolError) -> bool {
    about_login(error).is_some()
}

fn about_login(error: &PoolError) -> Option<&ServerError> {
    let PoolError::Connect(error) = error else { return None };
    let classes = ["22", "28", "3D", "42"];
    let about =
        |server: &&ServerError| classes.iter().any(|class| server.sqlstate().starts_with(class));
    error.server().filter(about)
}

/// The code as one that lives as long as the program.
fn code(sqlstate: &str) -> &'static str {
    const KNOWN: [&str; 13] = [
        "08001", "08006", "22023", "28000", "28P01", "3D000", "42501", "42704", "53300", "57P01",
        "57P03", "55P02", "0A000",
    ];
    KNOWN.iter().find(|known| **known == sqlstate).copied().unwrap_or(state::CONNECTION_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_nothing_is_told_what_is_full() {
        let waited = Duration::from_micros(2_000_703);
        let told = of_pool(&PoolError::Timeout { waited });
        assert_eq!(told.message, "no server connection became free within 2.0s");
        assert!(told.hint.is_some_and(|hint| hint.contains("connections_max")));
        assert_eq!(of_pool(&PoolError::Closed).hint, None);
    }
}
