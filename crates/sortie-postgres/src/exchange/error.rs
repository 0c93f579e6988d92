//! What can go wrong in an exchange.

use std::error::Error;
use std::fmt;
use std::io;

use crate::scan::StreamError;
use crate::server_error::ServerError;

/// Why an exchange has no reply.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The server reported an error.
    Server(ServerError),
    /// The connection ended before the reply did.
    Closed(io::Error),
    /// What came is not the protocol, or has no place in a reply to such a batch.
    Stream(StreamError),
    /// The connection still owes the answer to something else.
    Busy,
    /// The batch asks for no `ReadyForQuery`: it must be a Query or end in a Sync.
    Endless,
}

impl ExchangeError {
    /// What the server reported, if it is that.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(report) => Some(report),
            _ => None,
        }
    }
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<StreamError>() {
            Ok(stream) => Self::Stream(stream),
            Err(error) => Self::Closed(error),
        }
    }
}

impl From<StreamError> for ExchangeError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Server(error) => Some(error),
            Self::Closed(error) => Some(error),
            Self::Stream(error) => Some(error),
            Self::Busy | Self::Endless => None,
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "the server reported an error",
            Self::Closed(_) => "the connection to the server ended before its reply did",
            Self::Stream(_) => "the server's reply can't be understood",
            Self::Busy => "the connection still owes the answer to something else",
            Self::Endless => "the batch neither is a Query nor ends in a Sync",
        })
    }
}
