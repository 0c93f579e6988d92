//! A cache for [`sortie`] that many processes share, on Redis. Valkey speaks the same, and is not
//! tested.
//!
//! [`RedisCache`] is a [`Cache`](sortie::Cache) with the same rule as the one in memory: a value is
//! stored under a *lease*, and an invalidation revokes it. Here the lease is one for all processes,
//! so a cold key is loaded once, whoever asks for it.
//!
//! # Invariants
//!
//! 1. When `invalidate` has returned and Redis was there, no look-up in Redis, by any process,
//!    gives a value whose lease was handed out before it was called.
//! 2. A copy in a process's memory is outdated at once by that process's invalidations, and by
//!    those of others within [`local_bound`](RedisCacheBuilder::local_bound).
//! 3. While an invalidation could not be delivered, this process reads nothing from Redis that it
//!    concerns; afterwards rule 1 holds.
//! 4. No step waits for Redis longer than [`timeout`](RedisCacheBuilder::timeout), and a failing
//!    Redis never makes a read fail.

mod builder;
mod cache;
mod codec;
mod lease;
mod link;
mod local;
mod names;
mod notices;
mod owed;
mod position;
mod settings;
mod shared;
mod steps;
mod waits;

pub use builder::{AddressError, RedisCacheBuilder};
pub use cache::{RedisCache, RedisStats};
pub use codec::Codec;
pub use lease::{RedisLease, RedisWait};
