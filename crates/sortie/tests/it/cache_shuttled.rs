//! Schedules of the cache in memory under shuttle's scheduler, which decides at every lock, every
//! atomic and every task switch who goes on: leases, fills and reads against invalidations of every
//! kind. Compiled and run only by `cargo xtask shuttle`.
//!
//! The model: the row is the number of its last write, a replica shows it later. Whoever writes
//! invalidates, and then says so; what is read from the cache after that is not older.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::atomic::AtomicU64;
use sortie::{Cache, Fill, Loaded, Lookup, MemoryCache, Position, ShardId, Sweep, Tag, WalPoint};

const KEY: u8 = 1;
const TAG: Tag = Tag::named("rows");
const SCHEDULES: usize = 2_000;

type Values = MemoryCache<u8, u64>;

/// How the cache is told of a write.
#[derive(Clone, Copy, Debug)]
enum Says {
    Invalidate,
    InvalidateAt,
    Expire,
    Tag,
    TagAt,
    Everything,
}

const ALL: [Says; 6] =
    [Says::Invalidate, Says::InvalidateAt, Says::Expire, Says::Tag, Says::TagAt, Says::Everything];

struct World {
    cache: Values,
    says: Says,
    /// Whether a refused value is stored under a later lease.
    stubborn: bool,
    row: AtomicU64,
    replica: AtomicU64,
    told: AtomicU64,
}

fn at(lsn: u64) -> Position {
    Position::of([(ShardId::new(0), WalPoint { system: 7, timeline: 1, lsn })])
}

impl World {
    /// Replicas may only be behind where the cache is told how far they must be.
    fn lags(&self) -> bool {
        matches!(self.says, Says::InvalidateAt | Says::TagAt)
    }

    async fn write(self: Arc<Self>) {
        let value = self.row.fetch_add(1, SeqCst) + 1;
        let position = Some(&at(value)).filter(|_| self.lags()).cloned();
        match self.says {
            Says::Invalidate => self.cache.invalidate(&KEY).await,
            Says::InvalidateAt => self.cache.invalidate_at(&KEY, &at(value)).await,
            Says::Expire => self.cache.expire(&KEY).await,
            Says::Tag | Says::TagAt => self.cache.invalidate_tag(TAG, position.as_ref()).await,
            Says::Everything => self.cache.invalidate_all(None).await,
        }
        self.told.fetch_max(value, SeqCst);
    }

    /// The replica catches up, a while after the write.
    async fn replay(self: Arc<Self>) {
        for _ in 0..3 {
            yield_now().await;
            self.replica.store(self.row.load(SeqCst), SeqCst);
        }
    }

    async fn read(self: Arc<Self>) {
        for _ in 0..3 {
            let least = self.told.load(SeqCst);
            match self.cache.get(&KEY).await {
                Lookup::Hit(cached) => {
                    assert!(cached.value >= least, "{} after {least} was told", cached.value);
                }
                Lookup::Miss(lease) => {
                    let source = if self.lags() { &self.replica } else { &self.row };
                    let value = source.load(SeqCst);
                    yield_now().await;
                    let loaded = || Loaded::at(value, at(value)).tagged(TAG);
                    let fill = self.cache.fill(lease, loaded()).await;
                    if fill == Fill::Revoked
                        && self.stubborn
                        && let Lookup::Miss(later) = self.cache.get(&KEY).await
                    {
                        self.cache.fill(later, loaded()).await;
                    }
                }
                Lookup::Pending(ended) => ended.await,
                _ => panic!("nothing ages here"),
            }
        }
    }
}

fn scenario(says: Says, stubborn: bool) {
    // Without ages and takeovers nobody waits for a timer.
    let cache = MemoryCache::builder(10).lease_max(Duration::MAX).cooling(Duration::ZERO).build();
    let [row, replica, told] = [0; 3].map(AtomicU64::new);
    let world = Arc::new(World { cache, says, stubborn, row, replica, told });
    block_on(async {
        let with = || Arc::clone(&world);
        let tasks = [
            spawn(with().read()),
            spawn(with().write()),
            spawn(with().read()),
            spawn(with().replay()),
            spawn(with().write()),
        ];
        for task in tasks {
            task.await.unwrap();
        }
        world.replica.store(world.row.load(SeqCst), SeqCst);
        // Whatever happened, the key is not stuck: what is loaded now is stored and read.
        with().read().await;
        assert!(matches!(world.cache.get(&KEY).await, Lookup::Hit(cached) if cached.value == 2));
    });
}

#[test]
fn nothing_old_is_read_whenever_it_was_invalidated() {
    for says in ALL {
        shuttle::check_random(move || scenario(says, false), SCHEDULES);
        shuttle::check_pct(move || scenario(says, false), SCHEDULES, 3);
    }
}

#[test]
#[should_panic(expected = "was told")]
fn the_test_above_catches_a_cache_that_stores_what_was_revoked() {
    shuttle::check_random(|| scenario(Says::Invalidate, true), SCHEDULES);
}
