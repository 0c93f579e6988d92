//! Other people's crates, each used as its documentation says.

use std::sync::Arc;

use crate::rows::{BoxFuture, Failure, Got, Load, Subject};

#[derive(Clone)]
pub(crate) struct Moka(moka::future::Cache<u64, u64>);

impl Subject for Moka {
    const IS_CACHE: bool = true;

    fn new() -> Self {
        Self(moka::future::Cache::new(1_000))
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let cache = self.0.clone();
        Box::pin(async move {
            let got = cache.try_get_with(key, async move { load().await }).await;
            got.map_err(|error| (*error).clone())
        })
    }

    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>> {
        let cache = self.0.clone();
        Some(Box::pin(async move { cache.invalidate(&key).await }))
    }

    fn insert(&self, key: u64, value: u64) -> Option<BoxFuture<()>> {
        let cache = self.0.clone();
        Some(Box::pin(async move { cache.insert(key, value).await }))
    }
}

#[derive(Clone)]
pub(crate) struct QuickCache(Arc<quick_cache::sync::Cache<u64, u64>>);

impl Subject for QuickCache {
    const IS_CACHE: bool = true;

    fn new() -> Self {
        Self(Arc::new(quick_cache::sync::Cache::new(1_000)))
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let cache = Arc::clone(&self.0);
        Box::pin(async move { cache.get_or_insert_async(&key, async move { load().await }).await })
    }

    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>> {
        let cache = Arc::clone(&self.0);
        Some(Box::pin(async move {
            cache.remove(&key);
        }))
    }

    fn insert(&self, key: u64, value: u64) -> Option<BoxFuture<()>> {
        let cache = Arc::clone(&self.0);
        Some(Box::pin(async move { cache.insert(key, value) }))
    }
}

#[derive(Clone)]
pub(crate) struct Foyer(foyer::Cache<u64, u64>);

impl Subject for Foyer {
    const IS_CACHE: bool = true;

    fn new() -> Self {
        // One shard: with more of them a small cache evicts by imbalance.
        Self(foyer::CacheBuilder::new(1_000).with_shards(1).build())
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let got = self.0.get_or_fetch(&key, move || async move { load().await });
        Box::pin(async move {
            got.await.map(|entry| *entry.value()).map_err(|error| Failure(format!("{error:?}")))
        })
    }

    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>> {
        let cache = self.0.clone();
        Some(Box::pin(async move {
            cache.remove(&key);
        }))
    }

    fn insert(&self, key: u64, value: u64) -> Option<BoxFuture<()>> {
        let cache = self.0.clone();
        Some(Box::pin(async move {
            cache.insert(key, value);
        }))
    }
}

#[derive(Clone)]
pub(crate) struct Uniflight(Arc<uniflight::Merger<u64, Got>>);

impl Subject for Uniflight {
    const IS_CACHE: bool = false;

    fn new() -> Self {
        Self(Arc::new(uniflight::Merger::new()))
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let merger = Arc::clone(&self.0);
        Box::pin(async move {
            let got = merger.execute(&key, move || async move { load().await }).await;
            got.unwrap_or_else(|panicked| Err(Failure(panicked.to_string())))
        })
    }

    fn invalidate(&self, _key: u64) -> Option<BoxFuture<()>> {
        // It can't be told: whoever asks next joins what runs.
        Some(Box::pin(async {}))
    }
}

#[derive(Clone)]
pub(crate) struct AsyncSingleflight(Arc<async_singleflight::Group<u64, u64, Failure>>);

impl Subject for AsyncSingleflight {
    const IS_CACHE: bool = false;

    fn new() -> Self {
        Self(Arc::new(async_singleflight::Group::new()))
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let group = Arc::clone(&self.0);
        Box::pin(async move {
            let got = group.work(&key, async move { load().await }).await;
            // Followers of a failure are told nothing but that.
            got.map_err(|error| error.unwrap_or_else(|| Failure("failed".to_owned())))
        })
    }

    fn invalidate(&self, _key: u64) -> Option<BoxFuture<()>> {
        Some(Box::pin(async {}))
    }
}

#[derive(Clone)]
pub(crate) struct SingleflightAsync(Arc<singleflight_async::SingleFlight<u64, Got>>);

impl Subject for SingleflightAsync {
    const IS_CACHE: bool = false;

    fn new() -> Self {
        Self(Arc::new(singleflight_async::SingleFlight::new()))
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let group = Arc::clone(&self.0);
        Box::pin(async move { group.work(key, move || async move { load().await }).await })
    }

    fn invalidate(&self, _key: u64) -> Option<BoxFuture<()>> {
        Some(Box::pin(async {}))
    }
}
