//! Certificates of clients: those that clients show us, and those that we show the servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sortie_testkit::{Cluster, LabConfig, Node, Postgres, Ran, Server, Wire, program, run};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::{BINARY, among_others, refuses};
use crate::{auth, tls};

/// Longer than a reload takes.
const WITHIN: Duration = Duration::from_secs(30);

/// Who signs certificates.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// One whose own certificate is in `file`.
    fn new(folder: &Path, file: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join(file), params.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(params, key))
    }

    /// A certificate for `name`, in `FILE.crt` and `FILE.key`.
    fn sign(&self, folder: &Path, file: &str, name: &str) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        for (end, text) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            private(&folder.join(format!("{file}.{end}")), &text);
        }
    }
}

/// Writes a file that is its owner's alone.
fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// sortie in front of a server that asks nobody.
struct Front {
    postgres: Postgres,
    server: Server,
    folder: TempDir,
}

impl Front {
    async fn new(top: &str, make: impl FnOnce(&Path)) -> Self {
        let postgres = Postgres::start().await;
        postgres.script("CREATE ROLE tester LOGIN; CREATE ROLE other LOGIN;").await;
        let folder = tempfile::tempdir().unwrap();
        tls::certify(&folder);
        auth::user(&folder, auth::ROLE, auth::PASSWORD).await;
        make(folder.path());
        let file = folder.path().join("sortie.toml");
        fs::write(&file, text(&postgres, top)).unwrap();
        let server = Server::start(BINARY, &["-c", file.to_str().unwrap()]).await;
        Self { postgres, server, folder }
    }

    /// psql as `user`, with the certificate in these files, if any.
    async fn ask(&self, user: &str, file: Option<&str>, password: &str) -> Ran {
        let at = |name: String| self.folder.path().join(name).display().to_string();
        let shown = file.map_or("sslcert=/nowhere".to_owned(), |file| {
            format!("sslcert={} sslkey={}", at(format!("{file}.crt")), at(format!("{file}.key")))
        });
        let to = tls::to(self.server.listen(), &format!("sslmode=require user={user} {shown}"));
        auth::psql(&to, password).await
    }

    /// Changes the file, or what it names, and has it read again.
    async fn reload(&self, top: &str) {
        let file = self.folder.path().join("sortie.toml");
        fs::write(&file, text(&self.postgres, top)).unwrap();
        let label = ["outcome=\"applied\""];
        let name = "sortie_config_reloads_total";
        let before = self.server.metrics().await.sum(name, &label);
        self.server.signal("HUP");
        let began = Instant::now();
        while self.server.metrics().await.sum(name, &label) <= before {
            assert!(began.elapsed() < WITHIN, "{}", self.server.output());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many clients were not let in for this reason; a whole number, as text.
    async fn refused(&self, reason: &str) -> String {
        let label = format!("reason=\"{reason}\"");
        self.server.metrics().await.sum("sortie_logins_refused_total", &[&label]).to_string()
    }
}

fn text(postgres: &Postgres, top: &str) -> String {
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    format!(
        "tls = \"require\"\ntls_certificate = \"server.crt\"\ntls_key = \"server.key\"\n\
         tls_client_ca = \"clients.crt\"\n{top}\n[[clusters.postgres.shards]]\n\
         primary = \"{url}\"\n"
    )
}

#[track_caller]
fn is(ran: &Ran, user: &str) {
    assert_eq!((ran.out.trim(), ran.success), (user, true), "{}", ran.err);
}

#[tokio::test]
async fn clients_come_by_certificate_as_whoever_it_names() {
    let _others = among_others().await;
    let top = "auth = \"cert\"\n[certificates]\n\"app.example\" = [\"tester\"]\n";
    let front = Front::new(top, |folder| {
        let authority = Authority::new(folder, "clients.crt");
        for name in ["tester", "other", "app.example"] {
            authority.sign(folder, name, name);
        }
        Authority::new(folder, "unknown.crt").sign(folder, "forged", "tester");
    })
    .await;
    assert!(front.server.output().contains("by certificate, TLS only"));
    is(&front.ask("tester", Some("tester"), "").await, "tester");
    // Who is proven need not be named in the configuration.
    is(&front.ask("other", Some("other"), "").await, "other");
    is(&front.ask("tester", Some("app.example"), "").await, "tester");
    for (user, file) in [("other", "tester"), ("tester", "other"), ("other", "app.example")] {
        let told = format!("certificate authentication failed for user \"{user}\"");
        refuses(&front.ask(user, Some(file), "").await, &told);
    }
    let none = front.ask("tester", None, "").await;
    refuses(&none, "connection requires a valid client certificate");
    assert_eq!(front.refused("certificate").await, "4");
    assert!(!front.ask("tester", Some("forged"), "").await.success);
    // Its client may hear of it before it is counted.
    let began = Instant::now();
    while front.refused("tls").await != "1" {
        assert!(began.elapsed() < WITHIN, "{}", front.server.output());
        sleep(Duration::from_millis(20)).await;
    }
    front.server.abandoned().await;
    front.server.stop().await;
    front.postgres.stop().await;
}

#[tokio::test]
async fn a_password_may_be_asked_for_besides_and_a_reload_renews_the_authority() {
    let _others = among_others().await;
    let top = "auth = \"scram\"\nusers = \"users.txt\"\n";
    let front = Front::new(top, |folder| {
        let authority = Authority::new(folder, "clients.crt");
        authority.sign(folder, "tester", "tester");
        authority.sign(folder, "other", "other");
    })
    .await;
    let password = auth::PASSWORD;
    is(&front.ask("tester", Some("tester"), password).await, "tester");
    let wrong = front.ask("tester", Some("tester"), "wrong").await;
    refuses(&wrong, "password authentication failed for user \"tester\"");
    let stolen = front.ask("tester", Some("other"), password).await;
    refuses(&stolen, "certificate authentication failed for user \"tester\"");
    let none = front.ask("tester", None, password).await;
    refuses(&none, "connection requires a valid client certificate");
    // Whose it is does not matter: that an authority vouches for it does.
    front.reload(&format!("clientcert = \"verify-ca\"\n{top}")).await;
    is(&front.ask("tester", Some("other"), password).await, "tester");
    assert!(!front.ask("tester", None, password).await.success);
    // Another authority, in the same file.
    let authority = Authority::new(front.folder.path(), "clients.crt");
    authority.sign(front.folder.path(), "renewed", "tester");
    front.reload(top).await;
    is(&front.ask("tester", Some("renewed"), password).await, "tester");
    assert!(!front.ask("tester", Some("tester"), password).await.success);
    front.server.abandoned().await;
    front.server.stop().await;
    front.postgres.stop().await;
}

/// A server that wants certificates, and the authority behind them.
struct Strict {
    node: Node,
    authority: Authority,
    folder: TempDir,
}

impl Strict {
    async fn start() -> Self {
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.sample) = (1, 0, false);
        let node = Cluster::private(config).await.primary(0);
        let roles = "CREATE ROLE tester LOGIN; SET password_encryption = 'scram-sha-256';
                     CREATE ROLE writer LOGIN PASSWORD 'geheim'; CREATE ROLE bare LOGIN;
                     CREATE TABLE items AS SELECT 7 AS id; GRANT ALL ON items TO tester, writer;";
        node.script_in("postgres", roles).await;
        node.set_hba(
            "local all all trust\nhost all postgres all trust\n\
             hostssl all tester all cert\nhostssl all bare all cert\n\
             hostssl all writer all scram-sha-256 clientcert=verify-full\n",
        )
        .await;
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "root.crt");
        authority.sign(folder.path(), "server", "127.0.0.1");
        let owner = fs::metadata(node.data()).unwrap();
        for file in ["root.crt", "server.crt", "server.key"] {
            let path = node.data().join(file);
            private(&path, &fs::read_to_string(folder.path().join(file)).unwrap());
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        for (name, value) in [
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "root.crt"),
        ] {
            node.set(name, value).await;
        }
        node.set("ssl", "on").await;
        Self { node, authority, folder }
    }
}

/// Who the server says that a session is, by its certificate's number.
const SHOWN: &str = "SELECT current_user || ' ' || client_dn || ' ' || client_serial
                     FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn servers_are_shown_the_certificate_of_each_role() {
    let _others = among_others().await;
    let strict = Strict::start().await;
    let folder = strict.folder.path();
    for role in ["tester", "writer"] {
        strict.authority.sign(folder, role, role);
    }
    private(&folder.join("writer.password"), "geheim\n");
    let at = |file: &str| folder.join(file).display().to_string();
    let url = format!(
        "postgres://tester@{}/postgres?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        strict.node.address(),
        at("root.crt"),
        at("tester.crt"),
        at("tester.key"),
    );
    let text = format!(
        "auth = \"trust\"\n[clusters.postgres.users.writer]\npassword_file = \"writer.password\"\n\
         sslcert = \"writer.crt\"\nsslkey = \"writer.key\"\n[clusters.postgres.users.bare]\n\
         [[clusters.postgres.shards]]\nprimary = \"{url}\"\n"
    );
    let file = folder.join("sortie.toml");
    private(&file, &text);
    let mut check = Command::new(BINARY);
    check.args(["check", "-c", file.to_str().unwrap()]);
    let checked = run(check).await;
    assert!(checked.out.contains("bare") && !checked.out.contains("geheim"), "{}", checked.out);
    let server = Server::start(BINARY, &["-c", file.to_str().unwrap()]).await;
    let mut first = String::new();
    for role in ["tester", "writer"] {
        let mut wire = Wire::connect_as(server.listen(), role).await;
        let count = wire.rows("SELECT count(*) FROM items").await;
        assert_eq!(count[0][0].as_deref(), Some("1"), "{role}");
        let shown = wire.rows(SHOWN).await[0][0].clone().unwrap();
        assert!(shown.starts_with(&format!("{role} /CN={role} ")), "{shown}");
        first = shown;
    }
    // It has no certificate of its own, and the server does not take another's.
    let mut psql = Command::new(program("psql"));
    let to = format!("host=127.0.0.1 port={} user=bare dbname=postgres", server.listen().port());
    psql.args(["-X", "-w", "-d", &to, "-c", "SELECT 1"]);
    refuses(&run(psql).await, "certificate authentication failed for user \"bare\"");
    // Renewed files are used by connections that are opened from then on.
    strict.authority.sign(folder, "writer", "writer");
    let mut holding = Wire::connect_as(server.listen(), "writer").await;
    holding.rows("BEGIN").await;
    holding.rows(SHOWN).await;
    let mut other = Wire::connect_as(server.listen(), "writer").await;
    other.rows("BEGIN").await;
    let shown = other.rows(SHOWN).await[0][0].clone().unwrap();
    assert!(shown.starts_with("writer /CN=writer ") && shown != first, "{shown} {first}");
    drop((holding, other));
    server.abandoned().await;
    server.stop().await;
    strict.node.stop().await;
}
