//! A Postgres-protocol reader endpoint with coalescing, hedging and scatter-gather.

#[expect(dead_code, clippy::unused_async, reason = "the session that uses it follows")]
mod read;
#[expect(
    dead_code,
    unused_imports,
    clippy::unnecessary_wraps,
    reason = "the session that uses it follows"
)]
mod sql;

fn main() {}
