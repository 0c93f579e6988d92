//! Servers that stand still, as SIGSTOP has them: nobody waits for them longer than configured,
//! and when they go on they are used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_testkit::{Cluster, Frame, LabConfig, Node, Wire, differ};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::stage::{Endpoint, Setup, endpoint};
use crate::support::among_others;

const CLIENTS: usize = 6;
/// How long a silent server is waited for, as these tests configure it.
const SILENCE: Duration = Duration::from_secs(2);
/// What a busy machine adds to that.
const SHARE: Duration = Duration::from_secs(8);
const LINES: &str = "[clusters.postgres.timeouts]\nsilence = \"2s\"";

async fn rig(pipe_target: &'static str, mode: &'static str) -> (Cluster, Endpoint) {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 2, false);
    let cluster = Cluster::private(config).await;
    cluster.primary(0).script_in("postgres", differ::prepare()).await;
    let standbys: Vec<SocketAddr> = cluster.standbys(0).iter().map(Node::address).collect();
    let setup = Setup { pipe_target, mode, more: LINES, ..Setup::default() };
    let sortie = endpoint(cluster.primary(0).address(), &standbys, setup).await;
    (cluster, sortie)
}

/// What a statement ended in, when it was sent, and how long that took.
type Outcome = (Result<(), String>, Instant, Duration);

async fn say(wire: &mut Wire, sql: &str) -> Outcome {
    let began = Instant::now();
    let answer = timeout(SILENCE + SHARE, wire.try_simple(sql)).await;
    let answer = answer.unwrap_or_else(|_| panic!("{sql}: no answer after {:?}", began.elapsed()));
    let (Ok(frames) | Err(frames)) = &answer;
    let outcome = match frames.iter().find_map(Frame::report) {
        Some(report) => {
            assert!(!report.detail.is_empty() || report.sqlstate != "08006", "{report:?}");
            Err(report.sqlstate)
        }
        None => answer.map(drop).map_err(|_frames| "closed".to_owned()),
    };
    (outcome, began, began.elapsed())
}

/// Clients that say the same again and again until `stop`, and what they were told.
fn load(listen: SocketAddr, sql: &'static str, stop: &Arc<AtomicBool>) -> JoinSet<Vec<Outcome>> {
    let client = |stop: Arc<AtomicBool>| async move {
        let mut wire = Wire::connect(listen).await;
        let mut outcomes = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            outcomes.push(say(&mut wire, sql).await);
            sleep(Duration::from_millis(5)).await;
        }
        outcomes
    };
    (0..CLIENTS).map(|_| client(Arc::clone(stop))).collect()
}

async fn is_up(sortie: &Endpoint, node: &Node) -> bool {
    let label = format!("replica=\"{}\"", node.address());
    sortie.server.metrics().await.sum("sortie_replica_up", &[&label]) > 0.5
}

async fn until_up(sortie: &Endpoint, node: &Node, up: bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while is_up(sortie, node).await != up {
        assert!(Instant::now() < end, "{} never is up: {up}", node.name());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the log has this to say of a server.
async fn until_said(sortie: &Endpoint, node: &Node, words: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    let address = node.address().to_string();
    let is_said = |line: &str| line.contains(words) && line.contains(&address);
    while !sortie.server.output().lines().any(is_said) {
        assert!(Instant::now() < end, "{words}: {}", sortie.server.output());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until this server has answered.
async fn until_used(sortie: &Endpoint, node: &Node) {
    let end = Instant::now() + Duration::from_secs(20);
    let port = node.address().port().to_string();
    loop {
        let mut wire = Wire::connect(sortie.listen()).await;
        if wire.rows("SELECT inet_server_port()").await[0][0].as_ref() == Some(&port) {
            return;
        }
        assert!(Instant::now() < end, "{} is never used", node.name());
    }
}

async fn a_stopped_standby_is_left_out(mode: &'static str) {
    let _others = among_others().await;
    let (cluster, sortie) = rig("replica", mode).await;
    let stopped = cluster.standby(0, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = load(sortie.listen(), "SELECT now()", &stop);
    until_up(&sortie, &stopped, true).await;
    until_used(&sortie, &stopped).await;
    let mut inside = loop {
        let mut wire = Wire::connect(sortie.listen()).await;
        wire.rows("BEGIN").await;
        let port = wire.rows("SELECT inet_server_port()").await[0][0].clone();
        if port == Some(stopped.address().port().to_string()) {
            break wire;
        }
    };
    stopped.pause().await;
    let (outcome, _, took) = say(&mut inside, "SELECT 1").await;
    assert_eq!(outcome, Err("08006".to_owned()));
    assert!(took >= SILENCE / 2, "given up after {took:?}");
    until_up(&sortie, &stopped, false).await;
    until_said(&sortie, &stopped, "it is given up").await;
    let known = Instant::now();
    for _ in 0..20 {
        let mut wire = Wire::connect(sortie.listen()).await;
        assert_eq!(say(&mut wire, "SELECT now()").await.0, Ok(()));
    }
    // What takes its time on a server that is there is waited for.
    let mut wire = Wire::connect(sortie.listen()).await;
    let slow = format!("SELECT pg_sleep({})", SILENCE.as_secs() + 1);
    assert_eq!(say(&mut wire, &slow).await.0, Ok(()));
    drop(wire);
    stopped.resume().await;
    until_up(&sortie, &stopped, true).await;
    until_said(&sortie, &stopped, "answers again").await;
    until_used(&sortie, &stopped).await;
    stop.store(true, Ordering::Relaxed);
    let mut counted = (0, 0);
    while let Some(outcomes) = clients.join_next().await {
        for (outcome, began, took) in outcomes.unwrap() {
            match outcome {
                Ok(()) => counted.0 += 1,
                Err(state) => {
                    counted.1 += 1;
                    assert_eq!(state, "08006");
                    assert!(began < known, "sent to a standby that is known to be silent");
                    assert!(took < SILENCE + SHARE, "{took:?}");
                }
            }
        }
    }
    println!("{mode}: {} answered, {} given up", counted.0, counted.1);
    assert!(counted.0 > 100 && counted.1 <= CLIENTS, "{counted:?}");
    sortie.stop().await;
}

#[tokio::test]
async fn a_stopped_standby_is_left_out_by_the_pipe_lane() {
    a_stopped_standby_is_left_out("pipe").await;
}

#[tokio::test]
async fn a_stopped_standby_is_left_out_where_statements_may_be_shared() {
    a_stopped_standby_is_left_out("share").await;
}

#[tokio::test]
async fn a_standby_that_was_stopped_before_anybody_came_is_left_out() {
    let _others = among_others().await;
    for stopped in 0..2 {
        let (cluster, sortie) = rig("replica", "pipe").await;
        // Warm connections are there already.
        sleep(Duration::from_millis(300)).await;
        cluster.standby(0, stopped).pause().await;
        for _ in 0..6 {
            let mut wire = Wire::connect(sortie.listen()).await;
            assert_eq!(say(&mut wire, "SELECT now()").await.0, Ok(()));
        }
        cluster.standby(0, stopped).resume().await;
        sortie.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_primary_is_given_up_and_comes_back() {
    let _others = among_others().await;
    let (cluster, sortie) = rig("primary", "share").await;
    let mut wire = Wire::connect(sortie.listen()).await;
    let insert = "INSERT INTO marks VALUES (77, 1) ON CONFLICT DO NOTHING";
    assert_eq!(say(&mut wire, insert).await.0, Ok(()));
    cluster.primary(0).pause().await;
    assert_eq!(say(&mut wire, insert).await.0, Err("08006".to_owned()));
    // It wrote, and so its connection was its own: with that the session has ended.
    // From now on it is known: nobody waits as long again.
    let mut wire = Wire::connect(sortie.listen()).await;
    let (outcome, _, took) = say(&mut wire, insert).await;
    assert_eq!(outcome, Err("08006".to_owned()));
    assert!(took < SILENCE, "{took:?}");
    assert_eq!(say(&mut wire, "SELECT label FROM items WHERE id = 7").await.0, Ok(()));
    cluster.primary(0).resume().await;
    until_up(&sortie, &cluster.primary(0), true).await;
    assert_eq!(say(&mut wire, insert).await.0, Ok(()));
    drop(wire);
    sortie.stop().await;
}
