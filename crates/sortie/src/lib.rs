//! The read path for replicated, sharded databases: single flight, hedged reads, scatter-gather.
//!
//! A *sortie* is one flight. A thousand callers ask for the same row: one query flies. It asks a
//! replica, and if that one is slow, another; the first answer wins and the loser is called back.
//! A question for the whole cluster goes to every shard at once; the first error calls the rest
//! back.
//!
//! The crate knows no database, no SQL and no configuration file, and it opens no socket: every
//! pattern takes a closure, so the database client stays yours.
//!
//! # On one screen
//!
//! Per pattern one type, one constructor, one verb; options are in builders. `Replica`, `Shard` and
//! `Db` are yours: cheap handles on your database client.
//!
//! ```
//! use std::time::Duration;
//!
//! use sortie::{
//!     Cluster, ErrGroup, Hedge, MemoryCache, Position, ReadThrough, ReplicaSet, Scatter, ShardId,
//!     ShardMap, SingleFlight, WalPoint, first_ok,
//! };
//!
//! # type Error = std::io::Error;
//! # #[derive(Clone)]
//! # struct Db;
//! # impl Db {
//! #     async fn load(&self, user: i64) -> Result<i64, Error> { Ok(user) }
//! # }
//! # #[derive(Clone)]
//! # struct Replica;
//! # impl Replica {
//! #     async fn load(&self, user: i64) -> Result<i64, Error> { Ok(user) }
//! #     async fn balance(&self, user: i64) -> Result<i64, Error> { Ok(user * 100) }
//! # }
//! # #[derive(Clone)]
//! # struct Shard(i64);
//! # impl Shard {
//! #     async fn sum(&self) -> Result<i64, Error> { Ok(self.0) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (db, user) = (Db, 42);
//! # let replicas = ReplicaSet::new([Replica, Replica]);
//! # let shards = [Shard(1), Shard(2), Shard(3)];
//! # let cache = MemoryCache::new(10_000);
//! # let flights = SingleFlight::new();
//! # let hedge = Hedge::after(Duration::from_millis(70));
//! # let sets = vec![replicas.clone(), replicas.clone()];
//! # let cluster = Cluster::new(ShardMap::pg_hash(2), sets, hedge.clone());
//! // 1. Single flight: concurrent equal reads run once.
//! let row = flights
//!     .run(user, move || {
//!         let db = db.clone();
//!         async move { db.load(user).await }
//!     })
//!     .await?;
//!
//! // 2. First answer from synchronous replicas: all at once, or the next when this one is slow.
//! let load = move |replica: Replica| async move { replica.load(user).await };
//! let at_once = first_ok([Replica, Replica], load).await?;
//! let in_turn = hedge.run(&replicas, load).await?;
//! # assert_eq!((row, at_once, in_turn), (42, 42, 42));
//!
//! // 3. Every shard; the first error cancels the rest.
//! let sums = Scatter::over(shards).run(|shard| async move { shard.sum().await }).await?;
//! let total = ErrGroup::new()
//!     .limit(4)
//!     .scope(|group| async move {
//!         for sum in sums {
//!             group.spawn(async move { if sum > 0 { Ok(()) } else { Err(Empty) } }).await?;
//!         }
//!         Ok("every shard has rows")
//!     })
//!     .await?;
//! # assert_eq!(total, "every shard has rows");
//! # #[derive(Debug)]
//! # struct Empty;
//! # impl std::fmt::Display for Empty {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//! #         f.write_str("empty")
//! #     }
//! # }
//! # impl std::error::Error for Empty {}
//!
//! // Composed: cache -> single flight -> shard -> fastest replica.
//! let balances = ReadThrough::new(cache, move |user: i64| {
//!     cluster.read(user, move |replica: Replica| async move { replica.balance(user).await })
//! });
//! let balance = balances.get(&user).await?;
//! # assert_eq!(balance, 4_200);
//! balances.invalidate(&user).await; // No load begun earlier is joined, stored or read from now,
//! let write = WalPoint { system: 7_301, timeline: 1, lsn: 900 };
//! let position = Position::of([(ShardId::new(0), write)]);
//! balances.invalidate_at(&user, &position).await; // nor stored from a replica before the write.
//! # Ok(())
//! # }
//! ```
//!
//! # Single flight
//!
//! Concurrent equal reads run once ([`SingleFlight`]):
//!
//! ```
//! use sortie::{FlightError, SingleFlight};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), FlightError<std::io::Error>> {
//! let flights: SingleFlight<u64, String, std::io::Error> = SingleFlight::new();
//! let user = 42;
//! let name = flights.run(user, move || async move { Ok(format!("user {user}")) }).await?;
//! assert_eq!(name, "user 42");
//! # Ok(())
//! # }
//! ```
//!
//! # First answer
//!
//! Replicas hold the same rows, so any of them may answer ([`Hedge`], [`first_ok`]):
//!
//! ```
//! use std::time::Duration;
//!
//! use sortie::{Hedge, HedgeError, ReplicaSet};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), HedgeError<std::io::Error>> {
//! let replicas = ReplicaSet::new(["slow", "fast"]);
//! let load = |replica| async move {
//!     let latency_ms = if replica == "slow" { 900 } else { 1 };
//!     tokio::time::sleep(Duration::from_millis(latency_ms)).await;
//!     Ok(replica)
//! };
//! // All at once:
//! assert_eq!(sortie::first_ok(["slow", "fast"], load).await?, "fast");
//! // The next one only when this one is slow:
//! assert_eq!(Hedge::after(Duration::from_millis(70)).run(&replicas, load).await?, "fast");
//! # Ok(())
//! # }
//! ```
//!
//! A [`Cluster`] puts a [`ShardMap`] in front: its `read` asks the replicas of the shard that owns
//! the key.
//!
//! # Every shard
//!
//! The first error calls the rest back, and nothing outlives the call ([`Scatter`], and
//! [`ErrGroup`] for tasks that are not known beforehand):
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! use sortie::{ErrGroup, Scatter};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sum = |shard: u64| async move { Ok::<_, std::io::Error>(shard * 10) };
//! assert_eq!(Scatter::over([1, 2, 3]).run(sum).await?, [10, 20, 30]);
//!
//! let total = &AtomicU64::new(0); // Tasks may borrow what outlives the scope.
//! let scope = ErrGroup::new().limit(4).scope(|group| async move {
//!     for shard in 1..=3 {
//!         let task = async move {
//!             total.fetch_add(sum(shard).await?, Relaxed);
//!             Ok::<_, std::io::Error>(())
//!         };
//!         group.spawn(task).await?; // Waits while four are running.
//!     }
//!     Ok(())
//! });
//! scope.await?;
//! assert_eq!(total.load(Relaxed), 60);
//! # Ok(())
//! # }
//! ```
//!
//! # Composed
//!
//! A cache, one flight per key behind it, the shard that owns the key, its fastest replica
//! ([`ReadThrough`]):
//!
//! ```
//! use std::time::Duration;
//!
//! use sortie::{Cluster, Hedge, MemoryCache, ReadThrough, ReplicaSet, ShardMap};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shards = vec![ReplicaSet::new(["0.0", "0.1"]), ReplicaSet::new(["1.0", "1.1"])];
//! let hedge = Hedge::after(Duration::from_millis(70));
//! let cluster = Cluster::new(ShardMap::pg_hash(2), shards, hedge);
//! let balances = ReadThrough::new(MemoryCache::new(10_000), move |user: i64| {
//!     // Ask your database here.
//!     cluster.read(user, move |_replica| async move { Ok::<_, std::io::Error>(user * 100) })
//! });
//! assert_eq!(balances.get(&42).await?, 4_200);
//! balances.invalidate(&42).await; // After a write, before it is acknowledged.
//! # Ok(())
//! # }
//! ```
//!
//! # Terms
//!
//! | word | meaning |
//! |---|---|
//! | flight, leader, follower | one running load for a key; who started it; who joined it |
//! | lease | the right to fill one cache key, handed out by a miss, revoked by an invalidation |
//! | attempt, winner, loser | one query to one replica; the one that answered; the others |
//! | reaper | who calls the losers back |
//! | replica, replica set | one server; the servers that hold the same rows |
//! | shard, cluster | a slice of the rows; all slices |
//! | leg, scatter, gather | one shard's part of a fan-out; sending it; collecting it |
//!
//! # Dropping is cancelling
//!
//! Each public `async fn` says under *Cancel safety* what dropping its future does. Time is read
//! and awaited only through `tokio::time`, so tests may pause the clock.

mod cache;
mod cluster;
mod err_group;
mod hedge;
pub mod observe;
mod position;
mod read_through;
mod replicas;
mod rt;
mod scatter;
mod singleflight;

pub use cache::{
    Cache, Cached, Fill, GetSet, GetSetCache, GetSetLease, Loaded, Lookup, MemoryCache,
    MemoryCacheBuilder, MemoryLease, MemoryWait, Sweep, Tag,
};
pub use cluster::{Cluster, ShardId, ShardKey, ShardMap};
pub use err_group::{ErrGroup, Group, GroupError, Stop, Task, TaskError, TaskFailure};
pub use hedge::{
    AttemptFailure, AttemptId, AttemptKind, Class, Classify, DropOnly, FailedAttempt, Hedge,
    HedgeError, HedgeErrorKind, HedgeLedger, Loser, Loss, OkWins, Reaper, first_ok,
};
pub use position::{Position, PositionError, WalPoint};
pub use read_through::{Answer, How, Read, ReadThrough, Why};
pub use replicas::ReplicaSet;
pub use scatter::{
    Gathered, LegError, LegFailure, LegLabel, Scatter, ScatterError, ScatterLedger, ScatterStats,
};
pub use singleflight::{
    AtLimit, Boarding, Call, FlightCx, FlightError, FlightId, FlightStats, FlightView, Idle, Join,
    Landed, Role, SingleFlight, SingleFlightBuilder, WhenStuck,
};

/// The README's example is a doctest too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So are the guide's.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/joins.md")]
struct Joins;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/moving.md")]
struct Moving;
