//! Pools and the reaper, on a real PostgreSQL.

mod cancels;
mod checkout;
mod checks;
mod kills;
mod leftovers;
mod resting;
mod runtimes;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sortie_postgres::{
    Body, ExchangeError, Frontend, Login, PoolConfig, PoolError, PoolStats, Pooled, Request, Server,
};
use sortie_testkit::Postgres;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::server::info;

/// More than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn config(size_max: u32) -> PoolConfig {
    let mut config = PoolConfig::default();
    config.size_max = size_max;
    config
}

/// A database of the test's own, on a server that tests here share.
struct Place {
    postgres: &'static Postgres,
    login: Login,
}

async fn place() -> Place {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    place_on(SHARED.get_or_init(Postgres::start).await).await
}

/// As [`place`], on the newest PostgreSQL.
async fn newest_place() -> Place {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    place_on(SHARED.get_or_init(Postgres::start_newest).await).await
}

async fn place_on(postgres: &'static Postgres) -> Place {
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let database = format!("place_{}", PLACES.fetch_add(1, Relaxed));
    postgres.script(&format!("CREATE DATABASE {database} TEMPLATE template0;")).await;
    Place { postgres, login: Login::new("postgres", database) }
}

impl Place {
    /// Pools of the server.
    fn server(&self, config: PoolConfig) -> Server {
        Server::new(info(self.postgres), config)
    }

    async fn checkout(&self, server: &Server) -> Result<Pooled, PoolError> {
        server.checkout(&self.login, None, Instant::now() + LONG).await
    }

    /// Runs a statement, away from all pools.
    async fn run(&self, text: &'static str) {
        let mut aside = self.checkout(&self.server(config(1))).await.unwrap();
        aside.exchange(query(text)).await.unwrap();
    }
}

fn query(text: impl Into<Bytes>) -> Request {
    let mut frames = BytesMut::new();
    Frontend::Query { text: text.into() }.encode(&mut frames);
    Request::new(frames)
}

/// The first value of the first row.
async fn value(on: &mut Pooled, text: impl Into<Bytes>) -> Result<String, ExchangeError> {
    let reply = on.exchange(query(text)).await?;
    let Body::Whole(rows) = reply.body else { panic!("it is short") };
    // Header, number of columns, length.
    Ok(rows.get(11..).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default())
}

/// Waits until nothing is under way any more.
async fn settled(server: &Server) -> PoolStats {
    let end = Instant::now() + LONG;
    loop {
        let stats = server.stats();
        if stats.in_use + stats.connecting + stats.waiting + stats.quarantined == 0 {
            return stats;
        }
        assert!(Instant::now() < end, "{stats:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
