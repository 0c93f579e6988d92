//! What is known of servers while nobody asks them anything, and of those that don't let the watch
//! in.

use std::io::Write as _;
use std::time::Duration;

use sortie_testkit::{Cluster, LabConfig, Metrics, Node, Server, Wire};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::relay::until;
use crate::support::{BINARY, among_others};

async fn standby() -> (Cluster, Node) {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 1, false);
    let cluster = Cluster::private(config).await;
    let standby = cluster.standby(0, 0);
    let roles = "CREATE ROLE reader LOGIN; CREATE ROLE alice LOGIN";
    cluster.primary(0).script_in("postgres", roles).await;
    (cluster, standby)
}

/// Whether the server has said how far it is.
fn knows_position(now: &Metrics) -> bool {
    now.names().contains(&"sortie_replica_replayed_bytes")
}

async fn before(standby: &Node, more: &str) -> (Server, NamedTempFile) {
    let text = format!(
        "auth = \"trust\"\n[[clusters.postgres.shards]]\nreplicas = [\"postgres://reader@{}/postgres\"]\n{more}",
        standby.address()
    );
    let mut config = NamedTempFile::new().unwrap();
    config.write_all(text.as_bytes()).unwrap();
    let path = config.path().display().to_string();
    (Server::start(BINARY, &["-c", &path]).await, config)
}

#[tokio::test]
async fn a_server_that_stands_still_is_seen_without_any_session() {
    let _others = among_others().await;
    let (_cluster, standby) = standby().await;
    let (server, _config) = before(&standby, "").await;
    let up =
        |up: f64| until(&server, move |now| (now.sum("sortie_replica_up", &[]) - up).abs() < 0.5);
    until(&server, knows_position).await;
    up(1.0).await;
    standby.pause().await;
    up(0.0).await;
    // It is asked again in vain, and stays down meanwhile.
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        let now = server.metrics().await.sum("sortie_replica_up", &[]);
        assert!(now < 0.5, "it is up again");
        sleep(Duration::from_millis(50)).await;
    }
    standby.resume().await;
    up(1.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_refuses_the_watch_is_used_and_that_is_said_once() {
    let _others = among_others().await;
    let (_cluster, standby) = standby().await;
    let open = "host all all all trust\nlocal all all trust";
    standby.set_hba(&format!("host all reader all reject\n{open}")).await;
    let (server, _config) =
        before(&standby, "[clusters.postgres.users.alice]\nmode = \"pipe\"\n").await;
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        alice.rows("SELECT 1").await;
        assert!(server.metrics().await.sum("sortie_replica_up", &[]) > 0.5);
        sleep(Duration::from_millis(100)).await;
    }
    standby.set_hba(open).await;
    until(&server, knows_position).await;
    alice.rows("SELECT 1").await;
    drop(alice);
    let stopped = server.end("TERM").await;
    let said = |what| stopped.output.lines().filter(|line| line.contains(what)).count();
    assert_eq!(said("does not let the watch in"), 1, "{}", stopped.output);
    assert_eq!(said("pg_hba.conf"), 1, "{}", stopped.output);
    assert_eq!(said("is watched again"), 1, "{}", stopped.output);
}
