//! A cache that breaks one rule.

use sortie::{
    Cache, Cached, Fill, Loaded, Lookup, MemoryCache, MemoryLease, MemoryWait, Position, Sweep, Tag,
};
use tokio::time::Instant;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Breaks {
    /// What was revoked is stored under a later lease.
    Leases,
    /// An invalidation of a key, of a tag, of everything, or an expiry does nothing.
    Keys,
    Tags,
    Everything,
    Expiry,
    /// It does not say since when leases are held: flights that lost theirs are joined.
    Joins,
}

impl Breaks {
    pub(super) const ALL: [Self; 6] =
        [Self::Leases, Self::Keys, Self::Tags, Self::Everything, Self::Expiry, Self::Joins];
}

#[derive(Clone)]
pub(super) struct Broken {
    pub(super) cache: MemoryCache<usize, u64>,
    pub(super) breaks: Option<Breaks>,
}

impl Broken {
    fn keeps(&self, rule: Breaks) -> bool {
        self.breaks != Some(rule)
    }
}

impl Cache<usize, u64> for Broken {
    type Lease = (usize, MemoryLease<usize, u64>);
    type Wait = MemoryWait;

    async fn get(&self, key: &usize) -> Lookup<u64, Self::Lease, MemoryWait> {
        match self.cache.get(key).await {
            Lookup::Hit(cached) => Lookup::Hit(cached),
            Lookup::Miss(lease) => Lookup::Miss((*key, lease)),
            Lookup::Pending(wait) => Lookup::Pending(wait),
            other => panic!("nothing ages here: {other:?}"),
        }
    }

    async fn fill(&self, (key, lease): Self::Lease, loaded: Loaded<u64>) -> Fill {
        let fill = self.cache.fill(lease, loaded.clone()).await;
        if fill == Fill::Revoked
            && !self.keeps(Breaks::Leases)
            && let Lookup::Miss(later) = self.cache.get(&key).await
        {
            return self.cache.fill(later, loaded).await;
        }
        fill
    }

    async fn invalidate(&self, key: &usize) {
        if self.keeps(Breaks::Keys) {
            self.cache.invalidate(key).await;
        }
    }

    async fn invalidate_at(&self, key: &usize, position: &Position) {
        if self.keeps(Breaks::Keys) {
            self.cache.invalidate_at(key, position).await;
        }
    }

    async fn expire(&self, key: &usize) {
        if self.keeps(Breaks::Expiry) {
            self.cache.expire(key).await;
        }
    }

    fn is_exclusive(&self, (_, lease): &Self::Lease) -> bool {
        self.keeps(Breaks::Joins) && self.cache.is_exclusive(lease)
    }

    fn held_since(&self, wait: &MemoryWait) -> Option<Instant> {
        self.cache.held_since(wait).filter(|_| self.keeps(Breaks::Joins))
    }

    async fn last(&self, key: &usize) -> Option<Cached<u64>> {
        self.cache.last(key).await
    }
}

impl Sweep<usize, u64> for Broken {
    async fn invalidate_tag(&self, tag: Tag, position: Option<&Position>) {
        if self.keeps(Breaks::Tags) {
            self.cache.invalidate_tag(tag, position).await;
        }
    }

    async fn invalidate_all(&self, position: Option<&Position>) {
        if self.keeps(Breaks::Everything) {
            self.cache.invalidate_all(position).await;
        }
    }
}
