//! Servers that die, hang, refuse and lie: a clear SQLSTATE, no hang, and recovery by itself.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::{Cluster, FaultProxy, Frame, Injection, LabConfig, Node, Wire, differ};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::stage::{Endpoint, Setup, endpoint};
use crate::support::among_others;

pub(crate) const POINT: &str = "SELECT label FROM items WHERE id = 7";
/// Longer than any timeout that is configured here, and a busy machine's share.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const RECOVERED_WITHIN: Duration = Duration::from_secs(30);
const WRITERS: usize = 6;
/// What a writer waits at most: the two timeouts that are configured for it, one after the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy whose faults hit what clients ask for, and not the questions how servers are.
pub(crate) async fn proxy_to(node: &Node) -> FaultProxy {
    let proxy = FaultProxy::start(node.address()).await;
    proxy.spare("sortie watch");
    proxy
}

/// SQLSTATEs that say: the server is not there, or is about to go, or is full.
const UNAVAILABLE: [&str; 9] =
    ["08000", "08001", "08003", "08006", "57P01", "57P02", "57P03", "53300", "25006"];

/// A cluster of one shard to be harmed.
pub(crate) async fn cluster(standbys: u32) -> Cluster {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, standbys, false);
    let cluster = Cluster::private(config).await;
    cluster.primary(0).script_in("postgres", differ::prepare()).await;
    cluster
}

async fn before(cluster: &Cluster, setup: Setup) -> Endpoint {
    let standbys: Vec<SocketAddr> = cluster.standbys(0).iter().map(Node::address).collect();
    endpoint(cluster.primary(0).address(), &standbys, setup).await
}

/// What one statement ends in on a connection of its own: `Ok`, or an SQLSTATE; `None` when the
/// connection is closed without a word.
pub(crate) async fn outcome(listen: SocketAddr, sql: &str) -> Result<(), Option<String>> {
    let ask = async { Wire::try_connect(listen, "tester").await?.try_simple(sql).await };
    let answered = timeout(ANSWER_WITHIN, ask).await;
    verdict(&answered.unwrap_or_else(|_| panic!("{sql}: no answer within {ANSWER_WITHIN:?}")))
}

fn verdict(answer: &Result<Vec<Frame>, Vec<Frame>>) -> Result<(), Option<String>> {
    let (Ok(frames) | Err(frames)) = answer;
    match state(frames) {
        Some(state) => Err(Some(state)),
        None => answer.as_ref().map_or(Err(None), |_| Ok(())),
    }
}

fn state(frames: &[Frame]) -> Option<String> {
    frames.iter().find_map(Frame::report).map(|report| report.sqlstate)
}

/// As [`outcome`], on a connection that is there.
async fn outcome_on(wire: &mut Wire, sql: &str) -> Result<(), Option<String>> {
    let answered = timeout(ANSWER_WITHIN, wire.try_simple(sql)).await;
    verdict(&answered.unwrap_or_else(|_| panic!("{sql}: no answer within {ANSWER_WITHIN:?}")))
}

/// Asks until it is answered; everything until then must be an error that says why.
pub(crate) async fn until_answered(listen: SocketAddr, sql: &str) -> Vec<String> {
    let end = Instant::now() + RECOVERED_WITHIN;
    let mut errors = Vec::new();
    loop {
        match outcome(listen, sql).await {
            Ok(()) => return errors,
            Err(Some(state)) => {
                assert!(UNAVAILABLE.contains(&state.as_str()), "{state}");
                errors.push(state);
            }
            Err(None) => panic!("{sql}: closed without a word after {errors:?}"),
        }
        assert!(Instant::now() < end, "never answered: {errors:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_primary_that_is_killed_comes_back() {
    let _others = among_others().await;
    let cluster = cluster(1).await;
    let sortie = before(&cluster, Setup::default()).await;
    let insert = "INSERT INTO marks VALUES (1, 1) ON CONFLICT DO NOTHING";
    until_answered(sortie.listen(), insert).await;
    let mut pinned = Wire::connect(sortie.listen()).await;
    pinned.rows("BEGIN; SELECT 1").await;
    cluster.primary(0).kill().await;
    let state = outcome_on(&mut pinned, "SELECT 1").await.unwrap_err().expect("an SQLSTATE");
    assert!(UNAVAILABLE.contains(&state.as_str()), "{state}");
    // Reads of the standby go on; writes say what is wrong.
    until_answered(sortie.listen(), POINT).await;
    let state = outcome(sortie.listen(), insert).await.unwrap_err().expect("an SQLSTATE");
    assert!(UNAVAILABLE.contains(&state.as_str()), "{state}");
    cluster.primary(0).start().await;
    until_answered(sortie.listen(), insert).await;
    sortie.stop().await;
}

#[tokio::test]
async fn a_standby_that_is_killed_is_not_missed() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let sortie = before(&cluster, Setup { pipe_target: "replica", ..Setup::default() }).await;
    for _ in 0..20 {
        outcome(sortie.listen(), POINT).await.unwrap();
    }
    cluster.standby(0, 0).kill().await;
    for _ in 0..20 {
        until_answered(sortie.listen(), POINT).await;
        until_answered(sortie.listen(), "SELECT now()").await;
    }
    cluster.standby(0, 0).start().await;
    cluster.standby(0, 1).kill().await;
    for _ in 0..20 {
        until_answered(sortie.listen(), POINT).await;
        until_answered(sortie.listen(), "SELECT now()").await;
    }
    cluster.standby(0, 1).start().await;
    sortie.stop().await;
}

#[tokio::test]
async fn a_standby_that_stands_still_is_outrun() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let sortie = before(&cluster, Setup { pipe_target: "replica", ..Setup::default() }).await;
    for id in 0..40 {
        let sql = format!("SELECT label FROM items WHERE id = {id}");
        outcome(sortie.listen(), &sql).await.unwrap();
    }
    cluster.standby(0, 0).pause().await;
    for id in 100..140 {
        let sql = format!("SELECT label FROM items WHERE id = {id}");
        outcome(sortie.listen(), &sql).await.unwrap();
    }
    cluster.standby(0, 0).resume().await;
    until_answered(sortie.listen(), "SELECT now()").await;
    sortie.stop().await;
}

#[tokio::test]
async fn a_conflict_with_replay_is_told_and_not_shared() {
    let _others = among_others().await;
    let cluster = cluster(1).await;
    let standby = cluster.standby(0, 0);
    standby.set("max_standby_streaming_delay", "50ms").await;
    standby.set("hot_standby_feedback", "off").await;
    let sortie = before(&cluster, Setup { pipe_target: "replica", ..Setup::default() }).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    wire.rows("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    wire.rows("SELECT count(*) FROM items").await;
    let churn = "UPDATE items SET label = label; DELETE FROM items WHERE id > 990;";
    cluster.primary(0).script_in("postgres", churn).await;
    cluster.primary(0).script_in("postgres", "VACUUM (FREEZE) items").await;
    let end = Instant::now() + RECOVERED_WITHIN;
    let state = loop {
        match outcome_on(&mut wire, "SELECT count(*) FROM items").await {
            Err(state) => break state.expect("an SQLSTATE"),
            Ok(()) => assert!(Instant::now() < end, "no conflict"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(state, "40001");
    until_answered(sortie.listen(), "SELECT count(*) FROM items").await;
    drop(wire);
    sortie.stop().await;
}

#[tokio::test]
async fn a_promoted_standby_goes_on_answering() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let (old, new, other) = (cluster.primary(0), cluster.standby(0, 0), cluster.standby(0, 1));
    let sortie = before(&cluster, Setup { pipe_target: "replica", ..Setup::default() }).await;
    until_answered(sortie.listen(), POINT).await;
    old.kill().await;
    new.promote().await;
    other.follow(&new).await;
    for _ in 0..20 {
        until_answered(sortie.listen(), POINT).await;
        until_answered(sortie.listen(), "SELECT now()").await;
    }
    sortie.stop().await;
}

/// Writes a row, in a session that is kept for the next one if that succeeds: in one statement, or
/// in a transaction.
async fn insert(
    session: &mut Option<Wire>,
    listen: SocketAddr,
    (id, in_transaction): (usize, bool),
) -> Result<(), Option<String>> {
    let mut wire = match session.take() {
        Some(wire) => wire,
        None => Wire::try_connect(listen, "tester").await.map_err(|frames| state(&frames))?,
    };
    let insert = format!("INSERT INTO marks VALUES ({id}, 1)");
    let plain = [insert.as_str()];
    let several = ["BEGIN", "SELECT count(*) FROM marks", &insert, "COMMIT"];
    for sql in if in_transaction { &several[..] } else { &plain } {
        outcome_on(&mut wire, sql).await?;
    }
    *session = Some(wire);
    Ok(())
}

/// Writes all the time, until that has gone well for a while after a standby was promoted. Returns
/// what was acknowledged.
async fn write(listen: SocketAddr, writer: usize, promoted: watch::Receiver<bool>) -> Vec<usize> {
    let (mut session, mut acknowledged, mut states) = (None, Vec::new(), HashSet::new());
    let (mut since, mut longest) = (None, Duration::ZERO);
    for number in 1.. {
        let began = Instant::now();
        let id = 1_000_000 * (writer + 1) + number;
        match insert(&mut session, listen, (id, writer.is_multiple_of(2))).await {
            Ok(()) => acknowledged.push(id),
            Err(state) => {
                let state = state.expect("an SQLSTATE");
                assert!(UNAVAILABLE.contains(&state.as_str()), "{state}");
                states.insert(state);
                since = None;
                sleep(Duration::from_millis(20)).await;
            }
        }
        longest = longest.max(began.elapsed());
        if *promoted.borrow() {
            since = since.or(Some(acknowledged.len()));
            if acknowledged.len() > since.unwrap_or_default() + 20 {
                break;
            }
        }
    }
    println!("writer {writer}: {} rows, {states:?}, {longest:?}", acknowledged.len());
    assert!(!states.is_empty(), "writer {writer} has noticed nothing");
    assert!(longest < PATIENCE, "writer {writer} has waited for {longest:?}");
    acknowledged
}

/// The address follows the primary, as those do that a failover moves: nothing is configured anew.
#[tokio::test]
async fn writers_go_on_at_a_promoted_standby() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let (old, new, other) = (cluster.primary(0), cluster.standby(0, 0), cluster.standby(0, 1));
    let leader = proxy_to(&old).await;
    let standbys = [new.address(), other.address()];
    let more = "[clusters.postgres.timeouts]\nwait = \"2s\"\nsilence = \"3s\"";
    let sortie = endpoint(leader.listen(), &standbys, Setup { more, ..Setup::default() }).await;
    let (tell, promoted) = watch::channel(false);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(sortie.listen(), writer, promoted.clone()));
    }
    sleep(Duration::from_millis(500)).await;
    old.kill().await;
    sleep(Duration::from_millis(500)).await;
    // They find a standby there, and its connections go on when it is a primary.
    leader.lead_to(new.address());
    let began = Instant::now();
    let early = "INSERT INTO marks VALUES (1, 1)";
    while outcome(sortie.listen(), early).await != Err(Some("25006".to_owned())) {
        assert!(began.elapsed() < RECOVERED_WITHIN, "nobody finds the standby");
        sleep(Duration::from_millis(50)).await;
    }
    new.promote().await;
    other.follow(&new).await;
    tell.send_replace(true);
    let ended = timeout(RECOVERED_WITHIN, writers.join_all()).await.expect("they write again");
    let acknowledged: HashSet<usize> = ended.into_iter().flatten().collect();
    let mut wire = Wire::connect_as(new.address(), "postgres").await;
    let rows = wire.rows("SELECT id FROM marks").await;
    let there: HashSet<usize> = rows.iter().flatten().flatten().flat_map(|id| id.parse()).collect();
    assert!(acknowledged.is_subset(&there), "{:?} are lost", acknowledged.difference(&there));
    // Whoever reads sees it all as well, at whichever server.
    until_answered(sortie.listen(), POINT).await;
    drop(wire);
    sortie.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_passed_on_by_the_pipe_and_passed_over_by_the_shared_lane() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let primary = proxy_to(&cluster.primary(0)).await;
    let first = proxy_to(&cluster.standby(0, 0)).await;
    let second = proxy_to(&cluster.standby(0, 1)).await;
    let standbys = [first.listen(), second.listen()];
    let sortie = endpoint(primary.listen(), &standbys, Setup::default()).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    wire.rows("BEGIN; SELECT 1").await;
    primary.inject(Injection::error("53100"));
    assert_eq!(wire.refusal("SELECT now()").await.sqlstate, "53100");
    wire.rows("ROLLBACK").await;
    // In the shared lane somebody else answers.
    until_answered(sortie.listen(), POINT).await;
    for standby in [&first, &second] {
        // One at a time: where both have no room there is nobody left to answer.
        standby.inject(Injection::error("53100").before(b'D'));
        for id in 1..40 {
            let sql = format!("SELECT label FROM items WHERE id = {id}");
            outcome(sortie.listen(), &sql).await.unwrap();
        }
        assert!(standby.counts().injected > 0, "nobody met the error");
    }
    drop(wire);
    sortie.stop().await;
}
