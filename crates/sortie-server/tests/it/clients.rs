//! The clients that people use, through both lanes of sortie and straight at PostgreSQL: the same
//! program prints the same.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use sortie_testkit::{Ran, program, python, run, workspace};

use crate::stage::{Setup, Stage};
use crate::support::among_others;

/// Runs a client against PostgreSQL, then against sortie in each mode, and compares.
async fn check(lines_min: usize, client: impl Fn(SocketAddr) -> Command) {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let theirs = succeed(client(stage.primary())).await;
    assert!(theirs.lines().count() >= lines_min, "{theirs}");
    for mode in ["pipe", "share"] {
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
        endpoint.stop().await;
    }
}

async fn succeed(command: Command) -> String {
    let Ran { out, err, success, .. } = run(command).await;
    assert!(success, "{out}\n{err}");
    format!("{out}{err}")
}

async fn check_python(script: &str) {
    let path = workspace().join("tests/clients").join(script);
    check(40, |server| {
        let mut command = Command::new(python());
        command.arg(&path).arg(server.port().to_string());
        command
    })
    .await;
}

#[tokio::test]
async fn psycopg() {
    check_python("psycopg_lanes.py").await;
}

#[tokio::test]
async fn asyncpg() {
    check_python("asyncpg_session.py").await;
}

#[tokio::test]
async fn sqlalchemy() {
    check_python("sqlalchemy_session.py").await;
}

#[tokio::test]
async fn tokio_postgres_and_sqlx() {
    let clients = rust_clients().await;
    check(40, |server| {
        let mut command = Command::new(&clients);
        command.arg(server.port().to_string());
        command
    })
    .await;
}

/// The program of `tests/clients/rust`, which `cargo xtask test` has built.
pub(crate) async fn rust_clients() -> PathBuf {
    let target = workspace().join("target/clients-rust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(workspace().join("tests/clients/rust/Cargo.toml"));
    build.env("CARGO_TARGET_DIR", &target);
    succeed(build).await;
    target.join("debug/rust-clients")
}

#[tokio::test]
async fn psql() {
    let folder = tempfile::tempdir().unwrap();
    let [script, data] = ["script.sql", "data"].map(|name| folder.path().join(name));
    let text = fs::read_to_string(workspace().join("tests/clients/session.psql")).unwrap();
    fs::write(&script, text.replace("DATA", &data.display().to_string())).unwrap();
    check(100, |server| {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-a", "-w", "-h", "127.0.0.1", "-U", "tester", "-d", "postgres", "-p"]);
        command.arg(server.port().to_string()).arg("-f").arg(&script);
        command
    })
    .await;
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
