//! An embedded cluster: shards and replicas as SQLite files, with trouble on request.
//!
//! It is the zero-install default of `sortie serve --embedded` and the fast test bed of the
//! workspace, not a product: one read-only table, `users(user_id, name, balance)`, whose rows
//! follow from their ids ([`name`], [`balance`]) and whose place follows from PostgreSQL's hash
//! partitioning ([`sortie::ShardMap`]).
//!
//! SQLite copies are not synchronous replicas: they never change, so none is ever behind. What
//! they do have is a bounded pool of workers, a bounded queue in front of it, cancellation, and
//! the laws of [`Trouble`]: replicas that are slow, that stall, that fail.
//!
//! # Terms
//!
//! An *attempt* is one query to one replica. A *slot* is the right to run one attempt on a
//! replica; a replica has as many slots as workers.
//!
//! # Examples
//!
//! ```
//! use sortie_sqlite::{Embedded, EmbeddedConfig, Value};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sortie_sqlite::Error> {
//! let mut config = EmbeddedConfig::default();
//! config.rows = 1_000;
//! config.trouble = "0.1=fixed:20ms".parse::<sortie_sqlite::Latency>()?.into();
//! let embedded = Embedded::create(&config)?;
//!
//! let replica = embedded.shards()[0][0].clone();
//! let rows = replica.query("SELECT count(*) FROM users".into(), [].into()).await?;
//! assert!(matches!(rows.rows[0][0], Value::Int(1..1_000)));
//! # Ok(())
//! # }
//! ```

mod data;
mod embedded;
mod error;
mod oracle;
mod replica;
mod trouble;
mod value;
mod worker;

pub use data::{balance, name};
pub use embedded::{Embedded, EmbeddedConfig};
pub use error::Error;
pub use oracle::Oracle;
pub use replica::{Replica, ReplicaStats};
pub use trouble::{Address, Latency, Law, Trouble};
pub use value::{Rows, Value};
