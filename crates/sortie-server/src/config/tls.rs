//! Encryption of clients' connections: whether, and with which certificate.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sortie_postgres::tls_end_point;

/// Who reads the key can pass for this server.
const OPEN_TO_OTHERS: u32 = 0o077;

/// What clients that name their protocol call it.
pub(crate) const PROTOCOL: &[u8] = b"postgresql";

/// Whether clients' connections are encrypted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tls {
    /// Never.
    #[default]
    Off,
    /// If the client wants it.
    Allow(Identity),
    /// Always: who does not want it is refused.
    Require(Identity),
}

/// The certificate that clients are shown, with its key. The key is never printed.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// What a login on such a connection can be bound to, if it can.
    pub(crate) end_point: Option<Arc<[u8]>>,
    chain: Arc<[CertificateDer<'static>]>,
    /// Those that vouch for clients' certificates.
    authority: Arc<[CertificateDer<'static>]>,
}

/// What can't be used, and why.
#[derive(Debug)]
pub(super) enum Unusable {
    Certificate(String),
    Key(String),
    Authority(String),
}

impl Tls {
    /// The certificate, where there is encryption.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Off => None,
            Self::Allow(identity) | Self::Require(identity) => Some(identity),
        }
    }
}

impl Identity {
    /// Reads a certificate, with those that vouch for it behind it, its key, and who vouches for
    /// clients' certificates, if they are asked for these: files in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them, and what mends it.
    pub(super) fn load(
        certificate: &Path,
        key: &Path,
        authority: Option<&Path>,
    ) -> Result<Self, Unusable> {
        let chain = chain(certificate)
            .map_err(|what| Unusable::Certificate(format!("{}: {what}", certificate.display())))?;
        let of_key = |what: String| Unusable::Key(format!("{}: {what}", key.display()));
        let private = private_key(key).map_err(of_key)?;
        let of_authority =
            |path: &Path, what| Unusable::Authority(format!("{}: {what}", path.display()));
        let vouching = authority.map(|path| self::chain(path).map_err(|it| of_authority(path, it)));
        let vouching = vouching.transpose()?.unwrap_or_default();
        let asking = authority.map(|path| verifier(&vouching).map_err(|it| of_authority(path, it)));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has both versions of TLS");
        let builder = match asking.transpose()? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain.clone(), private)
            .map_err(|error| of_key(format!("it does not go with the certificate: {error}")))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let end_point = chain.first().and_then(|shown| tls_end_point(shown));
        Ok(Self {
            config: Arc::new(config),
            end_point: end_point.map(Arc::from),
            chain: chain.into(),
            authority: vouching.into(),
        })
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.authority == other.authority
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// Whoever shows a certificate must have one of theirs; whoever shows none is told later that it
/// must, in words that its user sees.
fn verifier(vouching: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in vouching {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_none) => Err("there is no certificate in PEM in it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let file = fs::metadata(path).map_err(|error| error.to_string())?;
    let mode = file.permissions().mode() & 0o777;
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(format!(
            "others than its owner may use it (its mode is {mode:04o}), and with it pass for this \
             server: chmod 600 {}",
            path.display(),
        ));
    }
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| format!("there is no private key in PEM in it: {error}"))
}
