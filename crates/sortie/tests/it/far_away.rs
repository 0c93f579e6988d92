//! A cache whose answers take their time.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sortie::{Cache, Cached, Fill, Loaded, Lookup, MemoryCache, Position, ReadThrough};
use tokio::time::sleep;

const LOAD: Duration = Duration::from_millis(50);

/// A cache far away: an invalidation takes a while, and so does one look-up in the midst of it.
#[derive(Clone, Default)]
struct FarAway {
    looks: Arc<AtomicUsize>,
    invalidated: Arc<AtomicBool>,
}

impl Cache<u64, u64> for FarAway {
    type Lease = ();
    type Wait = std::future::Ready<()>;

    async fn get(&self, _key: &u64) -> Lookup<u64, (), Self::Wait> {
        let look = self.looks.fetch_add(1, Relaxed);
        let outdated = self.invalidated.load(Relaxed);
        match look {
            0 => return Lookup::Pending(ready(())),
            1 => sleep(LOAD * 4).await, // The old value is on its way.
            _ => {}
        }
        if outdated { Lookup::Miss(()) } else { Lookup::Hit(Cached::new(1, None)) }
    }

    async fn fill(&self, (): (), _loaded: Loaded<u64>) -> Fill {
        Fill::Away
    }

    async fn invalidate(&self, _key: &u64) {
        sleep(LOAD * 2).await;
        self.invalidated.store(true, Relaxed);
    }

    async fn invalidate_at(&self, key: &u64, _position: &Position) {
        self.invalidate(key).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_flight_that_found_a_value_before_its_invalidation_is_joined_after_it() {
    let through = ReadThrough::new(FarAway::default(), |_key| ready(Ok::<_, io::Error>(2)));
    let in_the_midst = async {
        sleep(LOAD).await;
        through.get(&7).await.unwrap();
    };
    let after = async {
        through.invalidate(&7).await;
        through.get(&7).await.unwrap()
    };
    assert_eq!(futures::join!(in_the_midst, after).1, 2);
}

/// Two read-throughs over one cache are as two processes: neither knows of the other's flights.
#[tokio::test(start_paused = true)]
async fn no_flight_is_joined_after_an_invalidation_by_somebody_else() {
    let (cache, row) = (MemoryCache::new(10), Arc::new(AtomicU64::new(1)));
    let process = || {
        let (cache, row) = (cache.clone(), Arc::clone(&row));
        ReadThrough::new(cache, move |_key: u64| {
            let value = row.load(Relaxed);
            async move {
                sleep(LOAD).await;
                Ok::<_, io::Error>(value)
            }
        })
    };
    let (here, there) = (process(), process());
    let early = here.get(&7);
    let write = async {
        sleep(LOAD / 5).await;
        row.store(2, Relaxed);
        there.invalidate(&7).await;
    };
    let late = async {
        sleep(LOAD / 4).await;
        here.get(&7).await.unwrap()
    };
    // One that finds the lease that the last one was given.
    let later = async {
        sleep(LOAD / 4).await;
        here.get(&7).await.unwrap()
    };
    let elsewhere = async {
        sleep(LOAD / 3).await;
        let found = there.get(&7).await.unwrap();
        (found, here.get(&7).await.unwrap())
    };
    let (early, (), late, later, elsewhere) = futures::join!(early, write, late, later, elsewhere);
    assert_eq!((early.unwrap(), late, later, elsewhere), (1, 2, 2, (2, 2)));
}
