//! How far a standby has replayed.

mod lsn;

pub use lsn::{Lsn, LsnError};
