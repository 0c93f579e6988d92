//! A server that wants a different login of each role, and the certificates for it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
};
use sortie_postgres::{Address, ConnInfo, Credential, Roots, TlsMode};
use sortie_testkit::{Cluster, LabConfig, Node};
use tokio::sync::OnceCell;

pub(super) const PASSWORD: &str = "pässwörd";

const ROLES: &str = "
    CREATE ROLE trusty LOGIN; CREATE ROLE certified LOGIN; CREATE ROLE plain LOGIN;
    SET password_encryption = 'scram-sha-256';
    CREATE ROLE scram LOGIN PASSWORD 'pässwörd'; CREATE ROLE clear LOGIN PASSWORD 'pässwörd';
    CREATE ROLE twofold LOGIN PASSWORD 'pässwörd';
    SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'pässwörd';
";

const HBA: &str = "
    host      all  postgres  all  trust
    local     all  scram          scram-sha-256
    local     all  all            trust
    host      all  trusty    all  trust
    hostnossl all  plain     all  trust
    host      all  scram     all  scram-sha-256
    host      all  clear     all  password
    host      all  hashed    all  md5
    hostssl   all  certified all  cert
    hostssl   all  twofold   all  scram-sha-256 clientcert=verify-full
";

/// The server, and an authority that has signed its certificate.
pub(super) struct Rig {
    pub(super) node: Node,
    authority: Issuer<'static, KeyPair>,
}

/// A server that the tests share and leave as it is, with TLS.
pub(super) async fn shared() -> &'static Rig {
    static SHARED: OnceCell<Rig> = OnceCell::const_new();
    SHARED.get_or_init(Rig::start).await
}

/// Another one, without TLS.
pub(super) async fn shared_without_tls() -> &'static Rig {
    static SHARED: OnceCell<Rig> = OnceCell::const_new();
    SHARED.get_or_init(Rig::without_tls).await
}

impl Rig {
    /// A server with TLS, whose certificate is made out to `db.example` and 127.0.0.1.
    pub(super) async fn start() -> Self {
        let rig = Self::without_tls().await;
        let key = KeyPair::generate().unwrap();
        let names = ["db.example".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &rig.authority).unwrap();
        rig.encrypt(&certificate.pem(), &key.serialize_pem()).await;
        rig
    }

    pub(super) async fn without_tls() -> Self {
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.sample) = (1, 0, false);
        let node = Cluster::private(config).await.primary(0);
        node.script_in("postgres", ROLES).await;
        node.set_hba(HBA).await;
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let rig = Self { node, authority: Issuer::new(params, key) };
        rig.write("authority.pem", &authority.pem());
        rig
    }

    /// Gives the server a certificate, and switches TLS on.
    pub(super) async fn encrypt(&self, certificate: &str, key: &str) {
        self.write("server.pem", certificate);
        self.write("server.key", key);
        self.node.set("ssl_cert_file", "server.pem").await;
        self.node.set("ssl_key_file", "server.key").await;
        self.node.set("ssl_ca_file", "authority.pem").await;
        self.node.set("ssl", "on").await;
    }

    /// A certificate for a client, made out to `role`, and its key.
    pub(super) fn client(&self, role: &str) -> (PathBuf, PathBuf) {
        self.client_in(role, role)
    }

    /// The same in files of this name: nobody else's are written over.
    pub(super) fn client_in(&self, file: &str, role: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, role);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (
            self.write(&format!("{file}.pem"), &certificate.pem()),
            self.write(&format!("{file}.key"), &key.serialize_pem()),
        )
    }

    pub(super) fn roots(&self) -> Roots {
        Roots::File(self.node.data().join("authority.pem"))
    }

    /// A description for one of the roles, with the password.
    pub(super) fn info(&self, role: &str, mode: TlsMode) -> ConnInfo {
        let address = self.node.address();
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", address.port()), role, "postgres");
        info.host_address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        info.credential = Credential::Password(PASSWORD.to_owned());
        info.tls.mode = mode;
        info
    }

    /// Writes a file that the server accepts as its own.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.node.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(self.node.data()).unwrap();
        give(&path, owner.uid(), owner.gid());
        path
    }
}

/// A certificate that is signed with another hash, and its key.
pub(super) fn sha384() -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn give(path: &Path, user: u32, group: u32) {
    chown(path, Some(user), Some(group)).unwrap();
}
