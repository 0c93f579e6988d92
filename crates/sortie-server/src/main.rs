//! A Postgres-protocol reader endpoint with coalescing, hedging and scatter-gather.

fn main() {}
