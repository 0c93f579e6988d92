//! The clients that people use, through both lanes of sortie and straight at PostgreSQL: the same
//! program prints the same. `docs/clients.md` says what each of them shares.
//!
//! Behind sortie both lanes end at servers that take writes: the pipe lane's is the primary. What
//! would be a client here, and can't be had from the registries that the tests install from: pgx 5
//! and later (Go's modules; pgx 4 and lib/pq come as Debian packages), and pgJDBC's own tests.

mod compiled;
mod defaults;
mod suites;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use sortie_testkit::{Ran, node, program, python, run, workspace};
use tempfile::TempDir;

use self::compiled::go_clients;
use crate::stage::{Setup, Stage};
use crate::support::among_others;

pub(crate) use self::compiled::{java_client, rust_clients};

/// Runs a client against PostgreSQL, then against sortie in each mode, and compares; some of what
/// it asks must have been shared.
async fn check(lines_min: usize, client: impl Fn(SocketAddr) -> Command) {
    let shared = compare(lines_min, client).await;
    assert!(shared > 0.0, "nothing was shared");
}

/// As [`check`], whatever was shared; says how many statements were.
async fn compare(lines_min: usize, client: impl Fn(SocketAddr) -> Command) -> f64 {
    let _others = among_others().await;
    let stage = Stage::take().await;
    compare_on(&stage, &["pipe", "share"], lines_min, client).await
}

async fn compare_on(
    stage: &Stage,
    modes: &[&'static str],
    lines_min: usize,
    client: impl Fn(SocketAddr) -> Command,
) -> f64 {
    let theirs = succeed(client(stage.primary())).await;
    assert!(theirs.lines().count() >= lines_min, "{theirs}");
    let mut shared = 0.0;
    for mode in modes.iter().copied() {
        let endpoint = stage.endpoint(Setup { mode, ..Setup::default() }).await;
        let ours = succeed(client(endpoint.listen())).await;
        let different: Vec<String> = theirs
            .lines()
            .zip(ours.lines())
            .filter(|(theirs, ours)| theirs != ours)
            .map(|(theirs, ours)| format!("PostgreSQL: {theirs}\n    sortie: {ours}"))
            .collect();
        assert!(different.is_empty(), "mode {mode}:\n{}", different.join("\n"));
        assert_eq!(ours, theirs, "mode {mode}");
        let lanes = endpoint.server.metrics().await;
        shared = lanes.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
        assert!(mode == "share" || shared == 0.0, "mode {mode}: {shared} statements were shared");
        endpoint.stop().await;
    }
    shared
}

async fn succeed(command: Command) -> String {
    let line = format!("{command:?}");
    let Ran { out, err, success, .. } = run(command).await;
    assert!(success, "{line}\n{out}\n{err}");
    format!("{out}{err}")
}

/// A script of `tests/clients` against that server.
fn python_client(script: &str, server: SocketAddr) -> Command {
    let mut command = Command::new(python());
    command.arg(workspace().join("tests/clients").join(script)).arg(server.port().to_string());
    command
}

fn node_client(server: SocketAddr) -> Command {
    let mut command = node();
    command.arg(workspace().join("tests/clients/node/session.js")).arg(server.port().to_string());
    command
}

#[tokio::test]
async fn psycopg() {
    check(40, |server| python_client("psycopg_lanes.py", server)).await;
}

#[tokio::test]
async fn psycopg2() {
    check(90, |server| python_client("psycopg2_session.py", server)).await;
}

#[tokio::test]
async fn pg8000() {
    // It flushes after each message, which is the pipe lane's.
    compare(100, |server| python_client("pg8000_session.py", server)).await;
}

#[tokio::test]
async fn asyncpg() {
    check(40, |server| python_client("asyncpg_session.py", server)).await;
}

#[tokio::test]
async fn sqlalchemy() {
    check(40, |server| python_client("sqlalchemy_session.py", server)).await;
}

#[tokio::test]
async fn django() {
    check(400, |server| python_client("django_session.py", server)).await;
}

#[tokio::test]
async fn node_postgres_and_postgres_js() {
    check(90, node_client).await;
}

#[tokio::test]
async fn jdbc() {
    let client = java_client("Session").await;
    check(1000, |server| client.at(server)).await;
}

#[tokio::test]
async fn pgx_and_lib_pq() {
    let clients = go_clients().await;
    check(500, |server| clients.at(server)).await;
}

#[tokio::test]
async fn tokio_postgres_sqlx_and_diesel() {
    let clients = rust_clients().await;
    check(60, |server| rust_client(&clients, server)).await;
}

fn rust_client(clients: &Path, server: SocketAddr) -> Command {
    let mut command = Command::new(clients);
    command.arg(server.port().to_string());
    command
}

#[tokio::test]
async fn psql() {
    let session = PsqlSession::new();
    check(100, |server| session.at(server)).await;
}

/// psql with a script that writes and reads a file.
struct PsqlSession(TempDir);

impl PsqlSession {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [script, data] = ["script.sql", "data"].map(|name| folder.path().join(name));
        let text = fs::read_to_string(workspace().join("tests/clients/session.psql")).unwrap();
        fs::write(&script, text.replace("DATA", &data.display().to_string())).unwrap();
        Self(folder)
    }

    fn at(&self, server: SocketAddr) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-a", "-w", "-h", "127.0.0.1", "-U", "tester", "-d", "postgres", "-p"]);
        command.arg(server.port().to_string()).arg("-f").arg(self.0.path().join("script.sql"));
        command
    }
}

#[tokio::test]
async fn some_of_them_with_the_newest_version() {
    let _others = among_others().await;
    let (rust, session) = (rust_clients().await, PsqlSession::new());
    let stage = Stage::take_newest().await;
    let clients: [&dyn Fn(SocketAddr) -> Command; 5] = [
        &|server| python_client("psycopg_lanes.py", server),
        &|server| python_client("asyncpg_session.py", server),
        &|server| python_client("sqlalchemy_session.py", server),
        &|server| rust_client(&rust, server),
        &|server| session.at(server),
    ];
    for client in clients {
        let shared = compare_on(&stage, &["share"], 40, client).await;
        assert!(shared > 0.0, "nothing was shared");
    }
}

#[tokio::test]
async fn pgbench() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let port = endpoint.listen().port().to_string();
    let pgbench = |arguments: &[&str]| {
        let mut command = Command::new(program("pgbench"));
        command.args(["-h", "127.0.0.1", "-U", "tester", "-p", &port]).args(arguments);
        succeed({
            command.arg("postgres");
            command
        })
    };
    pgbench(&["-i", "-q", "-s", "2"]).await;
    for mode in ["simple", "extended", "prepared"] {
        for kind in [&["-S"][..], &[]] {
            let load = ["-n", "-M", mode, "-c", "8", "-j", "2", "-T", "3"];
            let said = pgbench(&[&load, kind].concat()).await;
            assert!(said.contains("number of failed transactions: 0 (0.000%)"), "{said}");
            assert!(!said.to_lowercase().contains("error"), "{said}");
        }
    }
    // Whatever was cut off or run twice would show here.
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
                (SELECT sum(bbalance) FROM pgbench_branches), \
                (SELECT sum(tbalance) FROM pgbench_tellers), \
                (SELECT sum(delta) FROM pgbench_history), \
                (SELECT count(*) > 100 FROM pgbench_history)";
    let primary = stage.cluster.primary(0);
    let sums = primary.script_in("postgres", sums).await;
    let sums: Vec<&str> = sums.trim().split('|').collect();
    assert!(sums[..4].iter().all(|sum| *sum == sums[0]) && sums[4] == "t", "{sums:?}");
    pgbench(&["-i", "-I", "d"]).await;
    endpoint.stop().await;
}
