//! What Rust applications do on one server, through tokio-postgres and sqlx; prints what came
//! back.
//!
//! Usage: `rust-clients PORT`
//!
//! The tests run it against PostgreSQL and against sortie in front of the same server: both must
//! print the same. It leaves the tables as it found them.

mod by_sqlx;
mod by_tokio_postgres;

use std::error::Error;
use std::fmt::Debug;

type Done<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let port: u16 = std::env::args().nth(1).ok_or("usage: rust-clients PORT")?.parse()?;
    by_tokio_postgres::run(port).await?;
    by_sqlx::run(port).await
}

fn show(title: &str, value: impl Debug) {
    println!("{title}: {value:?}");
}
