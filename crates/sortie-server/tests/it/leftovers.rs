//! Nothing is left: clients that vanish leave no query, no pin and no gauge behind; clients that
//! rest cost little.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sortie_testkit::{Batch, Cluster, Server, Wire};
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

/// Connections of sortie's on which a server runs something now, or has a transaction open.
pub(crate) async fn running(observers: &mut [Wire]) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('tester', 'reader') \
               AND state <> 'idle' AND application_name <> 'sortie watch'";
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
    drop(clients);
    nothing_is_left(&mut observers, &sortie.server).await;
}

/// Insists that soon no server runs anything of sortie's or has a transaction of its open, every
/// connection is idle, and every gauge is zero.
pub(crate) async fn nothing_is_left(observers: &mut [Wire], server: &Server) {
    let began = Instant::now();
    while running(observers).await > 0 {
        assert!(began.elapsed() < GONE_WITHIN, "something runs after {:?}", began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    println!("nothing runs after {:?}", began.elapsed());
    let metrics = server.idle().await;
    for gauge in ["sortie_server_connections_in_flight", "sortie_server_quarantined_in_flight"] {
        assert!(metrics.sum(gauge, &[]) < 0.5, "{gauge}");
    }
    assert!(metrics.sum("sortie_server_connections_idle", &[]) > 0.5);
}

#[tokio::test]
async fn of_clients_that_vanish_in_the_pipe_lane() {
    let _alone = alone().await;
    let cluster = prepared().await;
    let sortie = before(&cluster).await;
    vanish(&sortie, &cluster, |number| match number % 4 {
        0 => Batch::new().query("SELECT pg_sleep(60)"),
        1 => Batch::new().query("BEGIN; SELECT pg_sleep(60)"),
        2 => Batch::new().query("BEGIN; SELECT 1"),
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
    // Each is a file of this process, and one of sortie's, which inherits the limit.
    allow_files(RESTING as u64 + 1_000);
    let cluster = prepared().await;
    let standbys = [cluster.standby(0, 0).address()];
    let setup = Setup { top: "connections_max = 6000", ..Setup::default() };
    let sortie = endpoint(cluster.primary(0).address(), &standbys, setup).await;
    let mut resting = rested(&sortie, 100).await;
    let before = sortie.server.resident();
    while resting.len() < RESTING {
        resting.extend(rested(&sortie, 100).await);
    }
    let grown = sortie.server.resident().saturating_sub(before);
    let each = grown / (RESTING as u64 - 100);
    println!("{RESTING} resting clients: {each} bytes each");
    assert!(each <= RESTING_COST_MAX, "{each} bytes for each of {RESTING} clients");
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

/// Lets this process, and those that it starts from now on, have so many files open.
fn allow_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|maximum| maximum >= wanted),
        "{RESTING} clients take {wanted} open files, and this process may have {maximum:?} at \
         most (`ulimit -Hn`): start it with a higher hard limit (`prlimit --nofile={wanted}` as \
         root, `LimitNOFILE=` of a service, `--ulimit nofile={wanted}` of a container)"
    );
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}
