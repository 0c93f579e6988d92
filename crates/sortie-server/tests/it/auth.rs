//! Who is let in: by password, with the clients that people use, and nobody else.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bytes::{BufMut, BytesMut};
use sortie_testkit::{Frame, Postgres, Ran, Server, Wire, program, python, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clients::rust_clients;
use crate::support::{BINARY, among_others};

/// The role that may come, and its password.
pub(crate) const ROLE: &str = "tester";
pub(crate) const PASSWORD: &str = "s3cret \u{e4}\"'\\";

/// PostgreSQL, sortie in front of it, and the folder with what sortie was told.
pub(crate) struct Door {
    pub(crate) postgres: Postgres,
    pub(crate) server: Server,
    folder: TempDir,
}

impl Door {
    /// Asks everybody for a password; `lines` are more of the file's first ones.
    pub(crate) async fn with(lines: &str) -> Self {
        Self::with_files(lines, |_folder| {}).await
    }

    /// As [`with`](Self::with); `make` puts the files into the folder that `lines` name.
    pub(crate) async fn with_files(lines: &str, make: impl FnOnce(&TempDir)) -> Self {
        Self::within(&[], lines, make).await
    }

    /// As [`with_files`](Self::with_files), with these variables in sortie's environment.
    pub(crate) async fn within(
        environment: &[(&str, &str)],
        lines: &str,
        make: impl FnOnce(&TempDir),
    ) -> Self {
        let postgres = Postgres::start().await;
        postgres.script("CREATE ROLE tester LOGIN; CREATE ROLE other LOGIN;").await;
        let folder = tempfile::tempdir().unwrap();
        user(&folder, ROLE, PASSWORD).await;
        make(&folder);
        let mut text = format!("auth = \"scram\"\nusers = \"users.txt\"\n{lines}\n");
        let url = format!("postgres://{ROLE}@{}/postgres", postgres.listen());
        writeln!(text, "[[clusters.postgres.shards]]\nprimary = \"{url}\"").unwrap();
        let file = folder.path().join("sortie.toml");
        fs::write(&file, text).unwrap();
        let arguments = ["-c", file.to_str().unwrap()];
        let server = Server::start_within(BINARY, &arguments, environment).await;
        Self { postgres, server, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.server.listen()
    }

    pub(crate) async fn stop(self) {
        self.server.abandoned().await;
        self.server.stop().await;
        self.postgres.stop().await;
    }
}

/// Adds a line to the users file, as people do.
pub(crate) async fn user(folder: &TempDir, name: &str, password: &str) {
    let file = folder.path().join("users.txt");
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c"]);
    shell.arg("printf %s \"$PASSWORD\" | \"$SORTIE\" user \"$NAME\" >> \"$FILE\"");
    shell.env("PASSWORD", password).env("SORTIE", BINARY).env("NAME", name).env("FILE", &file);
    let made = run(shell).await;
    assert!(made.success && made.out.is_empty(), "{}{}", made.out, made.err);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

/// psql as somebody, with a connection string.
pub(crate) async fn psql(conninfo: &str, password: &str) -> Ran {
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-A", "-t", "-w", "-d", conninfo, "-c", "SELECT current_user"]);
    psql.env("PGPASSWORD", password);
    run(psql).await
}

pub(crate) fn to(server: SocketAddr, user: &str) -> String {
    let (host, port) = (server.ip(), server.port());
    format!("host={host} port={port} user={user} dbname=postgres")
}

/// An error without the text in front of it, which names the address.
fn fatal(ran: &Ran) -> String {
    assert!(!ran.success, "{}", ran.out);
    ran.err.split_once("FATAL:").map_or(ran.err.clone(), |(_, text)| text.trim().to_owned())
}

#[tokio::test]
async fn psql_is_let_in_by_password_alone() {
    let _others = among_others().await;
    let door = Door::with("").await;
    assert!(
        door.server.output().contains("by password (SCRAM-SHA-256)"),
        "{}",
        door.server.output()
    );
    let right = psql(&to(door.listen(), ROLE), PASSWORD).await;
    assert_eq!((right.out.trim(), right.success), (ROLE, true), "{}", right.err);
    let wrong = fatal(&psql(&to(door.listen(), ROLE), "s3cret").await);
    assert_eq!(wrong, "password authentication failed for user \"tester\"");
    // Nobody learns who is there: a role of the server, a name of nobody's, a database of nobody's.
    for stranger in ["other", "nobody"] {
        let told = fatal(&psql(&to(door.listen(), stranger), PASSWORD).await);
        assert_eq!(told, format!("password authentication failed for user \"{stranger}\""));
    }
    let nowhere = format!("{} dbname=nowhere", to(door.listen(), ROLE));
    assert_eq!(fatal(&psql(&nowhere, "wrong").await), wrong);
    assert!(fatal(&psql(&nowhere, PASSWORD).await).contains("database \"nowhere\" does not exist"));
    let output = door.server.output();
    assert!(!output.contains("s3cret") && !output.contains("SCRAM-SHA-256$"), "{output}");
    door.stop().await;
}

#[tokio::test]
async fn drivers_with_a_scram_of_their_own_are_let_in() {
    let _others = among_others().await;
    let door = Door::with("").await;
    let port = door.listen().port().to_string();
    let script = "
import asyncio, asyncpg, psycopg, sys
port, password = int(sys.argv[1]), sys.argv[2]
at = dict(host='127.0.0.1', port=port, user='tester')
with psycopg.connect(**at, dbname='postgres', password=password) as one:
    print(one.execute('SELECT current_user').fetchone()[0])
try:
    psycopg.connect(**at, dbname='postgres', password='wrong')
except psycopg.OperationalError as error:
    print('password authentication failed' in str(error))
async def both():
    one = await asyncpg.connect(**at, database='postgres', password=password, ssl=False)
    print(await one.fetchval('SELECT current_user'))
    await one.close()
    try:
        await asyncpg.connect(**at, database='postgres', password='wrong', ssl=False)
    except asyncpg.InvalidPasswordError as error:
        print(error.sqlstate)
asyncio.run(both())
";
    let mut client = Command::new(python());
    client.args(["-c", script, &port, PASSWORD]);
    let ran = run(client).await;
    assert_eq!(ran.out, "tester\nTrue\ntester\n28P01\n", "{}", ran.err);
    let program = rust_clients().await;
    for (password, said) in [(PASSWORD, "tester\ntester\n"), ("wrong", "28P01\n28P01\n")] {
        let mut client = Command::new(&program);
        client.args([&port, "login", ROLE, password]);
        let ran = run(client).await;
        assert_eq!(ran.out, said, "{}", ran.err);
    }
    door.stop().await;
}

#[tokio::test]
async fn a_users_file_that_others_may_read_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    user(&folder, ROLE, PASSWORD).await;
    let [file, users] = ["sortie.toml", "users.txt"].map(|name| folder.path().join(name));
    fs::set_permissions(&users, Permissions::from_mode(0o644)).unwrap();
    let text = "auth = \"scram\"\nusers = \"users.txt\"\n[[clusters.a.shards]]\n\
                primary = \"postgres://a@127.0.0.1:1/a\"\n";
    fs::write(&file, text).unwrap();
    for verb in ["serve", "check"] {
        let said = sortie(&[verb, "-c", file.to_str().unwrap()]).await;
        assert!(!said.success && said.err.contains("sortie.toml:2:9: `users`: "), "{}", said.err);
        assert!(said.err.contains(&format!("chmod 600 {}", users.display())), "{}", said.err);
    }
}

async fn sortie(arguments: &[&str]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    run(command).await
}

/// What is sent instead of a proof, and what is said to it.
#[tokio::test]
async fn whoever_does_not_speak_scram_is_told_so_and_ended() {
    let _others = among_others().await;
    let door = Door::with("login_max = \"1s\"").await;
    let frame = |tag: u8, body: &[u8]| {
        let mut bytes = BytesMut::from(&[tag][..]);
        bytes.put_u32(u32::try_from(body.len() + 4).unwrap());
        bytes.put_slice(body);
        bytes.to_vec()
    };
    let initial = |message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        frame(b'p', &[b"SCRAM-SHA-256\0", &length[..], message].concat())
    };
    for (sent, sqlstate, message) in [
        (frame(b'Q', b"SELECT 1\0"), "08P01", "expected SASL response, got message type 81"),
        (frame(b'p', b"hunter2\0"), "08P01", "malformed SCRAM message"),
        (frame(b'p', b""), "08P01", "malformed SCRAM message"),
        (frame(b'p', b"PLAIN\0\xff\xff\xff\xff"), "08P01", "invalid SASL authentication mechanism"),
        (initial(b"y,a=other,n=,r=x"), "0A000", "client uses authorization identity"),
        (vec![b'p', 0x7f, 0xff, 0xff, 0xff], "08P01", "invalid message length"),
        (b"p\0\0\0\x03".to_vec(), "08P01", "invalid message length"),
        (
            [initial(b"n,,n=,r=x"), frame(b'p', b"c=biws,r=x,p=")].concat(),
            "08P01",
            "SCRAM response",
        ),
        (Vec::new(), "57014", "canceling authentication due to timeout"),
        (initial(b"n,,n=,r=x"), "57014", "canceling authentication due to timeout"),
    ] {
        let mut stream = TcpStream::connect(door.listen()).await.unwrap();
        let startup = b"\0\0\0\x27\0\x03\0\0user\0tester\0database\0postgres\0\0";
        stream.write_all(&[&startup[..], &sent].concat()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        let report = Frame::all(&said).last().and_then(Frame::report).expect("an error ends it");
        assert_eq!(report.sqlstate, sqlstate, "{report:?}");
        assert!(report.message.contains(message), "{message}: {report:?}");
    }
    let right = psql(&to(door.listen(), ROLE), PASSWORD).await;
    assert!(right.success, "{}", right.err);
    door.stop().await;
}

/// Without a file there is nobody to ask for a password, and it says so.
#[tokio::test]
async fn what_asks_nobody_says_so() {
    let _others = among_others().await;
    let server = crate::support::serve(&[]).await;
    assert!(server.output().contains("no password"), "{}", server.output());
    assert_eq!(Wire::connect(server.listen()).await.rows("SELECT 1").await.len(), 1);
    server.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unsaid.toml");
    let shard = "[[clusters.a.shards]]\nprimary = \"postgres://a@127.0.0.1:1/a\"\n";
    fs::write(&file, shard).unwrap();
    let said = sortie(&["serve", "-c", file.to_str().unwrap()]).await;
    assert!(said.err.contains("who may connect? Write `auth = \"scram\"`"), "{}", said.err);
    let open = format!("auth = \"trust\"\n{shard}");
    fs::write(&file, open).unwrap();
    let file = file.to_str().unwrap();
    let said = sortie(&["serve", "-c", file, "--listen", "0.0.0.0:0"]).await;
    assert!(!said.success && said.err.contains("without authentication"), "{}", said.err);
}
