//! A client of get and set whose requests arrive, whoever has left meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use sortie::{Cache, Fill, GetSet, GetSetCache, GetSetLease, Lookup};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

const ON_THE_WAY: Duration = Duration::from_millis(100);

type Request = (u64, u64, oneshot::Sender<()>);

/// A `set` that was sent is done, when it has arrived.
struct Wire {
    rows: Arc<Mutex<HashMap<u64, u64>>>,
    sets: mpsc::UnboundedSender<Request>,
    _server: JoinSet<()>,
}

impl Wire {
    fn new() -> Self {
        let (sets, mut arriving) = mpsc::unbounded_channel::<Request>();
        let (rows, mut server) = (Arc::<Mutex<HashMap<_, _>>>::default(), JoinSet::new());
        let stored = Arc::clone(&rows);
        server.spawn(async move {
            while let Some((key, value, done)) = arriving.recv().await {
                sleep(ON_THE_WAY).await;
                stored.lock().insert(key, value);
                done.send(()).ok();
            }
        });
        Self { rows, sets, _server: server }
    }
}

impl GetSet<u64, u64> for Wire {
    async fn get(&self, key: &u64) -> Option<u64> {
        self.rows.lock().get(key).copied()
    }

    async fn set(&self, key: &u64, value: u64) {
        let (done, is_done) = oneshot::channel();
        self.sets.send((*key, value, done)).expect("the server is there");
        is_done.await.ok();
    }

    async fn delete(&self, key: &u64) {
        self.rows.lock().remove(key);
    }
}

async fn lease(cache: &GetSetCache<u64, Wire>, key: u64) -> GetSetLease<u64> {
    match cache.get(&key).await {
        Lookup::Miss(lease) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_lands_after_its_caller_has_left_is_deleted_if_it_was_invalidated() {
    for invalidated_first in [true, false] {
        let cache = GetSetCache::new(Wire::new());
        let mut fill = Box::pin(cache.fill(lease(&cache, 1).await, 1.into()));
        assert!(fill.as_mut().now_or_never().is_none(), "it is on its way");
        if invalidated_first {
            cache.invalidate(&1).await;
            drop(fill);
        } else {
            drop(fill);
            cache.invalidate(&1).await;
        }
        sleep(ON_THE_WAY * 2).await;
        let found = cache.get(&1).await;
        assert!(matches!(found, Lookup::Miss(_)), "{invalidated_first}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_caller_has_left_keeps_its_lease_until_it_is_done() {
    let cache = GetSetCache::new(Wire::new());
    let mut fill = Box::pin(cache.fill(lease(&cache, 1).await, 1.into()));
    assert!(fill.as_mut().now_or_never().is_none(), "it is on its way");
    drop(fill);
    // Nobody loads and sets what that set would then overwrite.
    let Lookup::Pending(wait) = cache.get(&1).await else { panic!("it was given back") };
    wait.await;
    assert!(matches!(cache.get(&1).await, Lookup::Hit(cached) if cached.value == 1));
}

#[tokio::test(start_paused = true)]
async fn sets_on_their_way_are_bounded() {
    let cache = GetSetCache::new(Wire::new());
    let mut fills = Vec::new();
    for key in 0..1_024 {
        let mut fill = Box::pin(cache.fill(lease(&cache, key).await, key.into()));
        assert!(fill.as_mut().now_or_never().is_none(), "it is on its way");
        fills.push(fill);
    }
    drop(fills);
    assert_eq!(cache.fill(lease(&cache, 5_000).await, 7.into()).await, Fill::Away);
    sleep(ON_THE_WAY * 1_100).await;
    assert_eq!(cache.fill(lease(&cache, 5_000).await, 7.into()).await, Fill::Stored);
}
