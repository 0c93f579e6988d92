//! pgbench, in each of its protocols, without one error.

use std::io::Write;
use std::process::Command;

use sortie_testkit::{program, run};

use crate::support::{among_others, serve};

const SCRIPT: &str = "\\set id random(1, 100000)\n\
                      SELECT balance FROM users WHERE user_id = :id;\n";

/// Seconds of each run: `SORTIE_PGBENCH_SECONDS`, or what the project promises.
fn seconds() -> String {
    std::env::var("SORTIE_PGBENCH_SECONDS").unwrap_or_else(|_| "20".into())
}

async fn check(mode: &str) {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script.write_all(SCRIPT.as_bytes()).unwrap();
    let mut command = Command::new(program("pgbench"));
    command.args(["-n", "-M", mode, "-c", "16", "-j", "2", "-T", &seconds(), "-f"]);
    command.arg(script.path()).args(["-h", "127.0.0.1", "-U", "tester"]);
    let port = server.listen().port().to_string();
    let ran = run({
        command.args(["-p", &port, "postgres"]);
        command
    })
    .await;
    println!("{}", ran.out);
    assert!(ran.success, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("number of failed transactions: 0 (0.000%)"), "{}", ran.out);
    assert!(!ran.err.to_lowercase().contains("error"), "{}", ran.err);
    let answered = server.abandoned().await.sum("sortie_client_statements_total", &[]);
    assert!(answered > 100.0, "only {answered} statements");
    server.stop().await;
}

#[tokio::test]
async fn simple() {
    check("simple").await;
}

#[tokio::test]
async fn extended() {
    check("extended").await;
}

#[tokio::test]
async fn prepared() {
    check("prepared").await;
}
