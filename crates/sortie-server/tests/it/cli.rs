//! The command line: what it refuses, and what it says first.

use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Ran, Server, Wire, run};
use tokio::time::Instant;

use crate::support::{BINARY, alone, among_others, psql, serve};

async fn refused(arguments: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    let Ran { out, err, success, .. } = run(command).await;
    assert!(!success, "{arguments:?} was accepted: {out}");
    assert!(out.is_empty(), "errors go to standard error: {out}");
    err
}

#[tokio::test]
async fn serve_without_a_mode_lists_the_three_ways() {
    let message = refused(&["serve"]).await;
    for way in ["--embedded", "-c", "-d"] {
        assert!(message.contains(way), "{way} is missing:\n{message}");
    }
}

#[tokio::test]
async fn a_configuration_is_refused_with_lines_and_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sortie.toml");
    let text = "auth = \"trust\"\n[clusters.bank]\nhegde = \"70ms\"\nsoft_age = 5\n\
                [[clusters.bank.shards]]\nreplicas = [\"postgres://r:geheim@db/x?sslmod=require\"]\n";
    std::fs::write(&file, text).unwrap();
    let message = refused(&["serve", "-c", file.to_str().unwrap()]).await;
    for part in [
        "sortie.toml:3:1: unknown key `hegde`; did you mean `hedge`?",
        "sortie.toml:4:12: `soft_age`: write a duration with its unit",
        "sortie.toml:6:13: \"sslmod\" is not a connection keyword; is \"sslmode\" meant?",
    ] {
        assert!(message.contains(part), "{part}:\n{message}");
    }
    assert!(!message.contains("geheim"), "{message}");
    let message = refused(&["serve", "-d", "postgres://db/bank"]).await;
    assert!(message.contains("-d: URL 1: the connection string lacks user"), "{message}");
    let message = refused(&["serve", "-c", "nowhere.toml"]).await;
    assert!(message.contains("nowhere.toml: No such file"), "{message}");
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_with_the_reason() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:6440"] {
        let message = refused(&["serve", "--embedded", "--listen", address]).await;
        assert!(message.contains(address), "{message}");
        assert!(message.contains("authentication") && message.contains("loopback"), "{message}");
    }
}

#[tokio::test]
async fn unreadable_trouble_is_refused_with_an_example() {
    let latency = refused(&["serve", "--embedded", "--latency", "sometimes"]).await;
    assert!(latency.contains("sometimes") && latency.contains("fixed:"), "{latency}");
    let fail = refused(&["serve", "--embedded", "--fail", "7"]).await;
    assert!(fail.contains('7'), "{fail}");
    let hedge = refused(&["serve", "--embedded", "--hedge", "soon"]).await;
    assert!(hedge.contains("soon"), "{hedge}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = refused(&["serve", "--embedded", "--listen", &address]).await;
    assert!(message.contains(&address), "{message}");
}

#[tokio::test]
async fn the_first_query_is_answered_within_five_seconds_of_the_start() {
    let _alone = alone().await;
    let started = Instant::now();
    let server = serve(&[]).await;
    let mut wire = Wire::connect(server.listen()).await;
    assert_eq!(wire.rows("SELECT balance FROM users WHERE user_id = 1").await.len(), 1);
    let took = started.elapsed();
    println!("first answer {took:?} after the start");
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn the_first_lines_can_be_pasted() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let output = server.output();
    assert!(output.contains(&server.listen().to_string()), "{output}");
    assert!(output.contains(&server.admin().to_string()), "{output}");
    let typed = |line: &&str| line.starts_with("  ") && !line.trim().starts_with('#');
    let lines: Vec<&str> = output.lines().filter(typed).collect();
    assert!(lines.iter().any(|line| line.contains("psql ")), "no psql line:\n{output}");
    for line in lines {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]);
        let ran = run(shell).await;
        assert!(ran.success, "{line}\n{}{}", ran.out, ran.err);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_whose_output_nobody_takes_serves_all_the_same() {
    let _others = among_others().await;
    let server = Server::start_unheard(BINARY, &["--embedded"]).await;
    assert!(psql(server.listen(), &["-c", "SELECT 1"]).await.success);
    // Draining writes a log line; a panic there would show in the exit code.
    server.stop().await;
}

#[tokio::test]
async fn health_is_answered() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    assert_eq!(server.page("/healthz").await.0, 200);
    assert_eq!(server.page("/readyz").await.0, 200);
    assert_eq!(server.page("/nowhere").await.0, 404);
    assert!(psql(server.listen(), &["-c", "SELECT 1"]).await.success);
    for name in [
        "sortie_client_statements_total",
        "sortie_backend_statements_total",
        "sortie_flights_total",
        "sortie_hedges_total",
        "sortie_hedge_wins_total",
        "sortie_scatter_legs_total",
    ] {
        server.metrics().await.sum(name, &[]);
    }
    server.stop().await;
}
