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
mod position;
mod read_through;
mod replicas;
mod rt;
mod scatter;
mod singleflight;

pub use cache::{
    Cache, Cached, Fill, Loaded, Lookup, MemoryCache, MemoryCacheBuilder, MemoryLease, MemoryWait,
};
pub use cluster::{Cluster, ShardId, ShardKey, ShardMap};
pub use err_group::{ErrGroup, Group, GroupError, Stop, Task, TaskError, TaskFailure};
pub use hedge::{
    AttemptFailure, AttemptId, AttemptKind, Class, Classify, DropOnly, FailedAttempt, Hedge,
    HedgeError, HedgeErrorKind, HedgeLedger, Loser, Loss, OkWins, Reaper, first_ok,
};
pub use position::{Position, PositionError, WalPoint};
pub use read_through::ReadThrough;
pub use replicas::ReplicaSet;
pub use scatter::{
    Gathered, LegError, LegFailure, LegLabel, Scatter, ScatterError, ScatterLedger, ScatterStats,
};
pub use singleflight::{
    AtLimit, Call, FlightCx, FlightError, FlightStats, Idle, Join, Landed, Role, SingleFlight,
    SingleFlightBuilder, WhenStuck,
};

/// The README's example is a doctest too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
