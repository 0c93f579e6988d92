//! The read path for replicated, sharded databases: single flight, hedged reads, scatter-gather.
