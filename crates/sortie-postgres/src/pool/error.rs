//! Why there is no connection.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::ConnectError;

/// A pool has no connection for a caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The caller's deadline passed while it waited.
    Timeout {
        /// How long it had waited.
        waited: Duration,
    },
    /// So many wait already that nobody else may.
    Crowded,
    /// The server can't be connected to, and no connection to it is left to wait for.
    Connect(Arc<ConnectError>),
    /// The runtime that was opening the connection was shut down.
    Closed,
}

impl PoolError {
    /// The SQLSTATE to tell a client: the server's own, if it is the server that refused.
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Timeout { .. } | Self::Crowded => "53300",
            Self::Connect(error) => error.server().map_or("08001", |server| server.sqlstate()),
            Self::Closed => "57P01",
        }
    }
}

impl Error for PoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(&**error),
            Self::Timeout { .. } | Self::Crowded | Self::Closed => None,
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited } => {
                write!(f, "no server connection became free within {waited:.1?}")
            }
            Self::Crowded => f.write_str("too many callers wait for a server connection"),
            Self::Connect(_) => f.write_str("the server can't be connected to"),
            Self::Closed => f.write_str("the pool is shutting down"),
        }
    }
}
