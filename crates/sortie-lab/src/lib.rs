//! A real PostgreSQL cluster for a demonstration or a test: `shards` times a primary and
//! `replicas` synchronous standbys, in a temporary folder, from the binaries on this machine.
//!
//! The sample table is the embedded cluster's, `users(user_id, name, balance)`, spread over the
//! shards as PostgreSQL's own hash partitioning would spread it. The standbys are stale-free:
//! `synchronous_commit = remote_apply`, and every one of them is named and required.
//!
//! Only processes and files: this crate speaks no protocol and needs nothing but the standard
//! library, `sh`, and PostgreSQL. Its calls block; asynchronous callers use a blocking thread.
//!
//! # Terms
//!
//! A *server* is one PostgreSQL instance: the *primary* of a shard or one of its *standbys*. Its
//! *family* is the postmaster and its child processes. The *keeper* is a small `sh` that outlives
//! this process just long enough to end what this process did not.
//!
//! # Invariants
//!
//! 1. Nothing outlives the [`Lab`]: when it is dropped, and also when its process is killed, every
//!    server ends and the folder is removed.
//! 2. Nothing listens beyond 127.0.0.1, and no server runs as root.
//! 3. A terminal's Ctrl-C reaches the owner alone: every process has a process group of its own.
//! 4. A row is on the shard that `satisfies_hash_partition` names.
//!
//! # Examples
//!
//! ```no_run
//! use sortie_lab::{Lab, LabConfig};
//!
//! let lab = Lab::start(&LabConfig::default(), |step| eprintln!("{step}"))?;
//! let primary = lab.shards()[0].primary();
//! println!("psql postgres://reader@{}/sortie", primary.address());
//! primary.script("sortie", "UPDATE users SET balance = 0 WHERE user_id = 42")?;
//! lab.shards()[0].standbys()[0].pause();
//! lab.stop()?;
//! # Ok::<(), sortie_lab::Error>(())
//! ```

mod account;
mod binaries;
mod clock;
mod config;
mod error;
mod job;
mod keeper;
mod lab;
mod ports;
mod sample;
mod server;
mod shard;
mod signal;
mod site;
mod step;

pub use binaries::Binaries;
pub use config::{Cancel, LabConfig};
pub use error::Error;
pub use lab::Lab;
pub use ports::free_port;
pub use server::Server;
pub use shard::Shard;
pub use step::Step;
