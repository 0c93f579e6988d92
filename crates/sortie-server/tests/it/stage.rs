//! sortie in front of PostgreSQL: a primary and a synchronous standby, and endpoints before them.

use std::fmt::Write;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use sortie_testkit::{Cluster, LabConfig, Server, differ, newest_postgres};
use tempfile::NamedTempFile;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::support::BINARY;

/// One primary and one standby with the differential tester's tables, for one test at a time.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

/// What an endpoint is told.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) mode: &'static str,
    pub(crate) pipe_target: &'static str,
    pub(crate) connections_max: u32,
    pub(crate) user: &'static str,
    /// Lines at the top of the file.
    pub(crate) top: &'static str,
    /// Further tables of the cluster.
    pub(crate) more: &'static str,
}

/// A server, and the file that it was started with.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) server: Server,
    _config: NamedTempFile,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mode: "share",
            pipe_target: "primary",
            connections_max: 20,
            user: "tester",
            top: "",
            more: "",
        }
    }
}

impl Stage {
    /// The stage that all tests of this binary share, when it is this one's turn: leave it as you
    /// found it.
    pub(crate) async fn take() -> Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        Self { cluster: SHARED.get_or_init(prepared).await.clone(), _turn: turn }
    }

    /// As [`Stage::take`], of the newest PostgreSQL.
    pub(crate) async fn take_newest() -> Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let newest = || prepared_with(Some(newest_postgres()));
        Self { cluster: SHARED.get_or_init(newest).await.clone(), _turn: turn }
    }

    pub(crate) fn primary(&self) -> SocketAddr {
        self.cluster.primary(0).address()
    }

    /// An endpoint in front of both servers.
    pub(crate) async fn endpoint(&self, setup: Setup) -> Endpoint {
        endpoint(self.primary(), &[self.cluster.standby(0, 0).address()], setup).await
    }
}

/// A primary and a standby, in database `postgres`, with the tester's tables and role.
pub(crate) async fn prepared() -> Cluster {
    prepared_with(None).await
}

/// With the programs of that folder, or those that are found.
async fn prepared_with(pg_bin: Option<PathBuf>) -> Cluster {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 1, false);
    config.pg_bin = pg_bin;
    let cluster = Cluster::private(config).await;
    for prepare in [differ::prepare(), differ::prepare_mixed()] {
        cluster.primary(0).script_in("postgres", prepare).await;
    }
    cluster
}

/// An endpoint in front of a primary and its standbys, which clients know as `postgres`.
pub(crate) async fn endpoint(
    primary: SocketAddr,
    standbys: &[SocketAddr],
    setup: Setup,
) -> Endpoint {
    let Setup { mode, pipe_target, connections_max, user, top, more } = setup;
    let url = |server: &SocketAddr| format!("\"postgres://{user}@{server}/postgres\"");
    let standbys: Vec<String> = standbys.iter().map(url).collect();
    let mut text = format!("auth = \"trust\"\n{top}\n");
    writeln!(text, "[clusters.postgres]\nmode = \"{mode}\"\npipe_target = \"{pipe_target}\"")
        .unwrap();
    writeln!(text, "[clusters.postgres.pool]\nconnections_max = {connections_max}").unwrap();
    writeln!(text, "{more}").unwrap();
    writeln!(text, "[[clusters.postgres.shards]]\nprimary = {}", url(&primary)).unwrap();
    writeln!(text, "replicas = [{}]", standbys.join(", ")).unwrap();
    let mut config = NamedTempFile::new().unwrap();
    config.write_all(text.as_bytes()).unwrap();
    let path = config.path().display().to_string();
    Endpoint { server: Server::start(BINARY, &["-c", &path]).await, _config: config }
}

impl Endpoint {
    pub(crate) fn listen(&self) -> SocketAddr {
        self.server.listen()
    }

    /// Insists on a clean end, with nothing under way before it.
    pub(crate) async fn stop(self) {
        self.server.abandoned().await;
        self.server.stop().await;
    }
}
