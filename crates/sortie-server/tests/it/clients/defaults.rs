//! What clients share as they come, with no setting changed: the table of `docs/clients.md`.

use std::process::Command;

use sortie_testkit::Metrics;

use super::compiled::{go_clients, java_client, rust_clients};
use super::{node_client, python_client, succeed};
use crate::stage::{Setup, Stage};
use crate::support::among_others;

/// How many point reads each client makes, and how many of them are shared at least: some drivers
/// describe a statement on the wire before they run it for the first time.
const READS: f64 = 20.0;
const SHARED_MIN: f64 = READS - 1.0;

/// The one that sends a Flush after each message: in the pipe lane for that, by design.
const FLUSHING: &str = "pg8000";

#[tokio::test]
async fn every_clients_point_reads_are_shared_as_the_client_comes() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let server = endpoint.listen();
    let node = |driver: &str| {
        let mut command = node_client(server);
        command.arg(driver);
        command
    };
    let scripted = |script: &str, more: &[&str]| {
        let mut command = python_client(script, server);
        command.args(more);
        command
    };
    let compiled = |mut command: Command, more: &str| {
        command.arg(more);
        command
    };
    let (java, go, rust) = (java_client("Session").await, go_clients().await, rust_clients().await);
    let rust = |library: &str| {
        let mut command = Command::new(&rust);
        command.arg(server.port().to_string()).args(["reads", library]);
        command
    };
    let clients = [
        ("psycopg 3", scripted("psycopg_lanes.py", &["reads"])),
        ("psycopg 2", scripted("psycopg2_session.py", &["reads"])),
        (FLUSHING, scripted("pg8000_session.py", &["reads"])),
        ("asyncpg", scripted("asyncpg_session.py", &["reads"])),
        ("SQLAlchemy", scripted("sqlalchemy_session.py", &["reads"])),
        ("Django, psycopg 3", scripted("django_session.py", &["psycopg", "reads"])),
        ("Django, psycopg 2", scripted("django_session.py", &["psycopg2", "reads"])),
        ("node-postgres", node("pg")),
        ("Postgres.js", node("postgres")),
        ("JDBC", compiled(java.at(server), "reads")),
        ("pgx 4", compiled(go.at(server), "pgx")),
        ("lib/pq", compiled(go.at(server), "pq")),
        ("tokio-postgres", rust("tokio-postgres")),
        ("sqlx", rust("sqlx")),
        ("diesel", rust("diesel")),
    ];
    let mut missed = Vec::new();
    for (name, command) in clients {
        let before = endpoint.server.metrics().await;
        succeed(command).await;
        let after = endpoint.server.abandoned().await;
        let shared = grew(&before, &after, "lane=\"shared\"");
        let piped = grew(&before, &after, "lane=\"pipe\"");
        println!("| {name} | {shared} | {piped} | {} |", reasons(&before, &after));
        if shared < SHARED_MIN && name != FLUSHING {
            missed.push(format!("{name}: {shared} of {READS}"));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
    endpoint.stop().await;
}

fn grew(before: &Metrics, after: &Metrics, lane: &str) -> f64 {
    let of = |scrape: &Metrics| scrape.sum("sortie_lane_statements_total", &[lane]);
    of(after) - of(before)
}

/// Why statements took the pipe lane in between, and how many.
fn reasons(before: &Metrics, after: &Metrics) -> String {
    let name = "sortie_pipe_statements_total";
    let grown = after.labels(name).into_iter().filter_map(|labels| {
        let more = after.sum(name, &[labels]) - before.sum(name, &[labels]);
        let reason = labels.split("reason=\"").nth(1)?.split('"').next()?;
        (more > 0.0).then(|| format!("{reason} {more}"))
    });
    grown.collect::<Vec<_>>().join(", ")
}
