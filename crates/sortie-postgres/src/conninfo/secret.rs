//! What proves to a server who we are. Nothing here is ever printed.

use std::fmt;
use std::path::PathBuf;

/// What to log in to a server with.
#[derive(Clone, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Credential {
    /// A password, for SCRAM-SHA-256, md5, and, inside of TLS only, in clear text.
    Password(String),
    /// The two keys that a SCRAM login needs in place of the password.
    ScramKeys(Box<ScramKeys>),
    /// The client certificate of [`Tls`](crate::Tls); the server asks for nothing else.
    Certificate,
    /// A client certificate of the login's own, in place of the one that
    /// [`Tls`](crate::Tls) names.
    OwnCertificate(Box<OwnCertificate>),
    /// Nothing: the server trusts where we come from.
    Trust,
}

/// A client certificate that one role alone logs in with.
///
/// The files are read for every connection: a certificate that was renewed is used from then on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct OwnCertificate {
    /// The certificate, with those that vouch for it behind it: a file in PEM.
    pub certificate: PathBuf,
    /// Its private key, a file in PEM.
    pub key: PathBuf,
    /// What answers the server if it asks for more than the certificate.
    pub beside: Credential,
}

/// The keys of a role's SCRAM-SHA-256 secret.
///
/// They log in wherever the role has the same secret (salt and iterations included), and can't be
/// turned back into its password. The verifier in `pg_authid` is not enough: it has the server's
/// key and only a digest of the client's.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "RFC 5802 names these two")]
pub struct ScramKeys {
    /// RFC 5802's `ClientKey`, which proves us to the server.
    pub client: [u8; 32],
    /// RFC 5802's `ServerKey`, which proves the server to us.
    pub server: [u8; 32],
}

impl OwnCertificate {
    /// A certificate that is all that the server asks for.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (certificate, key) = (certificate.into(), key.into());
        Self { certificate, key, beside: Credential::Certificate }
    }
}

impl Credential {
    /// What answers a server that asks for something.
    pub(crate) fn answer(&self) -> &Self {
        match self {
            Self::OwnCertificate(own) => own.beside.answer(),
            other => other,
        }
    }

    /// What kind it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Password(_) => "a password",
            Self::ScramKeys(_) => "SCRAM keys",
            Self::Certificate | Self::OwnCertificate(_) => "a certificate",
            Self::Trust => "no credential",
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::ScramKeys(_) => "ScramKeys(..)",
            Self::Certificate => "Certificate",
            Self::OwnCertificate(_) => "OwnCertificate(..)",
            Self::Trust => "Trust",
        })
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}
