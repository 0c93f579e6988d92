//! The tests that drivers ship: whatever passes against PostgreSQL passes through sortie.
//!
//! They write, so the endpoint is the `writable` kind: eligible reads are shared, and the pipe
//! lane's server is the primary. `cargo xtask clients` fetches them and runs this.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{python, run, workspace};

use crate::stage::{Setup, endpoint, prepared};
use crate::support::among_others;

/// A driver's tests, as its source package has them.
struct Suite {
    /// The unpacked package.
    folder: &'static str,
    tests: &'static [&'static str],
    /// Fewer than this many passing against PostgreSQL itself means that they did not run.
    passing_min: usize,
    /// Tests that can't pass through a pooler: each list has its reason.
    excused: &'static [&'static [&'static str]],
}

/// What a client is told of its process at the start is sortie's number: a notice names the process
/// of a server, `pg_backend_pid()` too, and another kills that, whoever's connection it is then.
const PROCESS_IDS: &[&str] = &[
    "test_backend_pid",
    "test_external_close",
    "test_execute_script_interrupted_by_server",
    "test_pool_min_size_restored_after_idle_connection_loss",
];

/// They make databases that the configuration knows nothing of.
const DATABASES: &[&str] = &["test_introspection", "test_type_cache_invalidation_in_pool"];

async fn check(suite: Suite) {
    let _others = among_others().await;
    let cluster = prepared().await;
    let (primary, standby) = (cluster.primary(0).address(), cluster.standby(0, 0).address());
    let theirs = passing(&suite, primary).await;
    assert!(theirs.len() >= suite.passing_min, "only {} pass: {theirs:?}", theirs.len());
    let setup = Setup { user: "postgres", connections_max: 60, ..Setup::default() };
    let endpoint = endpoint(primary, &[standby], setup).await;
    let ours = passing(&suite, endpoint.listen()).await;
    let shared = endpoint.server.metrics().await;
    let shared = shared.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
    let lost: Vec<_> = theirs
        .difference(&ours)
        .filter(|test| !suite.excused.iter().any(|list| list.iter().any(|it| test.contains(it))))
        .collect();
    println!("{}: {} of {} pass, {shared} shared", suite.folder, ours.len(), theirs.len());
    assert!(lost.is_empty(), "{lost:#?}");
    endpoint.server.end("TERM").await;
}

/// The names of the tests that pass there.
async fn passing(suite: &Suite, server: SocketAddr) -> BTreeSet<String> {
    let suites = workspace().join("target/clients-suites");
    let folder = suites.join(suite.folder);
    assert!(folder.is_dir(), "{} is missing; `cargo xtask clients` gets it", folder.display());
    let port = server.port().to_string();
    let mut pytest = Command::new(python());
    // From outside: the package beside its tests has no compiled part, the installed one has.
    pytest.current_dir(&suites).args(["-m", "pytest", "-q", "-rp", "--tb=no"]);
    pytest.args(["-p", "no:cacheprovider", "--import-mode=append"]);
    pytest.args(suite.tests.iter().map(|tests| folder.join(tests)));
    pytest.env("PYTHONPATH", suites.join("site")).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("PGHOST", "127.0.0.1").env("PGPORT", &port);
    pytest.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
    pytest.env("PSYCOPG2_TESTDB", "postgres").env("PSYCOPG2_TESTDB_USER", "postgres");
    pytest.env("PSYCOPG2_TESTDB_HOST", "127.0.0.1").env("PSYCOPG2_TESTDB_PORT", &port);
    let ran = run(pytest).await;
    let passed = ran.out.lines().filter_map(|line| line.strip_prefix("PASSED "));
    passed.map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn psycopg2() {
    check(Suite {
        folder: "psycopg2-2.9.13",
        tests: &["tests"],
        passing_min: 600,
        excused: &[PROCESS_IDS, &["test_notify.py", "test_async.py::AsyncTests::test_notify"]],
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn pg8000() {
    check(Suite {
        folder: "pg8000-1.31.6",
        tests: &["test/native", "test/dbapi"],
        passing_min: 350,
        excused: &[],
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn asyncpg() {
    check(Suite {
        folder: "asyncpg-0.32.0",
        tests: &["tests"],
        passing_min: 250,
        excused: &[PROCESS_IDS, DATABASES, &["test_listeners.py"]],
    })
    .await;
}
