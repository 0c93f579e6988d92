//! What was loaded before an invalidation is not read after it: random readers, of one key and of
//! many, and writers that invalidate in every way, in several processes (caches that know of each
//! other only through Redis), under faults.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use sortie::{Cache, Fill, Loaded, Lookup, Position, ReadThrough, Sweep, Tag};
use sortie_testkit::Redis;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{Servers, Shared, settings, until};

const KEYS: usize = 5;

/// How long ago an invalidation must be for nobody to ask when it was.
const KEPT: Duration = Duration::from_secs(2);

const TAGS: [Tag; 2] = [Tag::named("even"), Tag::named("odd")];

/// What was written and invalidated.
#[derive(Default)]
struct Rows {
    written: [AtomicU64; KEYS],
    done: [Mutex<Vec<Done>>; KEYS],
}

/// An invalidation that has returned: of which value at the latest, when, and in which process.
#[derive(Clone, Copy)]
struct Done {
    value: u64,
    at: Instant,
    process: usize,
}

/// Which keys a writer writes, and how it tells its cache.
#[derive(Clone, Copy)]
enum Says {
    Invalidate(u64),
    Expire(u64),
    Many(u64),
    Tag(usize),
    Everything,
}

/// How many operations there were, and how many of them gave what was too old.
#[derive(Debug, Default)]
struct Tally {
    operations: AtomicUsize,
    stale: AtomicUsize,
}

/// Lets caches that share one server be read and written for a while, and until that was `enough`.
/// `bound`: how long ago an invalidation by *another* cache must be for its not being seen to
/// count.
async fn violations<C>(caches: Vec<C>, bound: Duration, enough: impl Fn(&Tally) -> bool) -> Tally
where
    C: Sweep<u64, u64> + 'static,
{
    let (rows, tally) = (Arc::new(Rows::default()), Arc::new(Tally::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let throughs: Vec<_> = caches.into_iter().map(|cache| through(cache, &rows)).collect();
    let mut tasks = JoinSet::new();
    for writer in 0..=KEYS {
        let process = writer % throughs.len();
        let (rows, through, stop) = (Arc::clone(&rows), throughs[process].clone(), stop.clone());
        let tally = Arc::clone(&tally);
        tasks.spawn(async move {
            while !stop.load(SeqCst) {
                let (key, sweeps) = (writer as u64, writer == KEYS);
                let says = match fastrand::u8(0..8) {
                    0 if sweeps => Says::Everything,
                    tag if sweeps => Says::Tag(usize::from(tag) % 2),
                    0 | 1 => Says::Expire(key),
                    2 => Says::Many(key),
                    _ => Says::Invalidate(key),
                };
                write(&rows, &through, process, says).await;
                tally.operations.fetch_add(1, SeqCst);
                // A sweep is many scripts.
                let pause = if sweeps { 400_000 } else { 20_000 };
                sleep(Duration::from_micros(fastrand::u64(0..pause))).await;
            }
        });
    }
    for reader in 0..KEYS * throughs.len() * 2 {
        let (key, process) = (reader % KEYS, reader / KEYS % throughs.len());
        let (rows, through, stop) = (Arc::clone(&rows), throughs[process].clone(), stop.clone());
        let tally = Arc::clone(&tally);
        tasks.spawn(async move {
            while !stop.load(SeqCst) {
                let keys = match fastrand::u8(0..8) {
                    0 => (0..KEYS as u64).collect(),
                    _ => vec![key as u64],
                };
                let least: Vec<_> =
                    keys.iter().map(|key| rows.least(place(*key), process, bound)).collect();
                let values = if let [key] = &keys[..] {
                    vec![through.get(key).await]
                } else {
                    let found = through.get_many(keys).await.into_iter();
                    found.map(|answer| answer.map(|it| it.value)).collect()
                };
                for (value, least) in values.into_iter().zip(least) {
                    let value = value.expect("loads do not fail");
                    tally.operations.fetch_add(1, SeqCst);
                    tally.stale.fetch_add(usize::from(value < least), SeqCst);
                }
                if fastrand::u8(..) < 32 {
                    sleep(Duration::from_micros(fastrand::u64(0..2_000))).await;
                }
            }
        });
    }
    sleep(length()).await;
    until("that was enough", || enough(&tally)).await;
    stop.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
    drop(throughs);
    Arc::into_inner(tally).expect("all tasks have ended")
}

/// One process.
fn through<C>(cache: C, rows: &Arc<Rows>) -> ReadThrough<u64, u64, io::Error, C>
where
    C: Sweep<u64, u64> + 'static,
{
    let (one, many) = (Arc::clone(rows), Arc::clone(rows));
    let of_one = move |key| {
        let loaded = load(Arc::clone(&one), vec![key]);
        async move { Ok(loaded.await.remove(0).1) }
    };
    let through = ReadThrough::positioned(cache, of_one);
    through.batched(move |keys| {
        let loaded = load(Arc::clone(&many), keys);
        async move { Ok(loaded.await) }
    })
}

async fn load(rows: Arc<Rows>, keys: Vec<u64>) -> Vec<(u64, Loaded<u64>)> {
    sleep(Duration::from_micros(fastrand::u64(0..3_000))).await; // On its way,
    let row = |key: u64| {
        let value = rows.written[place(key)].load(SeqCst);
        (key, Loaded::from(value).tagged(TAGS[place(key) % 2]))
    };
    let loaded = keys.into_iter().map(row).collect();
    sleep(Duration::from_micros(fastrand::u64(0..3_000))).await; // and back.
    loaded
}

/// Writes, invalidates, and notes that this has been done.
async fn write<C>(
    rows: &Rows,
    through: &ReadThrough<u64, u64, io::Error, C>,
    process: usize,
    says: Says,
) where
    C: Sweep<u64, u64> + 'static,
{
    let keys: Vec<usize> = match says {
        Says::Invalidate(key) | Says::Expire(key) | Says::Many(key) => vec![place(key)],
        Says::Tag(tag) => (0..KEYS).filter(|key| key % 2 == tag).collect(),
        Says::Everything => (0..KEYS).collect(),
    };
    let write = |key: &usize| rows.written[*key].fetch_add(1, SeqCst) + 1;
    let values: Vec<_> = keys.iter().map(write).collect();
    match says {
        Says::Invalidate(key) => through.invalidate(&key).await,
        Says::Expire(key) => through.expire(&key).await,
        Says::Many(key) => through.invalidate_many(&[key, (key + 1) % KEYS as u64]).await,
        Says::Tag(tag) => through.invalidate_tag(TAGS[tag], None).await,
        Says::Everything => through.invalidate_all(None).await,
    }
    for (key, value) in keys.into_iter().zip(values) {
        let mut done = rows.done[key].lock();
        done.push(Done { value, at: Instant::now(), process });
    }
}

/// A key's place in the arrays.
fn place(key: u64) -> usize {
    usize::try_from(key).expect("few keys")
}

impl Rows {
    /// What had been written and invalidated, by another process at least `bound` ago.
    fn least(&self, key: usize, process: usize, bound: Duration) -> u64 {
        let (mut done, now) = (self.done[key].lock(), Instant::now());
        // Nobody's bound is longer.
        let past = done.partition_point(|it| now.duration_since(it.at) >= KEPT);
        let highest = done[..past].iter().map(|it| it.value).max();
        if let Some(value) = highest.filter(|_| past > 1) {
            done.drain(..past - 1);
            done[0].value = value;
        }
        let seen = |it: &&Done| {
            let ago = now.duration_since(it.at);
            ago >= bound || it.process == process
        };
        done.iter().filter(seen).map(|it| it.value).max().unwrap_or(0)
    }
}

/// As long as there is time: `SORTIE_FRESH_SECONDS` makes it longer.
fn length() -> Duration {
    let seconds = std::env::var("SORTIE_FRESH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// What a cache without the rules would do: a refused value is stored under a lease taken later,
/// or tags are not heard of.
#[derive(Clone)]
struct Stubborn(Shared, bool);

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
            Lookup::Miss(later) if fill == Fill::Revoked && !self.1 => {
                self.0.fill(later, loaded).await
            }
            _ => fill,
        }
    }

    async fn invalidate(&self, key: &u64) {
        self.0.invalidate(key).await;
    }

    async fn invalidate_at(&self, key: &u64, position: &Position) {
        self.0.invalidate_at(key, position).await;
    }

    async fn expire(&self, key: &u64) {
        self.0.expire(key).await;
    }
}

impl Sweep<u64, u64> for Stubborn {
    async fn invalidate_tag(&self, tag: Tag, position: Option<&Position>) {
        if !self.1 {
            self.0.invalidate_tag(tag, position).await;
        }
    }

    async fn invalidate_all(&self, position: Option<&Position>) {
        self.0.invalidate_all(position).await;
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
        let tally = violations(caches.to_vec(), Duration::ZERO, |_| hits() > 100).await;
        eprintln!("{tally:?}, {} hits", hits());
        assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
    }
}

#[tokio::test]
async fn the_test_above_catches_a_cache_that_breaks_a_rule() {
    let servers = Servers::One(Redis::start().await);
    for deaf in [false, true] {
        let stubborn = Stubborn(servers.opened(settings("fresh")).await, deaf);
        let other = Stubborn(servers.opened(settings("fresh")).await, deaf);
        let caught = |tally: &Tally| tally.stale.load(SeqCst) > 0;
        violations(vec![stubborn, other], Duration::ZERO, caught).await;
    }
}

#[tokio::test]
async fn nothing_old_is_read_from_memory_over_redis() {
    let bound = Duration::from_millis(500);
    for servers in Servers::both().await {
        let local = || settings("fresh").local_max(100).local_bound(bound);
        let caches = vec![servers.opened(local()).await, servers.opened(local()).await];
        let watched = caches[0].clone();
        let enough = |_: &_| watched.stats().local_hits > 100;
        let tally = violations(caches, bound, enough).await;
        eprintln!("{tally:?}, {:?}", watched.stats());
        assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
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
    let enough = |_: &_| watched.stats().away > 0 && watched.stats().local_hits > 0;
    let tally = violations(caches, bound * 3, enough).await;
    eprintln!("{tally:?}, {:?}", watched.stats());
    assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
    cuts.shutdown().await;
}
