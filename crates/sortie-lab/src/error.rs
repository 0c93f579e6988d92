//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a lab could not be made, or a server not be moved.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL server was found on this machine.
    NoBinaries {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
        /// The command that installs it.
        install: String,
    },
    /// A folder lacks one of PostgreSQL's programs.
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The program that is missing.
        program: &'static str,
    },
    /// The configuration asks for something that can't be.
    Config(String),
    /// We are root, and there is nobody else to run a server as.
    NoAccount,
    /// The system denied something.
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    Failed {
        /// What was tried.
        what: String,
        /// What it said.
        output: String,
    },
    /// Something took too long.
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was known then.
        output: String,
    },
    /// The caller's [`Cancel`](crate::Cancel) was used.
    Cancelled,
}

impl Error {
    /// Names what was tried, for an error of the system.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what: what.into(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBinaries { looked, install } => {
                write!(f, "no PostgreSQL server on this machine. Install one:\n  {install}\n")?;
                write!(f, "or say where its programs are. Looked in:")?;
                looked.iter().try_for_each(|folder| write!(f, "\n  {}", folder.display()))
            }
            Self::Incomplete { folder, program } => {
                write!(f, "{} has no program `{program}`", folder.display())
            }
            Self::NoAccount => f.write_str(
                "PostgreSQL refuses to run as root, and neither `postgres` nor `nobody` is an \
                 account here",
            ),
            Self::Config(what) | Self::System { what, .. } => f.write_str(what),
            Self::Failed { what, output } => write!(f, "{what} failed: {}", output.trim()),
            Self::Late { what, limit, output } => {
                write!(f, "{what} took more than {limit:?}: {}", output.trim())
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
