//! Why a connection could not be opened, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::conninfo::Address;
use crate::scan::StreamError;
use crate::server_error::ServerError;

/// A connection could not be opened.
#[derive(Debug)]
pub struct ConnectError {
    address: Address,
    cause: Box<ConnectCause>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectCause {
    /// The host's name could not be looked up.
    Lookup(io::Error),
    /// Nobody could be reached there.
    Dial(io::Error),
    /// The server does not speak TLS, and the description wants it.
    NoTls,
    /// TLS could not be agreed on; most often the server's certificate is not good enough.
    Tls(io::Error),
    /// A file of the TLS settings can't be used.
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The server's certificate is to be checked, and there is nothing to check it against.
    NoRoots,
    /// The certificate is to name the host, and no certificate can have such a name.
    Name(String),
    /// The login is to be bound to the encrypted connection, and that is not possible.
    NoBinding,
    /// It took longer than `connect_timeout`.
    Timeout(Duration),
    /// The connection ended in the middle of the login.
    Closed(io::Error),
    /// What came is not the protocol, or not in its place.
    Stream(StreamError),
    /// The server refused, in its own words.
    Server(ServerError),
    /// The server wants a login that the credential does not serve.
    Credential {
        /// What the server asks for.
        wanted: &'static str,
        /// What there is.
        given: &'static str,
    },
    /// The server wants a login that is not spoken.
    Method(String),
    /// The server wants the password in clear text, and the connection is not encrypted.
    ClearText,
    /// The login went wrong on our side, or the server could not prove to know the password.
    Login(String),
}

impl ConnectError {
    pub(crate) fn new(address: &Address, cause: ConnectCause) -> Self {
        Self { address: address.clone(), cause: Box::new(cause) }
    }

    pub(crate) fn closed(address: &Address, error: io::Error) -> Self {
        Self::new(address, ConnectCause::Closed(error))
    }

    /// Which server it was.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What went wrong.
    pub fn cause(&self) -> &ConnectCause {
        &self.cause
    }

    /// What the server said, if it got so far.
    pub fn server(&self) -> Option<&ServerError> {
        match &*self.cause {
            ConnectCause::Server(report) => Some(report),
            _ => None,
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.cause {
            ConnectCause::Lookup(error)
            | ConnectCause::Dial(error)
            | ConnectCause::Tls(error)
            | ConnectCause::Closed(error) => Some(error),
            ConnectCause::Stream(error) => Some(error),
            ConnectCause::Server(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't connect to {}: {}", self.address, self.cause)
    }
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(_) => {
                f.write_str("the name of its host is not known; check it, and the resolver")
            }
            Self::Dial(error) if is_out_of_files(error) => f.write_str(
                "no more files may be opened here; raise the limit of this process (`ulimit -n`), \
                 or of the system",
            ),
            Self::Dial(_) => f.write_str(
                "nobody answers there; check that the server runs and listens on that address",
            ),
            Self::NoTls => f.write_str(
                "it does not speak TLS and sslmode wants it; set ssl = on in its postgresql.conf, \
                 or sslmode=prefer here",
            ),
            Self::Tls(error) => write!(f, "TLS could not be agreed on; {}", advice(error)),
            Self::File { path, error } => write!(f, "{} can't be used: {error}", path.display()),
            Self::NoRoots => f.write_str(
                "its certificate is to be checked and no roots are known; set sslrootcert to a \
                 file, or to system on a machine that has the ca-certificates package",
            ),
            Self::Name(host) => write!(
                f,
                "no certificate can be made out to {host:?}; use sslmode=verify-ca, or another name"
            ),
            Self::NoBinding => f.write_str(
                "channel_binding=require can't be kept: it needs TLS, a login by scram-sha-256, \
                 and a server certificate signed with SHA-2",
            ),
            Self::Timeout(limit) => write!(
                f,
                "not logged in within {limit:?}; check that a PostgreSQL server listens there and \
                 no firewall is in between, or raise connect_timeout"
            ),
            Self::Closed(_) => f.write_str(
                "the connection was closed during the login; the server's log says why, if it is \
                 a PostgreSQL server",
            ),
            Self::Stream(_) => {
                f.write_str("what answers there does not speak as a PostgreSQL server does")
            }
            Self::Server(_) => f.write_str("the server refused the session"),
            Self::Credential { wanted, given } => write!(
                f,
                "the server asks for {wanted} and there is {given}; configure it, or change the \
                 line in the server's pg_hba.conf"
            ),
            Self::Method(method) => write!(
                f,
                "the server asks for a login by {method}, which is not spoken; use scram-sha-256, \
                 md5, cert or trust in its pg_hba.conf"
            ),
            Self::ClearText => f.write_str(
                "the server asks for the password in clear text on a connection that is not \
                 encrypted; set sslmode=require or stricter, or scram-sha-256 in its pg_hba.conf",
            ),
            Self::Login(what) => write!(f, "the login failed: {what}"),
        }
    }
}

/// Whether it is not the server that is missing but a file for its socket: ENFILE and EMFILE, which
/// have these numbers on every Unix.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

impl From<StreamError> for ConnectCause {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// What to do about a failed handshake.
fn advice(error: &io::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(bad)) => match bad {
            Bad::UnknownIssuer => "set sslrootcert to who has signed the server's certificate",
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the certificate is not made out to that host (its subjectAltName counts, not its \
                 common name); use the name it has, or sslmode=verify-ca"
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "renew the server's certificate",
            _ => "make the server's certificate anew",
        },
        Some(rustls::Error::AlertReceived(_)) => {
            "the server did not like ours: check sslcert and sslkey, and the server's log"
        }
        _ => "check that a PostgreSQL server listens there; its log may say why",
    }
}
