//! Real PostgreSQL servers for the examples, and pools of `tokio_postgres` clients of them.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, Object, Pool, PoolError};
use sortie_lab::{Lab, LabConfig};
use sortie_postgres::clients::{Recall, RecallStats};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Config, NoTls};

use crate::table::Fallible;

const CLIENTS_MAX: usize = 40;

/// The servers of one example: those named on the command line, or a lab of its own.
pub(crate) struct Servers {
    pub(crate) all: Vec<Server>,
    _lab: Option<Lab>,
}

/// One server: a pool of clients, and who calls their queries back.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: Arc<str>,
    pub(crate) pool: Pool,
    pub(crate) recall: Recall,
    config: Config,
}

impl Servers {
    /// The servers with these URLs; without any, three new ones: `shards` times a primary and
    /// `replicas` synchronous standbys.
    pub(crate) async fn open(urls: &[String], shards: u32, replicas: u32) -> Fallible<Self> {
        if !urls.is_empty() {
            let named =
                urls.iter().enumerate().map(|(at, url)| (format!("server {at}"), url.parse()));
            let all =
                named.map(|(name, config)| Server::new(&name, config?)).collect::<Fallible<_>>();
            return Ok(Self { all: all?, _lab: None });
        }
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.rows) = (shards, replicas, 1_000);
        let lab = tokio::task::spawn_blocking(move || Lab::start(&config, |_step| {})).await??;
        let all = lab.servers().map(|server| {
            let mut config = Config::new();
            config.host("127.0.0.1").port(server.address().port()).user("reader").dbname("sortie");
            Server::new(server.name(), config)
        });
        Ok(Self { all: all.collect::<Fallible<_>>()?, _lab: Some(lab) })
    }

    /// Queries of the examples that the servers are running now.
    pub(crate) async fn running(&self) -> Fallible<i64> {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                     AND application_name = 'article' AND pid <> pg_backend_pid()";
        let mut running = 0;
        for server in &self.all {
            running += server.client().await?.query_one(query, &[]).await?.get::<_, i64>(0);
        }
        Ok(running)
    }

    /// Waits until losers had the time to stop, and says how many have not.
    pub(crate) async fn left_running(&self) -> Fallible<i64> {
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end && self.running().await? > 0 {
            sleep(Duration::from_millis(20)).await;
        }
        self.running().await
    }

    /// Waits until nothing runs: the plain rules leave queries behind.
    pub(crate) async fn idle(&self) -> Fallible {
        while self.running().await? > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Queries that were called back so far, of all servers.
    pub(crate) fn called_back(&self) -> u64 {
        self.all
            .iter()
            .map(|server| server.recall.stats())
            .map(|RecallStats { called_back, .. }| called_back)
            .sum()
    }
}

impl Server {
    /// The same server, asked for a database that it does not have: it fails at once.
    pub(crate) fn broken(&self) -> Fallible<Self> {
        let mut config = self.config.clone();
        config.dbname("no_such_database");
        Self::new(&self.name, config)
    }

    /// A client of the pool.
    pub(crate) async fn client(&self) -> Result<Object, tokio_postgres::Error> {
        match self.pool.get().await {
            Ok(client) => Ok(client),
            Err(PoolError::Backend(error)) => Err(error),
            Err(other) => panic!("the pool waits for ever and is never closed: {other}"),
        }
    }

    fn new(name: &str, mut config: Config) -> Fallible<Self> {
        config.application_name("article");
        let recall = Recall::new(&config)?;
        let manager = Manager::new(config.clone(), NoTls);
        let pool = Pool::builder(manager).max_size(CLIENTS_MAX).build()?;
        Ok(Self { name: name.into(), pool, recall, config })
    }
}
