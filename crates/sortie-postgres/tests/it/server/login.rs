//! Each way to log in, and each way to be refused.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sortie_postgres::{
    Address, Binding, ConnInfo, ConnectCause, ConnectError, Connection, Credential, Login,
    OwnCertificate, Request, ScramKeys, TlsMode,
};
use sortie_testkit::free_port;
use tokio::time::Instant;

use super::rig::{PASSWORD, Rig, sha384, shared, shared_without_tls};
use super::simple;

async fn open(info: &ConnInfo) -> Result<Connection, ConnectError> {
    Connection::open(info, &Login::of(info)).await
}

/// Opens a session and asks something.
async fn works(info: &ConnInfo) {
    let mut connection = open(info).await.unwrap_or_else(|error| panic!("{error} {error:?}"));
    let reply = connection.exchange(Request::new(simple("SELECT current_user"))).await.unwrap();
    assert_eq!(reply.tag(), Some(&b"SELECT 1"[..]));
    connection.close().await;
}

async fn refused(info: &ConnInfo) -> ConnectError {
    open(info).await.err().unwrap_or_else(|| panic!("{info:?} was let in"))
}

#[track_caller]
fn says(error: &ConnectError, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}

#[tokio::test]
async fn passwords_without_tls() {
    let rig = shared_without_tls().await;
    for role in ["trusty", "scram", "hashed", "plain"] {
        works(&rig.info(role, TlsMode::Prefer)).await;
        works(&rig.info(role, TlsMode::Disable)).await;
    }
    let clear = refused(&rig.info("clear", TlsMode::Prefer)).await;
    says(&clear, &["clear text", "sslmode=require", "127.0.0.1:"]);
    let none = refused(&rig.info("scram", TlsMode::Require)).await;
    assert!(matches!(none.cause(), ConnectCause::NoTls), "{none:?}");

    let mut wrong = rig.info("scram", TlsMode::Disable);
    wrong.credential = Credential::Password("other".to_owned());
    assert_eq!(refused(&wrong).await.server().unwrap().sqlstate(), "28P01");
    wrong.user = "hashed".to_owned();
    assert_eq!(refused(&wrong).await.server().unwrap().sqlstate(), "28P01");
    wrong.credential = Credential::Trust;
    says(&refused(&wrong).await, &["asks for a password", "no credential"]);

    let mut elsewhere = rig.info("trusty", TlsMode::Disable);
    elsewhere.database = "nowhere".to_owned();
    let error = refused(&elsewhere).await;
    let report = error.server().unwrap();
    assert_eq!((report.sqlstate(), report.is_fatal()), ("3D000", true));
    assert_eq!(report.frame()[0], b'E');

    let mut bound = rig.info("scram", TlsMode::Disable);
    bound.tls.binding = Binding::Require;
    assert!(matches!(refused(&bound).await.cause(), ConnectCause::NoBinding));
}

#[tokio::test]
async fn unix_sockets() {
    let rig = shared_without_tls().await;
    let mut info = rig.info("scram", TlsMode::VerifyFull);
    let port = rig.node.address().port();
    info.address = Address::Unix { folder: rig.node.socket_folder(), port };
    info.host_address = None;
    works(&info).await;
    let mut session = open(&info).await.unwrap();
    let cancel = session.cancel_key().clone();
    let slow = session.exchange(Request::new(simple("SELECT pg_sleep(60)")));
    let soon = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel().await.unwrap();
    };
    let (error, ()) = tokio::join!(slow, soon);
    assert_eq!(error.unwrap_err().server().unwrap().sqlstate(), "57014");
    info.address = Address::Unix { folder: rig.node.data(), port };
    let error = refused(&info).await;
    assert!(matches!(error.cause(), ConnectCause::Dial(_)), "{error:?}");
    says(&error, &[".s.PGSQL."]);
}

#[tokio::test]
async fn every_sslmode() {
    let rig = shared().await;
    for role in ["trusty", "scram", "hashed", "clear"] {
        works(&rig.info(role, TlsMode::Prefer)).await;
        works(&rig.info(role, TlsMode::Require)).await;
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            let mut info = rig.info(role, mode);
            info.tls.roots = rig.roots();
            works(&info).await;
        }
    }
    works(&rig.info("plain", TlsMode::Disable)).await;
    let report = refused(&rig.info("plain", TlsMode::Prefer)).await;
    assert_eq!(report.server().unwrap().sqlstate(), "28000");

    let port = rig.node.address().port();
    let named = |host: &str, mode| {
        let mut info = rig.info("scram", mode);
        info.address = Address::tcp(host, port);
        info.tls.roots = rig.roots();
        info
    };
    works(&named("db.example", TlsMode::VerifyFull)).await;
    works(&named("other.example", TlsMode::VerifyCa)).await;
    says(&refused(&named("other.example", TlsMode::VerifyFull)).await, &["subjectAltName"]);

    let mut unknown = rig.info("scram", TlsMode::Require);
    unknown.tls.roots = sortie_postgres::Roots::System;
    says(&refused(&unknown).await, &["sslrootcert"]);
    unknown.tls.roots = sortie_postgres::Roots::File("/nowhere/root.pem".into());
    says(&refused(&unknown).await, &["/nowhere/root.pem"]);
    unknown.tls.mode = TlsMode::VerifyCa;
    unknown.tls.roots = sortie_postgres::Roots::Unset;
    assert!(matches!(refused(&unknown).await.cause(), ConnectCause::NoRoots));
}

#[tokio::test]
async fn logins_are_bound_to_the_channel() {
    let rig = Rig::start().await;
    let bound = |role: &str| {
        let mut info = rig.info(role, TlsMode::Require);
        info.tls.binding = Binding::Require;
        info
    };
    works(&bound("scram")).await;
    for role in ["trusty", "hashed", "clear"] {
        let error = refused(&bound(role)).await;
        assert!(matches!(error.cause(), ConnectCause::NoBinding), "{role}: {error:?}");
    }
    let mut unbound = rig.info("scram", TlsMode::Require);
    unbound.tls.binding = Binding::Disable;
    works(&unbound).await;
    let (certificate, key) = sha384();
    rig.encrypt(&certificate, &key).await;
    works(&bound("scram")).await;
}

#[tokio::test]
async fn keys_log_in_where_the_password_would() {
    let rig = shared().await;
    let secret = "SELECT rolpassword FROM pg_authid WHERE rolname = 'scram'";
    let secret = rig.node.script_in("postgres", secret).await;
    let mut info = rig.info("scram", TlsMode::Require);
    info.tls.binding = Binding::Require;
    let keys = keys(secret.trim());
    info.credential = Credential::ScramKeys(Box::new(keys));
    works(&info).await;
    info.tls.mode = TlsMode::Disable;
    info.tls.binding = Binding::Prefer;
    works(&info).await;

    let forged = ScramKeys { server: [7; 32], ..keys };
    info.credential = Credential::ScramKeys(Box::new(forged));
    says(&refused(&info).await, &["could not prove"]);
    let forged = ScramKeys { client: [7; 32], ..keys };
    info.credential = Credential::ScramKeys(Box::new(forged));
    assert_eq!(refused(&info).await.server().unwrap().sqlstate(), "28P01");
    info.user = "hashed".to_owned();
    says(&refused(&info).await, &["md5", "SCRAM keys"]);
}

/// Makes the keys of the password, with salt and iterations as the server's secret has them.
fn keys(secret: &str) -> ScramKeys {
    let mut parts = secret.split(['$', ':']);
    assert_eq!(parts.next(), Some("SCRAM-SHA-256"));
    let iterations: NonZeroU32 = parts.next().unwrap().parse().unwrap();
    let salt = STANDARD.decode(parts.next().unwrap()).unwrap();
    let mut salted = [0; 32];
    let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
    ring::pbkdf2::derive(algorithm, iterations, &salt, PASSWORD.as_bytes(), &mut salted);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &salted);
    let made = |name: &[u8]| ring::hmac::sign(&key, name).as_ref().try_into().unwrap();
    ScramKeys { client: made(b"Client Key"), server: made(b"Server Key") }
}

#[tokio::test]
async fn certificates_log_in() {
    let rig = shared().await;
    let certified = |role: &str| {
        let (certificate, key) = rig.client(role);
        let mut info = rig.info("certified", TlsMode::VerifyFull);
        info.tls.roots = rig.roots();
        info.tls.certificate = Some(certificate);
        info.tls.key = Some(key);
        info.credential = Credential::Certificate;
        info
    };
    let mut info = certified("certified");
    works(&info).await;
    let mut session = open(&info).await.unwrap();
    let cancel = session.cancel_key().clone();
    let slow = session.exchange(Request::new(simple("SELECT pg_sleep(60)")));
    let soon = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel().await.unwrap();
    };
    let (error, ()) = tokio::join!(slow, soon);
    assert_eq!(error.unwrap_err().server().unwrap().sqlstate(), "57014");

    assert_eq!(refused(&certified("trusty")).await.server().unwrap().sqlstate(), "28000");
    let stranger = certified("stranger");
    info.tls.key = stranger.tls.key;
    says(&refused(&info).await, &["stranger.key", "does not go with"]);
    info.tls.certificate = None;
    info.tls.key = None;
    assert_eq!(refused(&info).await.server().unwrap().sqlstate(), "28000");
    // Signed by nobody the server knows.
    let other = shared_without_tls().await;
    let (certificate, key) = other.client("certified");
    (info.tls.certificate, info.tls.key) = (Some(certificate), Some(key));
    says(&refused(&info).await, &["sslcert"]);
}

/// A server that wants the certificate of each role, whatever the connection string says.
#[tokio::test]
async fn a_login_shows_a_certificate_of_its_own() {
    let rig = shared().await;
    let mut info = rig.info("trusty", TlsMode::VerifyFull);
    info.tls.roots = rig.roots();
    let (certificate, key) = rig.client_in("own-trusty", "trusty");
    (info.tls.certificate, info.tls.key) = (Some(certificate), Some(key));
    let login = |role: &str, shown: &str, beside: Credential| {
        let (certificate, key) = rig.client_in(&format!("own-{shown}"), shown);
        let mut own = OwnCertificate::new(certificate, key);
        own.beside = beside;
        let mut login = Login::new(role, "postgres");
        login.credential = Some(Credential::OwnCertificate(Box::new(own)));
        login
    };
    let password = || Credential::Password(PASSWORD.to_owned());
    for login in [
        login("certified", "certified", Credential::Certificate),
        login("twofold", "twofold", password()),
    ] {
        let mut session = Connection::open(&info, &login).await.unwrap();
        session.exchange(Request::new(simple("SELECT 1"))).await.unwrap();
        session.close().await;
    }
    for (login, sqlstate) in [
        // The server calls it after the method of the two that it has asked for last.
        (login("twofold", "certified", password()), "28P01"),
        (login("certified", "twofold", Credential::Certificate), "28000"),
        (login("twofold", "twofold", Credential::Password("wrong".to_owned())), "28P01"),
    ] {
        let error = Connection::open(&info, &login).await.unwrap_err();
        assert_eq!(error.server().unwrap().sqlstate(), sqlstate, "{login:?}");
    }
    let asked = login("twofold", "twofold", Credential::Certificate);
    says(&Connection::open(&info, &asked).await.unwrap_err(), &["SCRAM-SHA-256", "a certificate"]);
}

#[tokio::test]
async fn the_self_signed_certificate_of_the_manual_is_its_own_root() {
    let rig = Rig::without_tls().await;
    let folder = rig.node.data();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-new", "-x509", "-days", "365", "-nodes", "-text", "-subj", "/CN=db"]);
    openssl.args(["-out", "own.pem", "-keyout", "own.key"]).current_dir(&folder);
    let made = sortie_testkit::run(openssl).await;
    assert!(made.success, "{}", made.err);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    rig.encrypt(&read("own.pem"), &read("own.key")).await;
    let mut info = rig.info("scram", TlsMode::VerifyCa);
    info.tls.roots = sortie_postgres::Roots::File(folder.join("own.pem"));
    info.tls.binding = Binding::Require;
    works(&info).await;
    info.tls.roots = rig.roots();
    says(&refused(&info).await, &["TLS could not be agreed on"]);
}

#[tokio::test]
async fn nobody_there() {
    let info = |host: &str, port| {
        let mut info = ConnInfo::new(Address::tcp(host, port), "nobody", "nothing");
        info.connect_timeout = Duration::from_secs(20);
        info
    };
    let error = refused(&info("no-such-host.invalid", 5432)).await;
    assert!(matches!(error.cause(), ConnectCause::Lookup(_)), "{error:?}");
    says(&error, &["no-such-host.invalid:5432"]);
    let error = refused(&info("127.0.0.1", free_port())).await;
    assert!(matches!(error.cause(), ConnectCause::Dial(_)), "{error:?}");
    says(&error, &["127.0.0.1:", "nobody answers"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_the_timeout() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", address.port()), "u", "d");
        (info.tls.mode, info.connect_timeout) = (mode, Duration::from_millis(300));
        let begun = Instant::now();
        let error = refused(&info).await;
        assert!(matches!(error.cause(), ConnectCause::Timeout(_)), "{error:?}");
        says(&error, &["300ms", "connect_timeout"]);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn what_is_no_postgres_is_said_to_be_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for mode in [TlsMode::Disable, TlsMode::Prefer] {
        let web = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let said = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.unwrap();
            stream
        };
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", port), "u", "d");
        info.tls.mode = mode;
        let (_stream, error) = tokio::join!(web, refused(&info));
        says(&error, &["does not speak as a PostgreSQL server does"]);
    }
}
