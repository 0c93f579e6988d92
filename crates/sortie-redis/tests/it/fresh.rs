//! What was loaded before an invalidation is not read after it: random readers and writers in
//! several processes (caches that know of each other only through Redis), under faults.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use sortie::{Cache, Fill, Loaded, Lookup, Position, ReadThrough};
use sortie_testkit::Redis;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{Servers, Shared, settings, until};

const KEYS: usize = 5;

/// A writer per key: what it wrote and invalidated, and when that was done.
#[derive(Default)]
struct Rows {
    written: [AtomicU64; KEYS],
    done: [Mutex<Vec<(u64, Instant)>>; KEYS],
}

/// How many operations there were, and how many of them gave what was too old.
#[derive(Debug, Default)]
struct Tally {
    operations: AtomicUsize,
    stale: AtomicUsize,
}

/// Lets caches that share one server be read and written for a while. `bound`: how long ago an
/// invalidation by *another* cache must be for its not being seen to count.
async fn violations<C>(caches: Vec<C>, bound: Duration, length: Duration) -> Tally
where
    C: Cache<u64, u64> + 'static,
{
    let (rows, tally) = (Arc::new(Rows::default()), Arc::new(Tally::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let throughs: Vec<_> = caches
        .into_iter()
        .map(|cache| {
            let rows = Arc::clone(&rows);
            ReadThrough::new(cache, move |key: u64| {
                let rows = Arc::clone(&rows);
                async move {
                    sleep(Duration::from_micros(fastrand::u64(0..3_000))).await; // On its way,
                    let value = rows.written[place(key)].load(SeqCst);
                    sleep(Duration::from_micros(fastrand::u64(0..3_000))).await; // and back.
                    Ok::<_, io::Error>(value)
                }
            })
        })
        .collect();
    let mut tasks = JoinSet::new();
    for key in 0..KEYS as u64 {
        let (rows, throughs, stop) = (Arc::clone(&rows), throughs.clone(), Arc::clone(&stop));
        let tally = Arc::clone(&tally);
        tasks.spawn(async move {
            // One process writes a key, the others read it too.
            let through = &throughs[place(key) % throughs.len()];
            while !stop.load(SeqCst) {
                let value = rows.written[place(key)].fetch_add(1, SeqCst) + 1;
                through.invalidate(&key).await;
                rows.done[place(key)].lock().push((value, Instant::now()));
                tally.operations.fetch_add(1, SeqCst);
                sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
            }
        });
    }
    for reader in 0..KEYS * throughs.len() * 2 {
        let (rows, throughs, stop) = (Arc::clone(&rows), throughs.clone(), Arc::clone(&stop));
        let tally = Arc::clone(&tally);
        tasks.spawn(async move {
            let (key, process) = (reader % KEYS, reader / KEYS % throughs.len());
            let owns = key % throughs.len() == process;
            while !stop.load(SeqCst) {
                let slack = if owns { Duration::ZERO } else { bound };
                let least = rows.least(key, slack);
                let value = throughs[process].get(&(key as u64)).await.expect("loads do not fail");
                tally.operations.fetch_add(1, SeqCst);
                tally.stale.fetch_add(usize::from(value < least), SeqCst);
                if fastrand::u8(..) < 32 {
                    sleep(Duration::from_micros(fastrand::u64(0..2_000))).await;
                }
            }
        });
    }
    sleep(length).await;
    stop.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
    Arc::into_inner(tally).expect("all tasks have ended")
}

/// A key's place in the arrays.
fn place(key: u64) -> usize {
    usize::try_from(key).expect("few keys")
}

impl Rows {
    /// What had been written and invalidated at least `slack` ago.
    fn least(&self, key: usize, slack: Duration) -> u64 {
        let mut done = self.done[key].lock();
        let before = |ago| {
            let now = Instant::now();
            move |(_, at): &(u64, Instant)| now.duration_since(*at) >= ago
        };
        // Nobody's slack is longer.
        let past = done.partition_point(before(Duration::from_secs(10)));
        drop(done.drain(..past.saturating_sub(1)));
        match done.partition_point(before(slack)) {
            0 => 0,
            seen => done[seen - 1].0,
        }
    }
}

/// As long as there is time: `SORTIE_FRESH_SECONDS` makes it longer.
fn length() -> Duration {
    let seconds = std::env::var("SORTIE_FRESH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// What a cache without the rule would do: a refused value is stored under a lease taken later.
#[derive(Clone)]
struct Stubborn(Shared);

impl Cache<u64, u64> for Stubborn {
    type Lease = <Shared as Cache<u64, u64>>::Lease;
    type Wait = <Shared as Cache<u64, u64>>::Wait;

    async fn get(&self, key: &u64) -> Lookup<u64, Self::Lease, Self::Wait> {
        self.0.get(key).await
    }

    async fn fill(&self, lease: Self::Lease, loaded: Loaded<u64>) -> Fill {
        let key = *lease.key();
        let fill = self.0.fill(lease, loaded.clone()).await;
        match self.0.get(&key).await {
            Lookup::Miss(later) if fill == Fill::Revoked => self.0.fill(later, loaded).await,
            _ => fill,
        }
    }

    async fn invalidate(&self, key: &u64) {
        self.0.invalidate(key).await;
    }

    async fn invalidate_at(&self, key: &u64, position: &Position) {
        self.0.invalidate_at(key, position).await;
    }
}

#[tokio::test]
async fn nothing_old_is_read_from_redis_by_any_process() {
    for servers in Servers::both().await {
        let caches = [
            servers.opened(settings("fresh")).await,
            servers.opened(settings("fresh")).await,
            servers.opened(settings("fresh").soft_ttl(Duration::from_millis(30))).await,
        ];
        let hits = || caches.iter().map(|cache| cache.stats().hits).sum::<u64>();
        let tally = violations(caches.to_vec(), Duration::ZERO, length()).await;
        eprintln!("{tally:?}, {} hits", hits());
        assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
        assert!(hits() > 100, "{tally:?}");
    }
}

#[tokio::test]
async fn the_test_above_catches_a_cache_that_stores_what_was_revoked() {
    let servers = Servers::One(Redis::start().await);
    let stubborn = Stubborn(servers.opened(settings("fresh")).await);
    let other = Stubborn(servers.opened(settings("fresh")).await);
    let tally = violations(vec![stubborn, other], Duration::ZERO, length()).await;
    assert!(tally.stale.load(SeqCst) > 0, "{tally:?}");
}

#[tokio::test]
async fn nothing_old_is_read_from_memory_over_redis() {
    let bound = Duration::from_millis(500);
    for servers in Servers::both().await {
        let local = || settings("fresh").local_max(100).local_bound(bound);
        let caches = vec![servers.opened(local()).await, servers.opened(local()).await];
        let watched = caches[0].clone();
        let tally = violations(caches, bound, length()).await;
        eprintln!("{tally:?}, {:?}", watched.stats());
        assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
        assert!(watched.stats().local_hits > 100, "{tally:?}");
    }
}

/// Connections are cut all the time: invalidations are owed and delivered, notices are missed.
/// What the own process has invalidated is never read; what another has, not for long.
#[tokio::test]
async fn nothing_old_is_read_when_connections_are_cut() {
    let redis = Arc::new(Redis::start().await);
    let bound = Duration::from_millis(500);
    let local = || settings("fresh").local_max(100).local_bound(bound);
    let caches = vec![local().open(&redis.url()).unwrap(), local().open(&redis.url()).unwrap()];
    let watched = caches[0].clone();
    until("it is connected", || watched.is_there()).await;
    let mut cuts = JoinSet::new();
    cuts.spawn({
        let redis = Arc::clone(&redis);
        async move {
            loop {
                sleep(Duration::from_millis(fastrand::u64(20..200))).await;
                let kind = if fastrand::bool() { "normal" } else { "pubsub" };
                redis.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
            }
        }
    });
    let tally = violations(caches, bound * 3, length()).await;
    eprintln!("{tally:?}, {:?}", watched.stats());
    assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
    assert!(watched.stats().away > 0 && watched.stats().local_hits > 0, "{:?}", watched.stats());
    cuts.shutdown().await;
}
