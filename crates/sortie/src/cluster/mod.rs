//! A cluster: a shard map, and for each shard the replicas that hold its rows.

mod pg_hash;
mod shard_map;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

pub use self::shard_map::{ShardId, ShardKey, ShardMap};

use crate::hedge::{Classify, DropOnly, Hedge, HedgeError, OkWins, Reaper};
use crate::replicas::ReplicaSet;

/// All slices of the data: which shard owns a key, and who holds it. A handle, cheap to clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use sortie::{Cluster, Hedge, ReplicaSet, ShardMap};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), sortie::HedgeError<std::io::Error>> {
/// let cluster = Cluster::new(
///     ShardMap::pg_hash(2),
///     [ReplicaSet::new(["0.0", "0.1"]), ReplicaSet::new(["1.0", "1.1"])],
///     Hedge::after(Duration::from_millis(70)),
/// );
/// // One key: the shard that owns it, then the fastest of its replicas.
/// let replica = cluster.read(1, |replica| async move { Ok(replica) }).await?;
/// assert_eq!(replica, "0.0");
/// // Every shard.
/// for shard in cluster.shards() {
///     let replica = cluster.read_shard(shard, |replica| async move { Ok(replica) }).await?;
///     println!("shard {shard}: {replica}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Cluster<R, C = OkWins, P = DropOnly> {
    inner: Arc<Inner<R, C, P>>,
}

struct Inner<R, C, P> {
    map: ShardMap,
    shards: Box<[ReplicaSet<R>]>,
    hedge: Hedge<C, P>,
}

impl<R, C, P> Cluster<R, C, P> {
    /// Creates a cluster of one replica set for each shard of `map`, in order, all read with
    /// `hedge`.
    ///
    /// # Panics
    ///
    /// Panics if there are not as many replica sets as `map` has shards.
    pub fn new(
        map: ShardMap,
        shards: impl IntoIterator<Item = ReplicaSet<R>>,
        hedge: Hedge<C, P>,
    ) -> Self {
        let shards: Box<[_]> = shards.into_iter().collect();
        assert_eq!(map.shards().len(), shards.len(), "each shard of the map has a replica set");
        Self { inner: Arc::new(Inner { map, shards, hedge }) }
    }

    /// Reads from the shard that owns `key`: the first answer of its replicas.
    ///
    /// Errors and cancel safety are those of [`Hedge::run`]. The future borrows nothing but what
    /// the type of `key` borrows.
    pub fn read<'k, K, T, E, F, Fut>(
        &self,
        key: K,
        attempt: F,
    ) -> impl Future<Output = Result<T, HedgeError<E>>> + use<R, K, T, E, F, Fut, C, P>
    where
        K: Into<ShardKey<'k>>,
        R: Clone,
        F: Fn(R) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        P: Reaper<R>,
    {
        self.read_shard(self.shard_of(key), attempt)
    }

    /// Reads from `shard`: the first answer of its replicas.
    ///
    /// Errors and cancel safety are those of [`Hedge::run`]. The future borrows nothing.
    ///
    /// # Panics
    ///
    /// Panics if the cluster has no such shard.
    pub fn read_shard<T, E, F, Fut>(
        &self,
        shard: ShardId,
        attempt: F,
    ) -> impl Future<Output = Result<T, HedgeError<E>>> + use<R, T, E, F, Fut, C, P>
    where
        R: Clone,
        F: Fn(R) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        P: Reaper<R>,
    {
        self.inner.hedge.run(self.replicas(shard), attempt)
    }

    /// Returns the shard that owns `key`.
    pub fn shard_of<'k>(&self, key: impl Into<ShardKey<'k>>) -> ShardId {
        self.inner.map.shard_of(key)
    }

    /// Returns every shard, in order.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardId> + Clone + use<R, C, P> {
        self.inner.map.shards()
    }

    /// Returns the replicas that hold the rows of `shard`.
    ///
    /// # Panics
    ///
    /// Panics if the cluster has no such shard.
    pub fn replicas(&self, shard: ShardId) -> &ReplicaSet<R> {
        let known = self.inner.shards.len();
        let index = usize::try_from(shard.index()).unwrap_or(usize::MAX);
        assert!(index < known, "shard {shard} of a cluster with {known} shards");
        &self.inner.shards[index]
    }

    /// Returns the policy that every shard is read with.
    pub fn hedge(&self) -> &Hedge<C, P> {
        &self.inner.hedge
    }
}

impl<R, C, P> Clone for Cluster<R, C, P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<R, C, P> fmt::Debug for Cluster<R, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("map", &self.inner.map)
            .field("shards", &self.inner.shards)
            .field("hedge", &self.inner.hedge)
            .finish()
    }
}
