//! Where a server is, and how to log in: what a connection string says.
//!
//! Knows the two forms that libpq reads, URLs and keywords, and nothing of sockets: names are
//! looked up when a connection is opened, each time anew. Every keyword of libpq is either
//! understood or refused with what to do instead; none is passed over.

mod error;
mod keyword;
mod secret;
mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use error::ConnInfoError;
pub use secret::{Credential, OwnCertificate, ScramKeys};

/// How long dialling and logging in may take together, unless the connection string says.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One PostgreSQL server, and the credential to log in with.
///
/// # Examples
///
/// ```
/// use sortie_postgres::{ConnInfo, TlsMode};
///
/// let url: ConnInfo = "postgres://app:s%20crt@db1:5433/shop?sslmode=require".parse()?;
/// let words: ConnInfo =
///     "host=db1 port=5433 user=app password='s crt' dbname=shop sslmode=require".parse()?;
/// assert_eq!(url, words);
/// assert_eq!(url.address.to_string(), "db1:5433");
/// assert_eq!(url.tls.mode, TlsMode::Require);
/// # Ok::<(), sortie_postgres::ConnInfoError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConnInfo {
    /// Where the server listens.
    pub address: Address,
    /// The address to dial in place of looking the host's name up. The name still counts for TLS.
    pub host_address: Option<IpAddr>,
    /// The role to log in as, unless a [`Login`](crate::Login) names another.
    pub user: String,
    /// The database, unless a [`Login`](crate::Login) names another.
    pub database: String,
    /// What proves to be that role.
    pub credential: Credential,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// How long looking the name up, dialling and logging in may take together. Of several
    /// addresses of one name each gets an equal share of what is left of it, one after the other
    /// (in libpq each gets all of it).
    pub connect_timeout: Duration,
    /// Parameters to start a session with, for example `application_name`.
    pub parameters: Vec<(String, String)>,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "PostgreSQL listens on these two kinds of socket")]
pub enum Address {
    /// On a port of a host.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket.
    Unix {
        /// The folder that the socket lies in.
        folder: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

/// How a connection is encrypted.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Tls {
    /// Whether, and what is checked.
    pub mode: TlsMode,
    /// Which certificates are trusted to vouch for the server's.
    pub roots: Roots,
    /// The certificate to show the server, a file in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, a file in PEM.
    pub key: Option<PathBuf>,
    /// Whether the login is bound to the encrypted channel.
    pub binding: Binding,
}

/// The choices of libpq's `sslmode`. There is no `allow`: it asks for encryption last.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "these are libpq's, and have been for decades")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server offers it; its certificate is not checked, unless roots are given.
    #[default]
    Prefer,
    /// Always; the server's certificate is not checked, unless roots are given.
    Require,
    /// Always, and the server's certificate must lead to a root.
    VerifyCa,
    /// Always, and the server's certificate must also name the host.
    VerifyFull,
}

/// Who is trusted to vouch for a server.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Roots {
    /// Nobody was named.
    #[default]
    Unset,
    /// The certificates in this file, in PEM.
    File(PathBuf),
    /// The certificates that the operating system trusts.
    System,
}

/// The choices of libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "these are libpq's")]
pub enum Binding {
    /// Never.
    Disable,
    /// If the connection is encrypted and the server offers it.
    #[default]
    Prefer,
    /// Always; a server that does not offer it is refused.
    Require,
}

impl ConnInfo {
    /// Creates a description with every choice at its default: no credential, encryption if the
    /// server offers it, ten seconds to connect.
    pub fn new(address: Address, user: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            address,
            host_address: None,
            user: user.into(),
            database: database.into(),
            credential: Credential::Trust,
            tls: Tls::default(),
            connect_timeout: CONNECT_TIMEOUT,
            parameters: Vec::new(),
        }
    }
}

impl Address {
    /// A port of a host.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// The path of the Unix socket; `None` for TCP.
    pub fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { folder, port } => Some(folder.join(format!(".s.PGSQL.{port}"))),
        }
    }
}

impl FromStr for ConnInfo {
    type Err = ConnInfoError;

    /// Reads a URL (`postgres://…`) or keywords (`host=… dbname=…`), as libpq does.
    ///
    /// Unlike libpq it reads no environment and no file, takes one host, and wants the role said.
    fn from_str(text: &str) -> Result<Self, ConnInfoError> {
        let text = text.trim();
        let pairs = match url::rest(text) {
            Some(rest) => url::pairs(rest)?,
            None => keyword::pairs(text)?,
        };
        keyword::assemble(&pairs)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}
