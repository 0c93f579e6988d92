//! Foreign kills: a late cancel that hits the connection's next query, which is a stranger's.
//!
//! Queries are abandoned within 1.5 ms of their natural end, and the next query goes out at once
//! on the same connection. `SORTIE_CANCELS` says how many cancel requests must have been sent.

use std::time::Duration;

use sortie_postgres::{ExchangeError, Login, PoolStats, Server};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LONG, Place, config, newest_place, place, query, settled, value};

const CANCELS: u64 = 10_000;
const NEWEST_CANCELS: u64 = 1_500;

/// Servers (pools of one connection) at a time.
const PARALLEL: usize = 12;

/// When a query is abandoned, in microseconds; its natural end lies up to `SPREAD` around it.
const ABANDONED_AT: u64 = 3_000;
const SPREAD: u64 = 1_500;

/// Nothing but numbers that differ: a test that fails should fail again.
struct Lottery(u64);

impl Lottery {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Abandons a query shortly before or after its end, and asks the next one. Returns whether that
/// one was hit.
async fn round(server: &Server, login: &Login, lottery: &mut Lottery) -> bool {
    let natural = ABANDONED_AT - SPREAD + lottery.below(2 * SPREAD);
    let text = format!("SELECT pg_sleep({natural}.0 / 1000000)");
    let mut mine = server.checkout(login, None, Instant::now() + LONG).await.unwrap();
    drop(timeout(Duration::from_micros(ABANDONED_AT), mine.exchange(query(text))).await);
    drop(mine);
    // The pool has one connection: this is it.
    let mut next = server.checkout(login, None, Instant::now() + LONG).await.unwrap();
    match value(&mut next, "SELECT 'alive' FROM pg_sleep(0.002)").await {
        Ok(answer) => {
            assert_eq!(answer, "alive");
            false
        }
        Err(ExchangeError::Server(error)) => {
            assert_eq!(error.sqlstate(), "57014", "{error}");
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Rounds on one connection until `cancels` requests were sent, or `hits_max` queries were hit.
async fn rounds(
    server: Server,
    login: Login,
    seed: u64,
    cancels: u64,
    hits_max: u64,
) -> (u64, PoolStats) {
    let mut lottery = Lottery(seed);
    let mut hits = 0;
    while server.stats().cancels_sent < cancels && hits < hits_max {
        hits += u64::from(round(&server, &login, &mut lottery).await);
    }
    (hits, settled(&server).await)
}

async fn all(place: Place, reckless: bool, cancels: u64, hits_max: u64) -> (u64, u64) {
    let mut workers = JoinSet::new();
    for seed in 0..PARALLEL {
        let mut config = config(1);
        config.reuse_before_cancel_ends = reckless;
        // Nearly all of them would end before a cancel is sent.
        config.drain_max = Duration::ZERO;
        let share = cancels.div_ceil(PARALLEL as u64);
        let server = place.server(config);
        workers.spawn(rounds(server, place.login.clone(), seed as u64, share, hits_max));
    }
    let (mut hits, mut sent) = (0, 0);
    while let Some(worker) = workers.join_next().await {
        let (hit, stats) = worker.unwrap();
        hits += hit;
        sent += stats.cancels_sent;
        assert_eq!((stats.killed, stats.open_failures), (0, 0), "{stats:?}");
    }
    (hits, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cancel_hits_a_stranger() {
    let wanted = std::env::var("SORTIE_CANCELS").ok().map_or(CANCELS, |text| text.parse().unwrap());
    let (hits, sent) = all(place().await, false, wanted, 1).await;
    assert_eq!(hits, 0, "of {sent} cancels");
    assert!(sent >= wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cancel_hits_a_stranger_on_the_newest_version() {
    let (hits, sent) = all(newest_place().await, false, NEWEST_CANCELS, 1).await;
    assert_eq!(hits, 0, "of {sent} cancels");
    assert!(sent >= NEWEST_CANCELS);
}

/// The same, without the wait for the end of the cancel request's connection: the test sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_wait_strangers_are_hit() {
    let (hits, sent) = all(place().await, true, 3_000, 1).await;
    assert!(hits > 0, "none of {sent} cancels hit a stranger: this test would not see it");
    // What is still under way strikes nobody any more.
    sleep(Duration::from_millis(20)).await;
}
