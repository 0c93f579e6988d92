//! What can be wrong with a connection string.

use std::error::Error;
use std::fmt;

/// Why a connection string can't be used. The texts never contain a password.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnInfoError {
    /// It is not a URL and not a list of `keyword=value`.
    Syntax(String),
    /// A keyword that libpq does not have either.
    Unknown {
        /// The keyword.
        keyword: String,
        /// The known one that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A keyword of libpq that means nothing here.
    Unsupported {
        /// The keyword.
        keyword: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A keyword has a value that it can't have.
    Value {
        /// The keyword.
        keyword: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// It does not say what it must say.
    Missing {
        /// The keyword.
        keyword: &'static str,
        /// How to say it.
        example: &'static str,
    },
}

impl Error for ConnInfoError {}

impl fmt::Display for ConnInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(what) => write!(
                f,
                "{what}: write postgres://ROLE:PASSWORD@HOST:PORT/DATABASE or \
                 'host=HOST user=ROLE dbname=DATABASE'"
            ),
            Self::Unknown { keyword, nearest: Some(nearest) } => {
                write!(f, "{keyword:?} is not a connection keyword; is {nearest:?} meant?")
            }
            Self::Unknown { keyword, nearest: None } => {
                write!(f, "{keyword:?} is not a connection keyword")
            }
            Self::Unsupported { keyword, instead } => {
                write!(f, "the connection keyword {keyword:?} is not supported: {instead}")
            }
            Self::Value { keyword, expected } => write!(f, "{keyword} must be {expected}"),
            Self::Missing { keyword, example } => {
                write!(f, "the connection string lacks {keyword}; add {example}")
            }
        }
    }
}
