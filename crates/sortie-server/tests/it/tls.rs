//! Encrypted clients: what they check of us, what we insist on, and what is slipped in between.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sortie_testkit::{Frame, program, python, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::auth::{Door, PASSWORD, ROLE, psql};
use crate::support::{among_others, refuses};

const FILES: &str = "tls_certificate = \"server.crt\"\ntls_key = \"server.key\"";
const REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// An authority, and a server's certificate that it vouches for; another authority that does not.
pub(crate) fn certify(folder: &TempDir) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let (root, issuer) = authority("an authority");
    write("root.crt", root);
    write("other.crt", authority("another authority").0);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    write("server.crt", params.signed_by(&key, &issuer).unwrap().pem());
    write("server.key", key.serialize_pem());
    let private = folder.path().join("server.key");
    fs::set_permissions(private, Permissions::from_mode(0o600)).unwrap();
}

pub(crate) async fn door(lines: &str) -> Door {
    Door::with_files(&format!("{lines}\n{FILES}"), certify).await
}

pub(crate) fn to(server: SocketAddr, more: &str) -> String {
    let port = server.port();
    format!("host=localhost hostaddr=127.0.0.1 port={port} user={ROLE} dbname=postgres {more}")
}

fn root(folder: &Path, name: &str) -> String {
    format!("sslrootcert={}", folder.join(name).display())
}

#[tokio::test]
async fn psql_knows_whom_it_talks_to() {
    let _others = among_others().await;
    let door = door("tls = \"require\"").await;
    assert!(door.server.output().contains("TLS only"), "{}", door.server.output());
    let [right, wrong] = ["root.crt", "other.crt"].map(|name| root(door.folder(), name));
    let ask = async |more: String| psql(&to(door.listen(), &more), PASSWORD).await;
    for mode in ["verify-full", "verify-ca", "require channel_binding=require"] {
        let ran = ask(format!("sslmode={mode} {right}")).await;
        assert_eq!((ran.out.trim(), ran.success), (ROLE, true), "{mode}: {}", ran.err);
    }
    refuses(&ask(format!("sslmode=verify-full {wrong}")).await, "certificate verify failed");
    // The certificate names `localhost`, whatever the address is.
    let misnamed = format!("sslmode=verify-full {right} host=elsewhere");
    refuses(&ask(misnamed).await, "does not match host name");
    refuses(&ask("sslmode=disable".to_owned()).await, "only encrypted ones are served");
    let guess = psql(&to(door.listen(), "sslmode=require"), "wrong").await;
    refuses(&guess, "password authentication failed for user \"tester\"");
    door.stop().await;
}

#[tokio::test]
async fn it_is_as_the_client_wants_where_that_is_allowed() {
    let _others = among_others().await;
    let encrypted = "sslmode=require";
    let open = door("tls = \"allow\"").await;
    for more in [encrypted, "sslmode=disable"] {
        let ran = psql(&to(open.listen(), more), PASSWORD).await;
        assert!(ran.success, "{more}: {}", ran.err);
    }
    open.stop().await;
    let off = Door::with("").await;
    refuses(&psql(&to(off.listen(), encrypted), PASSWORD).await, "does not support SSL");
    off.stop().await;
}

/// libpq 18 and asyncpg: with and without asking first, cancels, and rows that fill every buffer.
#[tokio::test]
async fn drivers_talk_through_it() {
    let _others = among_others().await;
    let door = door("tls = \"require\"").await;
    let script = "
import asyncio, asyncpg, hashlib, psycopg, socket, ssl, sys, threading
port, password, roots = int(sys.argv[1]), sys.argv[2], sys.argv[3]
words = dict(host='localhost', hostaddr='127.0.0.1', port=port, user='tester', dbname='postgres',
             password=password, sslmode='verify-full', sslrootcert=roots, channel_binding='require')
for negotiation in ('postgres', 'direct'):
    with psycopg.connect(**words, sslnegotiation=negotiation) as one:
        print(negotiation, one.pgconn.ssl_in_use, one.execute('SELECT 7').fetchone()[0])
        long = one.execute(\"SELECT repeat('sortie', 500000)\").fetchone()[0]
        rows = one.execute('SELECT repeat(n::text, 9) FROM generate_series(1, 50000) n').fetchall()
        print(len(long), len(rows))
        print(one.execute('SELECT length(%s)', ['x' * 300000]).fetchone()[0])
one = psycopg.connect(**words, autocommit=True)
threading.Timer(0.5, one.cancel_safe).start()
try:
    one.execute('SELECT pg_sleep(60)')
except psycopg.errors.QueryCanceled:
    print('canceled', one.execute('SELECT 8').fetchone()[0])
one.close()
trust = ssl.create_default_context(cafile=roots)
async def asynchronously(direct):
    one = await asyncpg.connect(host='localhost', port=port, user='tester', database='postgres',
                                password=password, ssl=trust, direct_tls=direct)
    print('asyncpg', await one.fetchval('SELECT current_user'))
    await one.close()
for direct in (False, True):
    asyncio.run(asynchronously(direct))
    trust.set_alpn_protocols(['postgresql'])
nameless = ssl.create_default_context(cafile=roots)
dialled = socket.create_connection(('127.0.0.1', port))
with nameless.wrap_socket(dialled, server_hostname='localhost') as other:
    print(b'without ALPN' in other.recv(1000))
";
    let mut client = Command::new(python());
    client.args(["-c", script, &door.listen().port().to_string(), PASSWORD]);
    client.arg(door.folder().join("root.crt"));
    let ran = run(client).await;
    let long = "3000000 50000\n300000\n";
    let expected = format!(
        "postgres True 7\n{long}direct True 7\n{long}canceled 8\nasyncpg tester\nasyncpg tester\n\
         True\n"
    );
    assert_eq!(ran.out, expected, "{}", ran.err);
    let mut load = Command::new(program("pgbench"));
    load.args(["-n", "-M", "prepared", "-c", "8", "-t", "100", "-f", "/dev/stdin"]);
    let mut shell = Command::new("bash");
    shell.arg("-c").arg("echo 'SELECT repeat(1::text, 20000)' | exec \"$@\"").arg("pgbench");
    shell.arg(load.get_program()).args(load.get_args());
    shell.arg(to(door.listen(), "sslmode=require")).env("PGPASSWORD", PASSWORD);
    let loaded = run(shell).await;
    assert!(loaded.out.contains("number of failed transactions: 0 (0.000%)"), "{loaded:?}");
    door.stop().await;
}

#[tokio::test]
async fn who_stops_within_the_handshake_is_ended_and_nothing_is_slipped_in() {
    let _others = among_others().await;
    let door = door("tls = \"allow\"\nlogin_max = \"1s\"").await;
    let startup = b"\0\0\0\x27\0\x03\0\0user\0tester\0database\0postgres\0\0";
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (sent, answer) in [
        (REQUEST.to_vec(), "S"),
        ([REQUEST, hello].concat(), "SE"),
        ([REQUEST, startup].concat(), "SE"),
        (hello.to_vec(), ""),
        (b"\x16".to_vec(), ""),
        // An alert in answer to what is no handshake.
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(), "\x15"),
    ] {
        let mut stream = TcpStream::connect(door.listen()).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        ended.expect("it is ended").ok();
        assert!(said.starts_with(answer.as_bytes()), "{sent:?}: {said:?}");
        if let Some(error) = said.strip_prefix(b"S").filter(|rest| !rest.is_empty()) {
            let report = Frame::all(error).first().and_then(Frame::report).expect("an error");
            assert_eq!(report.sqlstate, "08P01", "{report:?}");
        }
    }
    assert!(psql(&to(door.listen(), "sslmode=require"), PASSWORD).await.success);
    door.stop().await;
}
