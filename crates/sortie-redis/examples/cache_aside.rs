//! The article's `GetUserBalance` on a real cluster, with a cache in each process, Redis behind
//! it, a writer that invalidates, and a standby that stands still.
//!
//! ```text
//! cargo run -p sortie-redis --example cache_aside
//! ```
//!
//! It needs PostgreSQL's programs and `redis-server`; it starts a primary with two standbys and a
//! Redis of its own, and removes them. The asserts are the claims: the example fails when one of
//! them does not hold.

use std::error::Error as StdError;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sortie::{How, Loaded, Position, Read, ReadThrough, ShardId, Tag, WalPoint};
use sortie_lab::{Lab, LabConfig};
use sortie_redis::{Codec, RedisCache};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

type Fallible<T = ()> = Result<T, Box<dyn StdError + Send + Sync>>;
type Balances = ReadThrough<i64, i64, tokio_postgres::Error, RedisCache<i64, i64>>;

const USER: i64 = 42;
const USERS: Tag = Tag::named("users");

/// Keys and balances as bytes, for Redis.
struct Wire;

impl Codec<i64, i64> for Wire {
    fn key(&self, user: &i64) -> Vec<u8> {
        user.to_be_bytes().to_vec()
    }

    fn encode(&self, balance: &i64) -> Vec<u8> {
        balance.to_be_bytes().to_vec()
    }

    fn decode(&self, bytes: &[u8]) -> Option<i64> {
        Some(i64::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// The shard's standbys, asked in turn; how far each answer goes is asked first.
#[derive(Clone)]
struct Database {
    standbys: Arc<[Client]>,
    queries: Arc<AtomicUsize>,
    history: WalPoint,
}

impl Database {
    async fn balance(&self, user: i64) -> Result<Loaded<i64>, tokio_postgres::Error> {
        let balance = "SELECT user_id, balance FROM users, pg_sleep(0.05) WHERE user_id = $1";
        let (as_of, rows) = self.ask(balance, &user).await?;
        Ok(Loaded::at(rows[0].get(1), as_of).tagged(USERS))
    }

    async fn balances(
        &self,
        users: Vec<i64>,
    ) -> Result<Vec<(i64, Loaded<i64>)>, tokio_postgres::Error> {
        let balances = "SELECT user_id, balance FROM users WHERE user_id = ANY($1)";
        let (as_of, rows) = self.ask(balances, &users).await?;
        let loaded = |row: &Row| Loaded::at(row.get(1), as_of.clone()).tagged(USERS);
        Ok(rows.iter().map(|row| (row.get(0), loaded(row))).collect())
    }

    async fn ask(
        &self,
        query: &str,
        parameter: &(dyn ToSql + Sync),
    ) -> Result<(Position, Vec<Row>), tokio_postgres::Error> {
        let number = self.queries.fetch_add(1, Relaxed);
        let standby = &self.standbys[number % self.standbys.len()];
        let replayed = "SELECT (pg_last_wal_replay_lsn() - '0/0')::int8";
        let parameters = [parameter];
        // Sent at once and run in this order: the position is no later than the balances.
        let (as_of, rows) =
            tokio::try_join!(standby.query_one(replayed, &[]), standby.query(query, &parameters))?;
        Ok((self.at(as_of.get(0)), rows))
    }

    fn at(&self, lsn: i64) -> Position {
        let lsn = u64::try_from(lsn).unwrap_or_default();
        Position::of([(ShardId::new(0), WalPoint { lsn, ..self.history })])
    }
}

/// Writes where writes are made, and then invalidates: after the commit, before it is told.
async fn set_balance(
    primary: &Client,
    database: &Database,
    balances: &Balances,
    balance: i64,
) -> Fallible {
    let write = "UPDATE users SET balance = $1 WHERE user_id = $2";
    primary.execute(write, &[&balance, &USER]).await?;
    let lsn = primary.query_one("SELECT (pg_current_wal_lsn() - '0/0')::int8", &[]).await?;
    balances.invalidate_at(&USER, &database.at(lsn.get(0))).await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn main() -> Fallible {
    let redis = OwnRedis::start()?;
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.rows) = (1, 2, 100);
    let lab = tokio::task::spawn_blocking(move || Lab::start(&config, |_step| {})).await??;
    let shard = &lab.shards()[0];
    shard.primary().require(&[])?; // Its commits wait for nobody: standbys may lag.
    let mut driven = JoinSet::new();
    let primary = connect(shard.primary().address().port(), "postgres", &mut driven).await?;
    let mut standbys = Vec::new();
    for standby in shard.standbys() {
        standbys.push(connect(standby.address().port(), "reader", &mut driven).await?);
    }
    let database = Database {
        standbys: standbys.into(),
        queries: Arc::default(),
        history: history(&primary).await?,
    };

    // Two processes of the service: they share nothing but Redis and the database.
    let (here, there) = (redis.service(&database).await?, redis.service(&database).await?);
    herd(&here, &there, &database).await?;
    many(&here, &database).await?;

    println!("\na standby stands still, and the balance becomes 1,000:");
    shard.standbys()[0].pause_replay()?;
    set_balance(&primary, &database, &here, 1_000).await?;
    let mut kept = Vec::new();
    for _ in 0..6 {
        let answer = here.get_with(&USER, Read::new()).await?;
        println!("  {:?}: {}", answer.how, answer.value);
        if answer.how == How::Hit {
            kept.push(answer.value);
        }
    }
    assert!(!kept.is_empty() && kept.iter().all(|balance| *balance == 1_000), "{kept:?}");
    sleep(Duration::from_secs(1)).await; // The bound for copies in the other process's memory.
    assert_eq!(there.get(&USER).await?, 1_000, "the other process reads it from Redis");

    println!("\nall users change: one invalidation by their tag");
    shard.standbys()[0].resume_replay()?;
    primary.execute("UPDATE users SET balance = 7", &[]).await?;
    let lsn = primary.query_one("SELECT (pg_current_wal_lsn() - '0/0')::int8", &[]).await?;
    here.invalidate_tag(USERS, Some(&database.at(lsn.get(0)))).await;
    while here.get_with(&USER, Read::new()).await?.how != How::Hit {}
    assert_eq!(here.get(&USER).await?, 7);
    println!("  {} queries in all", database.queries.load(Relaxed));
    Ok(())
}

/// Two processes, 200 callers each, and one query.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn herd(here: &Balances, there: &Balances, database: &Database) -> Fallible {
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    for caller in 0..400 {
        let balances = if caller % 2 == 0 { here.clone() } else { there.clone() };
        callers.spawn(async move { balances.get_with(&USER, Read::new()).await });
    }
    let (mut loaded, mut others) = (0, 0);
    for answer in callers.join_all().await {
        match answer?.how {
            How::Loaded => loaded += 1,
            _ => others += 1,
        }
    }
    let queries = database.queries.load(Relaxed);
    println!("400 callers in two processes: {queries} query, {:?}", began.elapsed());
    println!("  {loaded} led a flight of its process, {others} shared one");
    assert_eq!(queries, 1, "the other process waited for the lease");
    let before = Instant::now();
    assert_eq!(here.get_with(&USER, Read::new()).await?.how, How::Hit);
    println!("  and now it is a hit: {:?}", before.elapsed());
    Ok(())
}

/// Ten users, none older than a minute: what is not in the cache is one query.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn many(here: &Balances, database: &Database) -> Fallible {
    let before = database.queries.load(Relaxed);
    let young = Read::new().max_age(Duration::from_secs(60));
    let mut hits = 0;
    for answer in here.get_many_with(USER..USER + 10, young).await {
        hits += usize::from(answer?.how == How::Hit);
    }
    let queries = database.queries.load(Relaxed) - before;
    println!("\nten users at once: {hits} hit, {queries} query for the others");
    assert_eq!((hits, queries), (1, 1));
    Ok(())
}

/// Which history the positions belong to.
async fn history(primary: &Client) -> Fallible<WalPoint> {
    let row = primary
        .query_one(
            "SELECT s.system_identifier, c.timeline_id \
             FROM pg_control_system() s, pg_control_checkpoint() c",
            &[],
        )
        .await?;
    let (system, timeline): (i64, i32) = (row.get(0), row.get(1));
    let timeline = u32::try_from(timeline)?;
    Ok(WalPoint { system: system.cast_unsigned(), timeline, lsn: 0 })
}

async fn connect(port: u16, user: &str, driven: &mut JoinSet<()>) -> Fallible<Client> {
    let url = format!("host=127.0.0.1 port={port} user={user} dbname=sortie");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    driven.spawn(async move { drop(connection.await) });
    Ok(client)
}

/// A Redis server that ends with the example.
struct OwnRedis {
    process: Child,
    url: String,
}

impl OwnRedis {
    fn start() -> Fallible<Self> {
        let port = sortie_lab::free_port().ok_or("no free port")?.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().map_err(|error| format!("redis-server: {error}"))?;
        Ok(Self { process, url: format!("redis://127.0.0.1:{port}/") })
    }

    /// One process's read path: its memory over Redis over the database.
    async fn service(&self, database: &Database) -> Fallible<Balances> {
        let cache = RedisCache::builder("balances", Wire)
            .soft_ttl(Duration::from_secs(60))
            .hard_ttl(Duration::from_secs(600))
            .timeout(Duration::from_secs(1))
            .local_max(10_000)
            .open(&self.url)?;
        let end = Instant::now() + Duration::from_secs(20);
        while !cache.is_there() {
            if Instant::now() > end {
                return Err("Redis does not start".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let (one, many) = (database.clone(), database.clone());
        let load = move |user| {
            let database = one.clone();
            async move { database.balance(user).await }
        };
        let load_many = move |users| {
            let database = many.clone();
            async move { database.balances(users).await }
        };
        let balances = ReadThrough::positioned(cache, load).batched(load_many);
        Ok(balances.stale_if_error(Duration::from_secs(3_600)))
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
