//! The read path for replicated, sharded databases: single flight, hedged reads, scatter-gather.

mod scatter;

pub use scatter::{
    Gathered, LegError, LegFailure, Scatter, ScatterError, ScatterLedger, ScatterStats,
};
