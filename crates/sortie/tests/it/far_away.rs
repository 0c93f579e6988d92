//! A cache whose answers take their time.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sortie::{Cache, Cached, Fill, Loaded, Lookup, Position, ReadThrough};
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
