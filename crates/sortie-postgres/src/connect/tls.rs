//! Encryption: what `sslmode` promises, kept by rustls.
//!
//! Knows certificates and nothing of logins. The cryptography is *ring*, given to each
//! configuration by hand: a program that uses this library keeps its own choice of provider.
//!
//! Files are read for every connection, so that certificates can be renewed while the program
//! runs; the operating system's own are read once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::ConnectCause;
use super::login::Login;
use super::trust::{Chain, Trusted};
use crate::conninfo::{Address, ConnInfo, Credential, Roots, Tls, TlsMode};

/// A packet that asks whether TLS is spoken.
const REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// How to encrypt the connections to one server.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What a server says to [`REQUEST`].
pub(super) enum Offer {
    Spoken,
    NotSpoken,
    /// No answer that a PostgreSQL server gives.
    Strange(u8),
}

impl Secured {
    /// The description's choice; `None` if it wants no encryption, or there is no network.
    pub(super) async fn of(info: &ConnInfo, login: &Login) -> Result<Option<Self>, ConnectCause> {
        let host = match &info.address {
            Address::Tcp { host, .. } if info.tls.mode != TlsMode::Disable => host,
            _ => return Ok(None),
        };
        let name = match ServerName::try_from(host.clone()) {
            Ok(name) => name,
            Err(_odd) if info.tls.mode == TlsMode::VerifyFull => {
                return Err(ConnectCause::Name(host.clone()));
            }
            // A name that no certificate can have is not sent, and nobody compares it.
            Err(_odd) => ServerName::IpAddress(IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED)),
        };
        let config = config(&info.tls, shown(info, login)).await?;
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// Encrypts a connection on which the server has agreed to it.
    pub(super) async fn wrap(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await.map(Box::new)
    }
}

/// Asks whether TLS is spoken. Not one byte more than the answer is read: what an attacker puts
/// behind it in clear text would be taken for the server's.
pub(super) async fn offer(stream: &mut TcpStream) -> io::Result<Offer> {
    stream.write_all(REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(Offer::Spoken),
        b'N' => Ok(Offer::NotSpoken),
        other => Ok(Offer::Strange(other)),
    }
}

/// The certificate to show, and its key.
type Shown<'a> = Option<(&'a PathBuf, &'a PathBuf)>;

/// The login's own certificate, or else the one that all logins show.
fn shown<'a>(info: &'a ConnInfo, login: &'a Login) -> Shown<'a> {
    match &login.credential {
        Some(Credential::OwnCertificate(own)) => Some((&own.certificate, &own.key)),
        _ => info.tls.certificate.as_ref().zip(info.tls.key.as_ref()),
    }
}

async fn config(tls: &Tls, shown: Shown<'_>) -> Result<ClientConfig, ConnectCause> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider).await?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has both versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = shown else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate, &read(certificate).await?)?;
    let unusable = |error: String| ConnectCause::File { path: key.clone(), error };
    let key = PrivateKeyDer::from_pem_slice(&read(key).await?)
        .map_err(|error| unusable(format!("no private key in PEM: {error}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(format!("it does not go with its certificate: {error}")))
}

/// Who checks the server's certificate, and how strictly.
async fn verifier(
    tls: &Tls,
    provider: &CryptoProvider,
) -> Result<Arc<dyn ServerCertVerifier>, ConnectCause> {
    let algorithms = provider.signature_verification_algorithms;
    let named = tls.mode == TlsMode::VerifyFull;
    let chain = match &tls.roots {
        Roots::Unset if matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull) => {
            return Err(ConnectCause::NoRoots);
        }
        Roots::Unset => {
            return Ok(Arc::new(Trusted { chain: None, named: false, algorithms }));
        }
        Roots::System => Chain { roots: system().await?, own: Vec::new() },
        // Roots that are given are used, whatever the mode, as in libpq.
        Roots::File(path) => {
            let own = certificates(path, &read(path).await?)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(own.iter().cloned());
            Chain { roots: Arc::new(roots), own }
        }
    };
    Ok(Arc::new(Trusted { chain: Some(chain), named, algorithms }))
}

/// The certificates that the operating system trusts.
async fn system() -> Result<Arc<RootCertStore>, ConnectCause> {
    static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let load = || async {
        let loaded = spawn_blocking(rustls_native_certs::load_native_certs).await;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.map(|loaded| loaded.certs).unwrap_or_default());
        if roots.is_empty() { Err(ConnectCause::NoRoots) } else { Ok(Arc::new(roots)) }
    };
    SYSTEM.get_or_try_init(load).await.cloned()
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConnectCause> {
    let file = |error: String| ConnectCause::File { path: path.to_owned(), error };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(file("no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(file(error.to_string())),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, ConnectCause> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| ConnectCause::File { path: path.to_owned(), error: error.to_string() })
}
