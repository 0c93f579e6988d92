//! What Rust applications do on one server, through tokio-postgres, sqlx and diesel; prints what
//! came back.
//!
//! Usage: `rust-clients PORT`, or `rust-clients PORT login USER PASSWORD` to see whether that is
//! let in, `rust-clients PORT reads LIBRARY` for point reads alone, as the library comes, or
//! `rust-clients PORT herd DRIVER FOLDER`, which is what `herd.py` is.
//!
//! The tests run it against PostgreSQL and against sortie in front of the same server: both must
//! print the same. It leaves the tables as it found them.

mod by_diesel;
mod by_sqlx;
mod by_tokio_postgres;
mod herd;

use std::error::Error;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// The rows that point reads ask for.
const READS: RangeInclusive<i32> = 1..=20;

type Done<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port: u16 = arguments.first().ok_or("usage: rust-clients PORT")?.parse()?;
    match &arguments[1..] {
        [] => {
            by_tokio_postgres::run(port).await?;
            by_sqlx::run(port).await?;
            by_diesel::run(port)
        }
        [login, user, password] if login == "login" => {
            println!("{}", by_tokio_postgres::log_in(port, user, password).await?);
            println!("{}", by_sqlx::log_in(port, user, password).await?);
            Ok(())
        }
        [reads, library] if reads == "reads" => match library.as_str() {
            "tokio-postgres" => by_tokio_postgres::point_reads(port).await,
            "sqlx" => by_sqlx::point_reads(port).await,
            "diesel" => by_diesel::point_reads(port),
            _ => Err("which library?".into()),
        },
        [herd, driver, folder] if herd == "herd" => herd::run(port, driver, folder.as_ref()).await,
        other => Err(format!("what is {other:?}?").into()),
    }
}

fn show(title: &str, value: impl Debug) {
    println!("{title}: {value:?}");
}
