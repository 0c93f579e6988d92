//! What went wrong in caches with loaders elsewhere, as tests. Named after the report; the rest of
//! a name says what must hold here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures::poll;
use sortie::{Cache, Fill, Loaded, Lookup, MemoryCache, ReadThrough, Tag};
use tokio::time::{advance, sleep};

const LOAD: Duration = Duration::from_millis(50);
const USERS: Tag = Tag::named("users");

type Rows = ReadThrough<u64, u64, io::Error>;

/// A row that is read at the begin of its load, as a database does, and arrives after `LOAD`.
fn through(cache: MemoryCache<u64, u64>) -> (Rows, Arc<AtomicU64>) {
    let row = Arc::new(AtomicU64::new(1));
    let read = Arc::clone(&row);
    let rows = ReadThrough::positioned(cache, move |_key: u64| {
        let value = read.load(SeqCst);
        async move {
            sleep(LOAD).await;
            Ok(Loaded::from(value).tagged(USERS))
        }
    });
    (rows, row)
}

/// `invalidate` during a load was lost: the old value was stored after it. Also caffeine#193 and
/// `FusionCache`#625.
#[tokio::test(start_paused = true)]
async fn guava_1881_an_invalidation_during_a_load_is_not_lost() {
    let (rows, row) = through(MemoryCache::new(10));
    let mut old = Box::pin(rows.get(&1));
    assert!(poll!(old.as_mut()).is_pending());
    row.store(2, SeqCst);
    rows.invalidate(&1).await;
    assert_eq!(old.await.unwrap(), 1, "who asked before the write may have the old value");
    assert_eq!(rows.get(&1).await.unwrap(), 2);
}

/// A refresh in the background was stamped when it ended, so it outlived the removal of its tag.
#[tokio::test(start_paused = true)]
async fn fusion_cache_628_a_tag_that_is_swept_during_a_refresh_takes_the_refreshed_value_along() {
    let aged = MemoryCache::builder(10).jitter(0.0).soft_ttl(Duration::from_secs(1));
    let (rows, row) = through(aged.hard_ttl(Duration::from_secs(60)).build());
    assert_eq!(rows.get(&1).await.unwrap(), 1);
    advance(Duration::from_secs(2)).await;
    assert_eq!(rows.get(&1).await.unwrap(), 1, "stale, and a refresh has begun");
    row.store(2, SeqCst);
    rows.invalidate_tag(USERS, None).await;
    sleep(LOAD * 2).await;
    assert_eq!(rows.get(&1).await.unwrap(), 2);
}

/// An older load in flight overwrote what was stored after it had begun.
#[tokio::test(start_paused = true)]
async fn foyer_1289_a_load_that_ends_late_does_not_overwrite_a_later_one() {
    let cache = MemoryCache::<u64, u64>::builder(10).lease_max(Duration::from_secs(1)).build();
    let Lookup::Miss(slow) = cache.get(&1).await else { panic!("it is empty") };
    advance(Duration::from_secs(2)).await;
    let Lookup::Miss(later) = cache.get(&1).await else { panic!("the lease is too old") };
    assert_eq!(cache.fill(later, 2.into()).await, Fill::Stored);
    assert_eq!(cache.fill(slow, 1.into()).await, Fill::Revoked);
    let Lookup::Hit(cached) = cache.get(&1).await else { panic!("it was stored") };
    assert_eq!(cached.value, 2);
}

/// The call of a leader that panicked stayed in the map, and its key was stuck.
#[tokio::test(start_paused = true)]
async fn mailgun_groupcache_38_a_load_that_panics_leaves_the_key_to_the_next() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let rows = ReadThrough::new(MemoryCache::new(10), move |_key: u64| {
        let call = counted.fetch_add(1, SeqCst);
        async move {
            sleep(LOAD).await;
            assert!(call > 0, "the first load panics");
            Ok::<_, io::Error>(call)
        }
    });
    let (one, two) = tokio::join!(rows.get(&1), rows.get(&1));
    assert!(one.is_err() && two.is_err());
    assert_eq!(rows.get(&1).await.unwrap(), 1);
}
