//! Why a client's proof was not taken.

use std::fmt;

/// Why a client's proof was not taken. The texts are those of a PostgreSQL server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ScramError {
    /// The proof is wrong: the client does not know the password.
    WrongPassword,
    /// The messages are not SCRAM's, with the detail that PostgreSQL gives.
    Malformed(&'static str),
    /// The last message does not go on from the first one, with PostgreSQL's detail.
    Invalid(&'static str),
    /// The client names a mechanism that was not offered.
    Mechanism,
    /// The client wants something that is not supported, with what that is.
    Unsupported(&'static str),
    /// The connection is not the one that the client means: somebody stands in between.
    Binding,
    /// The client could bind, and was made to believe that it can't: somebody stands in between.
    Downgrade,
}

impl ScramError {
    /// The SQLSTATE that PostgreSQL reports this with.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::WrongPassword => "28P01",
            Self::Binding | Self::Downgrade => "28000",
            Self::Unsupported(_) => "0A000",
            Self::Malformed(_) | Self::Invalid(_) | Self::Mechanism => "08P01",
        }
    }

    /// What PostgreSQL says under DETAIL, if anything.
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Self::Malformed(detail) | Self::Invalid(detail) => Some(detail),
            Self::Downgrade => Some(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding.",
            ),
            _ => None,
        }
    }
}

impl std::error::Error for ScramError {}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongPassword => "password authentication failed",
            Self::Malformed(_) => "malformed SCRAM message",
            Self::Invalid(_) => "invalid SCRAM response",
            Self::Mechanism => "client selected an invalid SASL authentication mechanism",
            Self::Unsupported(what) => what,
            Self::Binding => "SCRAM channel binding check failed",
            Self::Downgrade => "SCRAM channel binding negotiation error",
        })
    }
}
