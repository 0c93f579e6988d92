//! A real PostgreSQL server: the oracle for what an answer should look like.

use std::net::SocketAddr;
use std::path::PathBuf;

use sortie_lab::LabConfig;

use crate::cluster::{Cluster, newest_postgres};
use crate::node::Node;

/// A throw-away server on a loopback port, without passwords, sample rows and durability.
#[derive(Debug)]
pub struct Postgres {
    node: Node,
}

impl Postgres {
    /// Makes a server and waits until it takes statements.
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// As [`start`](Self::start), the newest PostgreSQL that a wheel on `PyPI` carries.
    pub async fn start_newest() -> Self {
        Self::with(Some(newest_postgres())).await
    }

    async fn with(pg_bin: Option<PathBuf>) -> Self {
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.sample) = (1, 0, false);
        config.pg_bin = pg_bin;
        Self { node: Cluster::private(config).await.primary(0) }
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.node.address()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// Runs a script in psql, stops at its first error, and fails the test with it.
    pub async fn script(&self, sql: &str) {
        self.node.script_in("postgres", sql).await;
    }

    /// Stops it the fast way and waits for its end.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[tokio::test]
    async fn a_real_server_starts_answers_and_goes() {
        let postgres = Postgres::start().await;
        postgres.script("CREATE ROLE tester LOGIN; CREATE TABLE t AS SELECT 7 AS x;\n").await;
        let mut wire = Wire::connect(postgres.listen()).await;
        assert_eq!(wire.rows("SHOW server_encoding").await, [[Some("UTF8".to_owned())]]);
        assert_eq!(wire.refusal("SELECT x FROM t").await.sqlstate, "42501");
        let home = postgres.node.data();
        drop(wire);
        postgres.stop().await;
        assert!(!home.exists(), "its files are gone");
    }
}
