//! What sortie's end-to-end tests share: a server under test, real PostgreSQL servers and clusters,
//! a proxy with every fault of a network, a client that speaks raw frames, and the programs that
//! real users come with.
//!
//! Everything listens on loopback, on ports nobody else asked for, keeps its files in a temporary
//! folder, and is stopped and removed when its handle is dropped, also by a test that fails.
//!
//! A test kit fails by panicking, with what the other side said: nothing here returns an error.

#![expect(clippy::missing_panics_doc, reason = "everything in a test kit panics when it fails")]

mod batch;
mod cluster;
pub mod differ;
mod metrics;
mod node;
mod ports;
mod postgres;
mod process;
mod proxy;
mod redis;
mod server;
mod tools;
mod wire;

pub use batch::Batch;
pub use cluster::{Cluster, cluster, newest_cluster, newest_postgres};
pub use metrics::Metrics;
pub use node::Node;
pub use ports::free_port;
pub use postgres::Postgres;
pub use proxy::{Counts, FaultProxy, Flow, Injection, Way};
pub use redis::{Redis, RedisCluster};
pub use server::{Server, Stopped};
pub use sortie_lab::LabConfig;
pub use tools::{Ran, node, program, python, run, workspace};
pub use wire::{Frame, Report, Wire};
