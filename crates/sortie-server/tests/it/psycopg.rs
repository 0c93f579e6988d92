//! psycopg, against sortie and against PostgreSQL with the same rows: the same answers.

use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{Postgres, python, run, workspace};

use crate::support::{among_others, sample_data, serve};

#[tokio::test]
async fn a_session_is_answered_as_postgresql_answers_it() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let postgres = Postgres::start().await;
    postgres.script(&sample_data()).await;
    let ours = transcript(server.listen()).await;
    let theirs = transcript(postgres.listen()).await;
    assert!(theirs.lines().count() > 50, "{theirs}");
    let differences: Vec<String> = theirs
        .lines()
        .zip(ours.lines())
        .filter(|(theirs, ours)| theirs != ours)
        .map(|(theirs, ours)| format!("PostgreSQL: {theirs}\n    sortie: {ours}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(ours, theirs);
    postgres.stop().await;
    server.abandoned().await;
    server.stop().await;
}

async fn transcript(server: SocketAddr) -> String {
    let mut command = Command::new(python());
    command.arg(workspace().join("tests/clients/psycopg_session.py"));
    command.arg(server.port().to_string());
    let ran = run(command).await;
    assert!(ran.success, "{}\n{}", ran.out, ran.err);
    ran.out
}
