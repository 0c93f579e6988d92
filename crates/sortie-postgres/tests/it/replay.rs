//! Replay positions, of a real standby.

use std::time::Duration;

use sortie::WalPoint;
use sortie_lab::LabConfig;
use sortie_postgres::{ConnInfo, Login, Lsn, PoolConfig, ReplaySampler, Server};
use sortie_testkit::{Cluster, Node};
use tokio::time::{Instant, sleep};

const LONG: Duration = Duration::from_secs(20);

fn sampler(node: &Node) -> (Server, ReplaySampler) {
    let info: ConnInfo = node.url("reader").parse().unwrap();
    let login = Login::of(&info);
    let server = Server::new(info, PoolConfig::default());
    (server.clone(), ReplaySampler::new(server, login))
}

/// Where the primary's log ends.
async fn end_of_log(primary: &Node) -> WalPoint {
    let text = primary
        .script(
            "SELECT pg_current_wal_insert_lsn(), timeline_id, system_identifier \
         FROM pg_control_checkpoint(), pg_control_system()",
        )
        .await;
    let mut fields = text.trim().split('|');
    let mut next = || fields.next().unwrap_or_else(|| panic!("{text}"));
    let Lsn(lsn) = next().parse().unwrap();
    WalPoint { lsn, timeline: next().parse().unwrap(), system: next().parse().unwrap() }
}

#[tokio::test]
async fn a_standbys_position_is_known_while_somebody_watches() {
    let mut config = LabConfig::default();
    (config.shards, config.replicas) = (1, 1);
    let cluster = Cluster::private(config).await;
    let (primary, standby) = (cluster.primary(0), cluster.standby(0, 0));
    let (server, sampler) = sampler(&standby);
    assert_eq!(server.stats().opened, 0, "nobody watches");

    let mut watch = sampler.watch();
    primary.script("CREATE TABLE seen (x int)").await;
    let floor = end_of_log(&primary).await;
    assert!(watch.reach(floor, Instant::now() + LONG).await, "{:?} of {floor:?}", watch.last());
    let mut youngest = LONG;
    for _ in 0..50 {
        sleep(Duration::from_millis(2)).await;
        youngest = youngest.min(watch.last().unwrap().age());
    }
    assert!(youngest < Duration::from_millis(500), "it is asked again and again: {youngest:?}");

    standby.pause_replay().await;
    primary.script("SET synchronous_commit = local; CREATE TABLE unseen (x int)").await;
    let floor = end_of_log(&primary).await;
    let soon = Instant::now() + Duration::from_millis(200);
    assert!(!watch.reach(floor, soon).await, "it is not replayed");
    assert!(!watch.last().unwrap().has_reached(floor));
    standby.resume_replay().await;
    assert!(watch.reach(floor, Instant::now() + LONG).await);
    let other = WalPoint { timeline: floor.timeline + 1, lsn: 0, ..floor };
    assert!(!watch.last().unwrap().has_reached(other), "another branch can't be compared");

    // Whoever comes second shares, and the first may go.
    let second = sampler.watch();
    drop(watch);
    sleep(Duration::from_millis(50)).await;
    assert!(second.last().is_some());
    drop(second);
    sleep(Duration::from_millis(100)).await;
    let asked = server.stats().checkouts;
    sleep(Duration::from_millis(200)).await;
    let stats = server.stats();
    assert_eq!((stats.checkouts, stats.in_use), (asked, 0), "nobody asks any more");
    assert!(stats.opened <= 2, "{stats:?}");

    let watch = sampler.watch();
    let answered = || watch.answered().filter(|at| at.elapsed() < Duration::from_millis(500));
    until(|| answered().is_some()).await;
    standby.pause().await;
    until(|| answered().is_none()).await;
    standby.resume().await;
    until(|| answered().is_some()).await;

    standby.promote().await;
    let end = Instant::now() + LONG;
    sleep(Duration::from_millis(50)).await;
    while watch.last().is_some() {
        assert!(Instant::now() < end, "a primary replays nothing");
        sleep(Duration::from_millis(10)).await;
    }
    // It answers all the same.
    until(|| answered().is_some()).await;
}

#[tokio::test]
async fn a_refused_login_is_tried_less_and_less_often_until_it_is_let_in() {
    let mut config = LabConfig::default();
    (config.shards, config.replicas) = (1, 0);
    let cluster = Cluster::private(config).await;
    let primary = cluster.primary(0);
    let open = "host all all all trust\nlocal all all trust";
    primary.set_hba(&format!("host all reader all reject\n{open}")).await;
    let (server, sampler) = sampler(&primary);
    let watch = sampler.watch();
    until(|| watch.refused().is_some()).await;
    assert!(watch.answered().is_some());
    sleep(Duration::from_secs(5)).await;
    let failures = server.stats().open_failures;
    assert!((1..=3).contains(&failures), "tried {failures} times");
    let error = watch.refused().unwrap();
    assert_eq!(error.server().unwrap().sqlstate(), "28000", "{error:?}");
    primary.set_hba(open).await;
    until(|| watch.refused().is_none()).await;
    until(|| watch.answered().is_some_and(|at| at.elapsed() < Duration::from_millis(500))).await;
}

async fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "it never holds");
        sleep(Duration::from_millis(10)).await;
    }
}
