//! Nothing is left: clients that vanish leave no query, no pin and no gauge behind; clients that
//! rest cost little.

use std::fs;
use std::time::Duration;

use sortie_testkit::{Batch, Cluster, Wire};
use tokio::time::{Instant, sleep};

use crate::stage::{Endpoint, Setup, endpoint, prepared};
use crate::support::{alone, connect};

const CLIENTS: usize = 500;
const POOL: u32 = 20;
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(2);
const RESTING: usize = 5000;
const RESTING_COST_MAX: u64 = 40 << 10;

async fn before(cluster: &Cluster) -> Endpoint {
    let standbys = [cluster.standby(0, 0).address()];
    let setup = Setup { connections_max: POOL, ..Setup::default() };
    endpoint(cluster.primary(0).address(), &standbys, setup).await
}

/// Statements of sortie's that a server runs now.
pub(crate) async fn running(observers: &mut [Wire]) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('tester', 'reader') \
               AND state = 'active' AND application_name <> 'sortie watch'";
    let mut running = 0;
    for observer in observers {
        let rows = observer.rows(sql).await;
        running += rows[0][0].as_ref().unwrap().parse::<usize>().unwrap();
    }
    running
}

/// All clients say something that does not end; when some of it runs, all of them vanish.
async fn vanish(sortie: &Endpoint, cluster: &Cluster, statement: impl Fn(usize) -> Batch) {
    let mut observers = Vec::new();
    for node in cluster.nodes() {
        observers.push(Wire::connect_as(node.address(), "postgres").await);
    }
    let mut clients = connect(sortie.listen(), CLIENTS).await;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(statement(number).bytes()).await;
    }
    let end = Instant::now() + Duration::from_secs(20);
    while running(&mut observers).await < POOL as usize {
        assert!(Instant::now() < end, "too few run: {}", running(&mut observers).await);
        sleep(Duration::from_millis(20)).await;
    }
    drop(clients);
    let vanished = Instant::now();
    while running(&mut observers).await > 0 {
        let left = running(&mut observers).await;
        assert!(vanished.elapsed() < GONE_WITHIN, "{left} run after {:?}", vanished.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    println!("nothing runs {:?} after {CLIENTS} clients vanished", vanished.elapsed());
    sortie.server.abandoned().await;
    // All of the pool can be had again, at once.
    let mut clients = connect(sortie.listen(), POOL as usize).await;
    for client in &mut clients {
        client.rows("BEGIN; SELECT 1").await;
    }
}

#[tokio::test]
async fn of_clients_that_vanish_in_the_pipe_lane() {
    let _alone = alone().await;
    let cluster = prepared().await;
    let sortie = before(&cluster).await;
    vanish(&sortie, &cluster, |number| match number % 3 {
        0 => Batch::new().query("SELECT pg_sleep(60)"),
        1 => Batch::new().query("BEGIN; SELECT pg_sleep(60)"),
        _ => Batch::new().statement("SELECT pg_sleep(60)", &[]).sync().query("SELECT 1"),
    })
    .await;
    sortie.stop().await;
}

#[tokio::test]
async fn of_clients_that_vanish_in_the_shared_lane() {
    let _alone = alone().await;
    let cluster = prepared().await;
    let sortie = before(&cluster).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    wire.rows("SELECT label FROM items WHERE id = 1").await;
    drop(wire);
    let pins = async || sortie.server.metrics().await.sum("sortie_pins_total", &[]);
    let pins_before = pins().await;
    // A lock that the standby has as well: reads wait there until it is gone.
    let mut locker = Wire::connect_as(cluster.primary(0).address(), "postgres").await;
    locker.rows("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await;
    // A commit that waits until the standby has replayed it, and so the lock.
    cluster.primary(0).script_in("postgres", "SELECT pg_logical_emit_message(true, '', '')").await;
    vanish(&sortie, &cluster, |number| {
        Batch::new().query(&format!("SELECT label FROM items WHERE id = {number}"))
    })
    .await;
    // The last ones, to see that the pool is whole; all others were in the shared lane.
    assert!((pins().await - pins_before - f64::from(POOL)).abs() < 0.5);
    locker.rows("ROLLBACK").await;
    sortie.stop().await;
}

#[tokio::test]
async fn and_clients_that_rest_cost_little() {
    let _alone = alone().await;
    let cluster = prepared().await;
    let standbys = [cluster.standby(0, 0).address()];
    let setup = Setup { top: "connections_max = 6000", ..Setup::default() };
    let sortie = endpoint(cluster.primary(0).address(), &standbys, setup).await;
    let count = RESTING.min(files_max() / 2);
    let mut resting = rested(&sortie, 100).await;
    let before = sortie.server.resident();
    while resting.len() < count {
        resting.extend(rested(&sortie, 100).await);
    }
    let grown = sortie.server.resident().saturating_sub(before);
    let each = grown / u64::try_from(count - 100).unwrap();
    println!("{count} resting clients: {each} bytes each");
    assert!(each <= RESTING_COST_MAX, "{each} bytes for each of {count} clients");
    drop(resting);
    sortie.stop().await;
}

/// Clients that have said something in each lane, and rest.
async fn rested(sortie: &Endpoint, count: usize) -> Vec<Wire> {
    let mut wires = connect(sortie.listen(), count).await;
    for wire in &mut wires {
        wire.rows("SELECT label FROM items WHERE id = 3").await;
        wire.rows("SET application_name = 'resting'; SELECT now()").await;
    }
    wires
}

/// How many files this process may have open.
fn files_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}
