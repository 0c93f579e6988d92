//! Real standbys, one of which stands still: what is read from it after a write is served, if at
//! all, and not kept.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sortie::{Cache, How, Loaded, MemoryCache, Position, Read, ReadThrough, ShardId, WalPoint};
use sortie_postgres::{
    Bind, Body, ConnInfo, Frontend, Login, PoolConfig, ReplaySampler, Reply, Request, Server,
    Target,
};
use sortie_testkit::{Cluster, LabConfig, Redis};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{PATIENCE, settings, until};

const SHARD: ShardId = ShardId::new(0);
/// As many as there are places in [`Bank::done`].
const USERS: u64 = 8;

/// A primary, its standbys, and the history that they share.
#[derive(Clone)]
struct Bank {
    primary: Server,
    standbys: [Server; 2],
    history: WalPoint,
    /// What was written and invalidated.
    done: Arc<[AtomicU64; 8]>,
    turn: Arc<AtomicUsize>,
    next: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Tally {
    hits: AtomicUsize,
    stale: AtomicUsize,
    old: AtomicUsize,
}

impl Bank {
    async fn open(cluster: &Cluster) -> Self {
        let server = |address: std::net::SocketAddr, user| {
            let url = format!("postgres://{user}@{address}/sortie");
            let info: ConnInfo = url.parse().expect("a URL of the test kit");
            Server::new(info, PoolConfig::default())
        };
        let standby = |at| server(cluster.standby(0, at).address(), "reader");
        let standbys = [standby(0), standby(1)];
        let primary = server(cluster.primary(0).address(), "postgres");
        let login = Login::of(standbys[1].info());
        let watch = ReplaySampler::new(standbys[1].clone(), login).watch();
        until("the sampler knows", || watch.last().is_some()).await;
        let history = watch.last().expect("it knows").point;
        let (done, turn, next) = (Arc::default(), Arc::default(), Arc::default());
        Self { primary, standbys, history, done, turn, next }
    }

    fn done_of(&self, user: u64) -> &AtomicU64 {
        &self.done[usize::try_from(user).expect("few users")]
    }

    fn at(&self, lsn: u64) -> Position {
        Position::of([(SHARD, WalPoint { lsn, ..self.history })])
    }

    /// From one standby and the other in turn.
    async fn load(&self, user: u64) -> io::Result<Loaded<u64>> {
        let standby = &self.standbys[self.turn.fetch_add(1, SeqCst) % 2];
        let sql = format!("SELECT balance FROM users WHERE user_id = {}", user + 1);
        let reply = ask(standby, sql, true).await?;
        let as_of = reply.as_of.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Loaded::at(number(&reply)?, self.at(as_of)))
    }

    /// Writes and says where in the history that is.
    async fn write(&self, user: u64, balance: u64) -> io::Result<Position> {
        let id = user + 1;
        let sql = format!("UPDATE users SET balance = {balance} WHERE user_id = {id}");
        ask(&self.primary, sql, false).await?;
        let lsn = ask(&self.primary, "SELECT pg_current_wal_lsn() - '0/0'".into(), false).await?;
        Ok(self.at(number(&lsn)?))
    }
}

async fn ask(server: &Server, sql: String, fence: bool) -> io::Result<Reply> {
    let login = Login::of(server.info());
    let mut connection =
        server.checkout(&login, None, Instant::now() + PATIENCE).await.map_err(io::Error::other)?;
    let request = Request::new(extended(sql));
    let request = if fence { request.fenced() } else { request };
    connection.exchange(request).await.map_err(io::Error::other)
}

fn extended(sql: String) -> Bytes {
    let none = Bytes::new();
    let bind = Bind {
        portal: none.clone(),
        statement: none.clone(),
        formats: vec![],
        values: vec![],
        result_formats: vec![],
    };
    let mut frames = BytesMut::new();
    for frame in [
        Frontend::Parse { statement: none.clone(), text: Bytes::from(sql), oids: vec![] },
        Frontend::Bind(bind),
        Frontend::Describe { target: Target::Portal, name: none.clone() },
        Frontend::Execute { portal: none, rows_max: 0 },
        Frontend::Sync,
    ] {
        frame.encode(&mut frames);
    }
    frames.freeze()
}

/// The one value of the one row: behind its type, length, number of columns and own length.
fn number(reply: &Reply) -> io::Result<u64> {
    let Body::Whole(row) = &reply.body else { return Err(io::ErrorKind::InvalidData.into()) };
    let text = row.get(11..).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads and writes until there were so many hits, and counts those that were older than a write
/// whose invalidation had returned before.
async fn run<C>(bank: &Bank, cache: C, hits: usize, with_position: bool) -> Tally
where
    C: Cache<u64, u64> + 'static,
{
    let loads = bank.clone();
    let load = move |user| {
        let bank = loads.clone();
        async move { bank.load(user).await }
    };
    let through = ReadThrough::positioned(cache, load);
    let write = async |user: u64| {
        let balance = bank.next.fetch_add(1, SeqCst) + 1;
        let position = bank.write(user, balance).await.expect("the primary writes");
        if with_position {
            through.invalidate_at(&user, &position).await;
        } else {
            through.invalidate(&user).await;
        }
        bank.done_of(user).store(balance, SeqCst);
    };
    // This cache knows of no write before it was made.
    for user in 0..USERS {
        write(user).await;
    }
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for _reader in 0..4 {
        let (bank, through, tally) = (bank.clone(), through.clone(), Arc::clone(&tally));
        let stop = Arc::clone(&stop);
        tasks.spawn(async move {
            let begun = Instant::now();
            while tally.hits.load(SeqCst) < hits && begun.elapsed() < PATIENCE * 15 {
                for user in 0..USERS {
                    let least = bank.done_of(user).load(SeqCst);
                    let answer = through.get_with(&user, Read::new()).await.expect("a balance");
                    let hit = answer.how == How::Hit;
                    tally.hits.fetch_add(usize::from(hit), SeqCst);
                    let old = answer.value < least;
                    tally.stale.fetch_add(usize::from(hit && old), SeqCst);
                    tally.old.fetch_add(usize::from(!hit && old), SeqCst);
                }
                tokio::task::yield_now().await;
            }
            stop.store(true, SeqCst);
        });
    }
    while !stop.load(SeqCst) {
        write(fastrand::u64(..USERS)).await;
        sleep(Duration::from_millis(5)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no reader panics");
    }
    Arc::into_inner(tally).expect("all readers have ended")
}

/// `SORTIE_FRESH_OPERATIONS` makes them more.
fn hits_of_redis() -> usize {
    let hits = std::env::var("SORTIE_FRESH_OPERATIONS");
    hits.map_or(100_000, |hits| hits.parse().expect("a number of hits"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hit_is_older_than_a_write_while_a_standby_stands_still() {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.rows) = (1, 2, 100);
    let cluster = Cluster::private(config).await;
    cluster.primary(0).require(&[]).await; // Nobody waits for a standby then.
    cluster.primary(0).script("UPDATE users SET balance = 0").await;
    let bank = Bank::open(&cluster).await;
    sleep(Duration::from_millis(500)).await; // Both have seen the zeros.
    cluster.standby(0, 0).pause_replay().await;
    let hits = 1_000_000;

    let tally = run(&bank, MemoryCache::new(1_000), hits, true).await;
    eprintln!("in memory: {tally:?}");
    assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
    assert!(tally.hits.load(SeqCst) >= hits && tally.old.load(SeqCst) > 0, "{tally:?}");

    let redis = Redis::start().await;
    let cache = settings("lagging").local_max(1_000).open(&redis.url()).expect("an address");
    until("it is connected", || cache.is_there()).await;
    let shared = hits_of_redis();
    let tally = run(&bank, cache, shared, true).await;
    eprintln!("in Redis and memory: {tally:?}");
    assert_eq!(tally.stale.load(SeqCst), 0, "{tally:?}");
    assert!(tally.hits.load(SeqCst) >= shared && tally.old.load(SeqCst) > 0, "{tally:?}");

    // Without the position the same reads show what it is for.
    let tally = run(&bank, MemoryCache::new(1_000), hits / 10, false).await;
    assert!(tally.stale.load(SeqCst) > 0, "{tally:?}");
}
