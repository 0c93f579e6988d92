//! The tests that clients ship: whatever passes against PostgreSQL passes through sortie.
//!
//! They write, so the endpoint is the `writable` kind: eligible reads are shared, and the pipe
//! lane's server is the primary. `cargo xtask clients` fetches them and runs this; what comes with
//! the clients themselves and takes seconds runs with all other tests.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use sortie_testkit::{python, run, workspace};

use super::compiled::go_tests;
use super::succeed;
use crate::stage::{Setup, endpoint, prepared};
use crate::support::among_others;

/// A client's tests.
struct Suite<T> {
    name: &'static str,
    /// What runs them at a server.
    tests: T,
    /// The name of the test that has passed, of a line that says so.
    passed: fn(&str) -> Option<&str>,
    /// What the database must have.
    prepare: &'static str,
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

/// Two end the server's process of a number that is sortie's, whoever's it is, and one takes
/// minutes to send 100,000 notices.
const PGX_SKIPPED: &[&str] =
    &["TestFatalRxError", "TestFatalTxError", "TestListenNotifyWhileBusyIsSafe"];

/// They wait for seconds, or for less than a busy machine takes.
const PQ_SKIPPED: &[&str] = &[
    "TestContextCancelBegin",
    "TestContextCancelExec",
    "TestContextCancelQuery",
    "TestIssue1046",
    "TestIssue1062",
    "TestStmtExecContext",
    "TestStmtQueryContext",
];

async fn check<T: Fn(SocketAddr) -> Command>(suite: Suite<T>) {
    let _others = among_others().await;
    let cluster = prepared().await;
    cluster.primary(0).script_in("postgres", suite.prepare).await;
    let (primary, standby) = (cluster.primary(0).address(), cluster.standby(0, 0).address());
    let theirs = suite.passing(primary).await;
    assert!(theirs.len() >= suite.passing_min, "only {} pass: {theirs:?}", theirs.len());
    let setup = Setup { user: "postgres", connections_max: 60, ..Setup::default() };
    let endpoint = endpoint(primary, &[standby], setup).await;
    let mut ours = suite.passing(endpoint.listen()).await;
    let lost = |ours: &BTreeSet<String>| -> Vec<String> {
        let excused = suite.excused.concat();
        let lost =
            theirs.difference(ours).filter(|test| !excused.iter().any(|it| test.contains(it)));
        lost.cloned().collect()
    };
    if !lost(&ours).is_empty() {
        // Some of them measure time, and fail against PostgreSQL now and then as well.
        println!("{}: once more for {:?}", suite.name, lost(&ours));
        ours.append(&mut suite.passing(endpoint.listen()).await);
    }
    let shared = endpoint.server.metrics().await;
    let shared = shared.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
    println!("{}: {} of {} pass, {shared} shared", suite.name, ours.len(), theirs.len());
    assert!(lost(&ours).is_empty(), "{:#?}", lost(&ours));
    endpoint.server.end("TERM").await;
}

impl<T: Fn(SocketAddr) -> Command> Suite<T> {
    /// The names of the tests that pass there.
    async fn passing(&self, server: SocketAddr) -> BTreeSet<String> {
        let ran = run((self.tests)(server)).await;
        let lines = ran.out.lines().chain(ran.err.lines());
        lines.filter_map(self.passed).map(str::to_owned).collect()
    }
}

/// Where the source packages are unpacked.
fn sources() -> PathBuf {
    workspace().join("target/clients-suites")
}

/// Python's interpreter, with a server's address in its environment.
fn python_at(folder: &str, server: SocketAddr) -> Command {
    let there = sources().join(folder);
    assert!(there.is_dir(), "{} is missing; `cargo xtask clients` gets it", there.display());
    let port = server.port().to_string();
    let mut python = Command::new(python());
    python.env("PYTHONPATH", sources().join("site")).env("PYTHONDONTWRITEBYTECODE", "1");
    python.env("PGHOST", "127.0.0.1").env("PGPORT", &port);
    python.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
    python.env("PSYCOPG2_TESTDB", "postgres").env("PSYCOPG2_TESTDB_USER", "postgres");
    python.env("PSYCOPG2_TESTDB_HOST", "127.0.0.1").env("PSYCOPG2_TESTDB_PORT", &port);
    python
}

fn pytest(folder: &str, tests: &[&str], server: SocketAddr) -> Command {
    let mut pytest = python_at(folder, server);
    // From outside: the package beside its tests has no compiled part, the installed one has.
    pytest.current_dir(sources()).args(["-m", "pytest", "-q", "-rp", "--tb=no"]);
    pytest.args(["-p", "no:cacheprovider", "--import-mode=append"]);
    pytest.args(tests.iter().map(|tests| sources().join(folder).join(tests)));
    pytest
}

fn pytest_passed(line: &str) -> Option<&str> {
    line.strip_prefix("PASSED ")
}

/// What runs the tests of a Go package, all but these.
async fn go(package: &str, skipped: &[&str]) -> impl Fn(SocketAddr) -> Command + use<> {
    let (tests, folder) = go_tests(package).await;
    let mut list = Command::new(&tests);
    list.args(["-test.list", "^Test"]);
    let names = succeed(list).await;
    let names: Vec<_> = names.lines().filter(|name| !skipped.contains(name)).collect();
    let names = format!("^({})$", names.join("|"));
    move |server| {
        let mut command = Command::new(&tests);
        command.current_dir(&folder).args(["-test.v", "-test.run", &names]);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", server.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        let all = "user=postgres dbname=postgres sslmode=disable host=127.0.0.1";
        command.env("PGX_TEST_DATABASE", format!("{all} port={}", server.port()));
        command
    }
}

fn go_passed(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("--- PASS: ")?.split(' ').next()
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn psycopg2() {
    check(Suite {
        name: "psycopg2",
        tests: |server| pytest("psycopg2-2.9.13", &["tests"], server),
        passed: pytest_passed,
        prepare: "",
        passing_min: 600,
        excused: &[PROCESS_IDS, &["test_notify.py", "test_async.py::AsyncTests::test_notify"]],
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn pg8000() {
    check(Suite {
        name: "pg8000",
        tests: |server| pytest("pg8000-1.31.6", &["test/native", "test/dbapi"], server),
        passed: pytest_passed,
        prepare: "",
        passing_min: 350,
        excused: &[],
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn asyncpg() {
    check(Suite {
        name: "asyncpg",
        tests: |server| pytest("asyncpg-0.32.0", &["tests"], server),
        passed: pytest_passed,
        prepare: "",
        passing_min: 250,
        excused: &[PROCESS_IDS, DATABASES, &["test_listeners.py"]],
    })
    .await;
}

/// `SQLAlchemy`'s suite for dialects, and what it adds for this one, through psycopg 3.
#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn sqlalchemy() {
    const FOLDER: &str = "sqlalchemy-2.1.9";
    let tests = ["dialect", "on_conflict", "query", "reflection"]
        .map(|name| format!("test/dialect/postgresql/test_{name}.py"));
    let tests: Vec<_> =
        tests.iter().map(String::as_str).chain(["test/dialect/test_suite.py"]).collect();
    check(Suite {
        name: FOLDER,
        tests: |server: SocketAddr| {
            let mut pytest = pytest(FOLDER, &tests, server);
            // Its configuration is there.
            pytest.current_dir(sources().join(FOLDER)).args(["-o", "addopts="]);
            let url = format!("postgresql+psycopg://postgres@127.0.0.1:{}/postgres", server.port());
            pytest.args(["-p", "warnings", "-p", "logging", "--dburi", &url]);
            pytest
        },
        passed: pytest_passed,
        prepare: "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2;
                  CREATE EXTENSION hstore; CREATE EXTENSION citext;",
        passing_min: 2000,
        excused: &[],
    })
    .await;
}

/// Django's, of what reads.
#[tokio::test]
#[ignore = "takes minutes, and sources that `cargo xtask clients` gets"]
async fn django() {
    let packages = ["basic", "lookup", "aggregation", "ordering", "raw_query", "transactions"];
    check(Suite {
        name: "Django",
        tests: |server| {
            let folder = "django-5.2.19";
            let mut tests = python_at(folder, server);
            tests.current_dir(sources().join(folder).join("tests")).arg("runtests.py");
            tests.args(["--settings=django_suite", "--keepdb", "--noinput", "--parallel=1", "-v2"]);
            tests.args(packages).env("PYTHONPATH", workspace().join("tests/clients"));
            tests
        },
        passed: |line| line.strip_suffix(" ... ok"),
        prepare: "",
        passing_min: 400,
        excused: &[],
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn pgx() {
    check(Suite {
        name: "pgx",
        tests: go("github.com/jackc/pgx/v4", PGX_SKIPPED).await,
        passed: go_passed,
        prepare: "CREATE EXTENSION hstore; CREATE DOMAIN uint64 AS numeric(20, 0);",
        passing_min: 180,
        excused: &[],
    })
    .await;
}

#[tokio::test]
async fn lib_pq() {
    check(Suite {
        name: "lib/pq",
        tests: go("github.com/lib/pq", PQ_SKIPPED).await,
        passed: go_passed,
        prepare: "",
        passing_min: 200,
        excused: &[],
    })
    .await;
}
