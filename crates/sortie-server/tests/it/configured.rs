//! `sortie serve` in front of the servers that a file, or URLs, name.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{Ran, Server, cluster, program, run};

use crate::support::{BINARY, among_others, answers, refuses};

async fn ask(server: SocketAddr, role: &str, database: &str, sql: &str) -> Ran {
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-A", "-t", "-w", "-h", &server.ip().to_string()]);
    psql.args(["-p", &server.port().to_string(), "-U", role, "-d", database]);
    psql.args(["-c", sql]);
    run(psql).await
}

#[tokio::test]
async fn a_file_says_which_servers_answer() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let mut text = "auth = \"trust\"\n[clusters.bank]\ntables.users.key = \"user_id\"\n".to_owned();
    for shard in 0..cluster.shards() {
        let standbys: Vec<String> =
            cluster.standbys(shard).iter().map(|standby| standby.url("reader")).collect();
        let primary = cluster.primary(shard).url("reader");
        writeln!(
            text,
            "[[clusters.bank.shards]]\nprimary = \"{primary}\"\nreplicas = {standbys:?}"
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sortie.toml");
    std::fs::write(&file, text).unwrap();
    let server = Server::start(BINARY, &["-c", file.to_str().unwrap()]).await;
    let count = "SELECT count(*) FROM users";
    let mut rows = 0;
    for shard in 0..cluster.shards() {
        let here = ask(server.listen(), "reader", &format!("bank.{shard}"), count).await;
        let there = cluster.primary(shard).script(count).await;
        answers(&here, there.trim());
        rows += here.out.trim().parse::<u32>().unwrap();
    }
    answers(&ask(server.listen(), "reader", "bank", count).await, &rows.to_string());
    let stranger = ask(server.listen(), "stranger", "bank", count).await;
    refuses(&stranger, "may not start a session");
    refuses(&stranger, "These may: reader. ");
    refuses(&ask(server.listen(), "reader", "bank.2", count).await, "does not exist");
    server.stop().await;
}

#[tokio::test]
async fn urls_say_which_replicas_answer() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let urls: Vec<String> =
        cluster.standbys(0).iter().map(|standby| standby.url("reader")).collect();
    let server = Server::start(BINARY, &["-d", &urls[0], "-d", &urls[1]]).await;
    let there = cluster.primary(0).script("SELECT count(*) FROM users").await;
    let here = ask(server.listen(), "reader", "sortie", "SELECT count(*) FROM users").await;
    answers(&here, there.trim());
    let where_to = "SELECT pg_is_in_recovery(), inet_server_port()";
    let ports: Vec<String> =
        cluster.standbys(0).iter().map(|standby| standby.address().port().to_string()).collect();
    let piped = ask(server.listen(), "reader", "sortie", where_to).await;
    assert!(ports.iter().any(|port| piped.out.trim() == format!("t|{port}")), "{}", piped.out);
    refuses(
        &ask(server.listen(), "postgres", "sortie", "SELECT 1").await,
        "may not start a session",
    );
    server.stop().await;
}
