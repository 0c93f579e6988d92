//! What went wrong in caches with loaders elsewhere, as tests. Named after the report; the rest of
//! a name says what must hold here.

use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures::{FutureExt, poll};
use parking_lot::Mutex;
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

/// The same of a first load: its tag was swept meanwhile, and it was stamped when it ended.
#[tokio::test(start_paused = true)]
async fn fusion_cache_535_a_tag_that_is_swept_during_a_first_load_takes_its_value_along() {
    let (rows, row) = through(MemoryCache::new(10));
    let mut old = Box::pin(rows.get(&1));
    assert!(poll!(old.as_mut()).is_pending());
    row.store(2, SeqCst);
    rows.invalidate_tag(USERS, None).await;
    assert_eq!(old.await.unwrap(), 1, "who asked before the write may have the old value");
    assert_eq!(rows.get(&1).await.unwrap(), 2);
}

/// Two loads of one record, with a removal between them, both inserted it.
#[tokio::test(start_paused = true)]
async fn foyer_1121_of_two_loads_with_an_invalidation_between_them_the_later_is_stored() {
    for later_first in [false, true] {
        let cache = MemoryCache::<u64, u64>::new(10);
        let Lookup::Miss(one) = cache.get(&1).await else { panic!("it is empty") };
        cache.invalidate(&1).await;
        let Lookup::Miss(two) = cache.get(&1).await else { panic!("the lease was revoked") };
        if later_first {
            assert_eq!(cache.fill(two, 2.into()).await, Fill::Stored);
            assert_eq!(cache.fill(one, 1.into()).await, Fill::Revoked);
        } else {
            assert_eq!(cache.fill(one, 1.into()).await, Fill::Revoked);
            assert_eq!(cache.fill(two, 2.into()).await, Fill::Stored);
        }
        let Lookup::Hit(cached) = cache.get(&1).await else { panic!("it was stored") };
        assert_eq!(cached.value, 2);
    }
}

/// A call that was parked half-way through the table's upkeep had all writers spin for it.
#[tokio::test(start_paused = true)]
async fn moka_412_calls_that_are_parked_half_way_hold_up_no_writer() {
    let (rows, _row) = through(MemoryCache::new(16));
    let rows = &rows;
    let get = |key| Box::pin(async move { rows.get(&key).await });
    let mut parked: Vec<_> = (0..64).map(get).collect();
    for call in &mut parked {
        assert!(poll!(call.as_mut()).is_pending());
    }
    for round in 0..1_000 {
        rows.invalidate(&(round % 128)).await;
        rows.invalidate_tag(USERS, None).await;
        assert!(poll!(get(round % 256).as_mut()).is_pending());
    }
    for call in parked {
        assert_eq!(call.await.unwrap(), 1);
    }
}

/// What another thread does at one moment of this one.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

struct Key(Meanwhile);
#[derive(Clone)]
struct Value(u64, Meanwhile);

impl Hash for Key {
    fn hash<H: Hasher>(&self, _hasher: &mut H) {}
}

impl PartialEq for Key {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        now(&self.0);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        now(&self.1);
    }
}

fn now(meanwhile: &Meanwhile) {
    let it = meanwhile.lock().take();
    if let Some(it) = it {
        it();
    }
}

/// Ours: a value that was on its way when its key expired could be read for a moment.
#[tokio::test]
async fn a_value_on_its_way_is_not_read_once_its_key_has_expired() {
    let (cloned, dropped) = (Meanwhile::default(), Meanwhile::default());
    let cache = MemoryCache::<Key, Value>::new(10);
    let key = Key(Arc::clone(&cloned));
    let value = |value| Loaded::from(Value(value, Arc::clone(&dropped)));
    let Lookup::Miss(lease) = cache.get(&key).await else { panic!("it is empty") };
    assert_eq!(cache.fill(lease, value(1)).await, Fill::Stored);
    cache.expire(&key).await;
    let Lookup::Miss(lease) = cache.get(&key).await else { panic!("it has expired") };
    let seen = Arc::new(Mutex::new(None));
    // As the key is copied the new value is about to be stored; as a value is dropped, it is.
    let (expires, reads) = (cache.clone(), cache.clone());
    let (key_of_expire, key_of_read) = (key.clone(), key.clone());
    let read = Arc::clone(&seen);
    *dropped.lock() = Some(Box::new(move || {
        *read.lock() = Some(reads.at_hand(&key_of_read).map(|value| value.0));
    }));
    *cloned.lock() = Some(Box::new(move || {
        expires.expire(&key_of_expire).now_or_never().expect("nothing is waited for");
    }));
    assert_eq!(cache.fill(lease, value(2)).await, Fill::Revoked);
    assert_eq!(*seen.lock(), Some(None), "it was looked for, and not there");
    assert!(cache.at_hand(&key).is_none());
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
