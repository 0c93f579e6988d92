//! The article's three patterns on three real PostgreSQL servers, with `tokio_postgres` clients out
//! of a pool.
//!
//! ```text
//! cargo run -p sortie-postgres --features deadpool-postgres --example article
//! … --example article -- distributed_query
//! … --example article -- distributed_query postgres://reader@127.0.0.1:PORT/sortie …
//! ```
//!
//! Without URLs each part starts three servers of its own and removes them. With the URLs of a
//! running `sortie lab`: the primary and the standbys of one shard for `get_user_balance` and
//! `distributed_query`, the primaries of all shards for `err_group`. The asserts at a scene's end
//! are the claims: the example fails when one of them does not hold.

mod distributed_query;
mod err_group;
mod get_user_balance;
mod servers;
#[path = "../../../sortie-sqlite/examples/stage/table.rs"]
mod table;

use std::env;

use servers::Servers;
use table::Fallible;

const PARTS: [&str; 3] = ["get_user_balance", "distributed_query", "err_group"];

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn main() -> Fallible {
    let mut arguments = env::args().skip(1);
    let part = arguments.next();
    let urls: Vec<String> = arguments.collect();
    if let Some(part) = part.as_deref().filter(|part| !PARTS.contains(part)) {
        return Err(format!("there is no part {part}: {}", PARTS.join(", ")).into());
    }
    for name in PARTS.into_iter().filter(|name| part.as_deref().is_none_or(|part| part == *name)) {
        println!("== {name}\n");
        match name {
            "get_user_balance" => {
                get_user_balance::run(&Servers::open(&urls, 1, 2).await?).await?;
            }
            "distributed_query" => {
                distributed_query::run(&Servers::open(&urls, 1, 2).await?).await?;
            }
            _ => err_group::run(&Servers::open(&urls, 3, 0).await?).await?,
        }
        println!();
    }
    Ok(())
}
