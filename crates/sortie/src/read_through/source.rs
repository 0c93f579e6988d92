//! Where values come from: a loader, and a cache that is filled under a lease.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hashbrown::HashMap;
use tracing::debug;

use super::backoff::{Backoff, Pauses};
use super::read::{Want, Why};
use crate::observe::{Event, Observer};
use crate::rt::time::{Instant, timeout_at};
use crate::{Cache, Cached, Fill, Loaded, Lookup};

/// How often a flight looks for a lease again: each time one was given back without a value.
const LOOKS_MAX: usize = 8;

pub(super) type BoxLoad<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
pub(super) type LoadOne<K, V, E> = dyn Fn(K) -> BoxLoad<Loaded<V>, E> + Send + Sync;
pub(super) type LoadMany<K, V, E> = dyn Fn(Vec<K>) -> BoxLoad<Vec<(K, Loaded<V>)>, E> + Send + Sync;

pub(super) struct Source<K, V, E, C> {
    pub(super) cache: C,
    pub(super) load: Box<LoadOne<K, V, E>>,
    pub(super) backoff: Backoff<K>,
}

/// What the owner of a read-through decided, apart from its cache and flights.
pub(super) struct Policy<V> {
    pub(super) pending_max: Duration,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) pauses: Pauses,
    pub(super) negative: Option<Negative<V>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// For how long what counts as "there is nothing" is kept.
pub(super) struct Negative<V> {
    pub(super) ttl: Duration,
    pub(super) is: Arc<dyn Fn(&V) -> bool + Send + Sync>,
}

/// What a caller's own look at the cache left it with: for its flight, if it leads one.
pub(super) enum Seed<L, W> {
    Lease(L),
    Wait(W),
    /// The cache has a value that is too old for this caller.
    TooOld,
}

impl<K, V, E, C> Source<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync,
    V: Clone + Send,
    E: Send,
    C: Cache<K, V>,
{
    /// One flight's load.
    pub(super) async fn load(
        &self,
        key: K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        want: Want,
        policy: &Policy<V>,
    ) -> Result<Cached<V>, E> {
        let lease = match self.lease(&key, seed, want, policy.pending_max).await {
            Ok(lease) => lease,
            Err(found) => return Ok(found),
        };
        let began = Instant::now();
        let load = async { (self.load)(key.clone()).await };
        match self.tried(slice::from_ref(&key), load, policy).await {
            Ok(loaded) => Ok(self.store(&key, lease, loaded, began, policy).await),
            Err(error) => Err(error),
        }
    }

    /// The load of many flights at once, the first time with the leases of its keys.
    pub(super) async fn load_many(
        &self,
        keys: Vec<K>,
        mut leases: HashMap<K, C::Lease>,
        want: Want,
        load: &LoadMany<K, V, E>,
        policy: &Policy<V>,
    ) -> Result<Vec<(K, Result<Cached<V>, E>)>, E> {
        // Of several keys none waits, for it would hold the others' leases meanwhile.
        let patience = if keys.len() == 1 { policy.pending_max } else { Duration::ZERO };
        let looks = keys.iter().map(|key| {
            let seed = leases.remove(key).map(Seed::Lease);
            self.lease(key, seed, want, patience)
        });
        let looks = join_all(looks.collect::<Vec<_>>()).await;
        let (mut rows, mut wanted) = (Vec::with_capacity(keys.len()), Vec::new());
        for (key, look) in keys.into_iter().zip(looks) {
            match look {
                Err(found) => rows.push((key, Ok(found))),
                Ok(lease) => {
                    leases.extend(lease.map(|lease| (key.clone(), lease)));
                    wanted.push(key);
                }
            }
        }
        if wanted.is_empty() {
            return Ok(rows);
        }
        let began = Instant::now();
        let load = async { load(wanted.clone()).await };
        let loaded = self.tried(&wanted, load, policy).await?;
        // Of those too that it had nothing for.
        for key in &wanted {
            self.backoff.worked(key);
        }
        let stored = loaded.into_iter().map(|(key, loaded)| {
            let lease = leases.remove(&key);
            async move {
                let cached = self.store(&key, lease, loaded, began, policy).await;
                (key, Ok(cached))
            }
        });
        rows.extend(join_all(stored.collect::<Vec<_>>()).await);
        Ok(rows)
    }

    /// Runs a load, and remembers its keys if it fails or panics: once, whoever waits for it.
    async fn tried<T>(
        &self,
        keys: &[K],
        load: impl Future<Output = Result<T, E>> + Send,
        policy: &Policy<V>,
    ) -> Result<T, E> {
        let ended = AssertUnwindSafe(load).catch_unwind().await;
        if !matches!(ended, Ok(Ok(_))) {
            for key in keys {
                self.backoff.failed(key, policy.pauses);
            }
        }
        ended.unwrap_or_else(|payload| resume_unwind(payload))
    }

    async fn store(
        &self,
        key: &K,
        lease: Option<C::Lease>,
        mut loaded: Loaded<V>,
        began: Instant,
        policy: &Policy<V>,
    ) -> Cached<V> {
        self.backoff.worked(key);
        if let Some(Negative { ttl, is }) = &policy.negative
            && is(&loaded.value)
        {
            loaded = loaded.ages(*ttl, *ttl);
        }
        let mut cached = Cached::new(loaded.value.clone(), loaded.as_of.clone()).began(began);
        cached.held_at = Some(began);
        let fill = match lease {
            Some(lease) => self.cache.fill(lease, loaded).await,
            None => Fill::Revoked,
        };
        if fill != Fill::Stored {
            debug!(reason = ?fill, "a loaded value was served and not stored");
            policy.tell(|| Event::FillRefused { why: fill });
        }
        cached
    }

    /// Gets the lease, or the value if somebody has stored it meanwhile; neither if somebody else
    /// holds the lease for too long.
    async fn lease(
        &self,
        key: &K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        want: Want,
        pending_max: Duration,
    ) -> Result<Option<C::Lease>, Cached<V>> {
        let give_up = Instant::now() + pending_max;
        let mut others = match seed {
            Some(Seed::Lease(lease)) => return Ok(Some(lease)),
            Some(Seed::Wait(ended)) => Some(ended),
            Some(Seed::TooOld) | None => None,
        };
        for _look in 0..LOOKS_MAX {
            if let Some(ended) = others.take()
                && timeout_at(give_up, ended).await.is_err()
            {
                break;
            }
            let asked = Instant::now();
            match self.cache.get(key).await {
                Lookup::Hit(mut cached) | Lookup::Stale(mut cached, None) => {
                    if want.takes(&cached) {
                        (cached.held_at, cached.found) = (Some(asked), true);
                        return Err(cached);
                    }
                    // It goes, so that what this flight loads can take its place.
                    self.cache.expire(key).await;
                }
                Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) | Lookup::Early(_, lease) => {
                    return Ok(Some(lease));
                }
                Lookup::Pending(ended) => others = Some(ended),
            }
        }
        debug!("somebody else holds the lease for too long: loading without it");
        Ok(None)
    }
}

impl<V> Policy<V> {
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.observer {
            observer.event(&event());
        }
    }

    pub(super) fn stale(&self, why: Why, age: Option<Duration>) {
        self.tell(|| Event::StaleServed { why, age });
    }
}

impl<V> Clone for Policy<V> {
    fn clone(&self) -> Self {
        let negative = self.negative.as_ref();
        let negative = negative.map(|it| Negative { ttl: it.ttl, is: Arc::clone(&it.is) });
        let observer = self.observer.clone();
        Self { negative, observer, ..*self }
    }
}
