//! What Rust applications do on one server, through tokio-postgres and sqlx; prints what came
//! back.
//!
//! Usage: `rust-clients PORT`, or `rust-clients PORT login USER PASSWORD` to see whether that is
//! let in.
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port: u16 = arguments.first().ok_or("usage: rust-clients PORT")?.parse()?;
    if let [_port, _login, user, password] = &arguments[..] {
        println!("{}", by_tokio_postgres::log_in(port, user, password).await?);
        println!("{}", by_sqlx::log_in(port, user, password).await?);
        return Ok(());
    }
    by_tokio_postgres::run(port).await?;
    by_sqlx::run(port).await
}

fn show(title: &str, value: impl Debug) {
    println!("{title}: {value:?}");
}
