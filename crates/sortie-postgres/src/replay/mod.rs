//! How far a standby has replayed the write-ahead log.
//!
//! A *position* is a byte of the log ([`Lsn`]) on one branch of one history
//! ([`WalPoint`](sortie::WalPoint)). A standby is asked again and again while somebody watches it.

mod lsn;
mod sampler;

pub use lsn::{Lsn, LsnError};
pub use sampler::{ReplaySampler, ReplayWatch, Replayed};
