//! The article's database of users: an embedded cluster that can also be written to.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection;
use sortie::{Cluster, Hedge, HedgeError, ReplicaSet, ShardMap};
use sortie_sqlite::{Embedded, EmbeddedConfig, Replica, Value};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::stage::{USERS, first_int, stats};

const BALANCE: &str = "SELECT balance FROM users WHERE user_id = ?1";
const DEPOSIT: &str = "UPDATE users SET balance = balance + 1 WHERE user_id = ?1";

/// Whose balance everybody asks for.
pub(crate) const USER: i64 = 42;

/// How long an answer is on its way once the row has been read. What is written meanwhile is not
/// in it, which is how a reader comes to see the past.
pub(crate) const WAY_HOME: Duration = Duration::from_millis(60);

/// Why a query failed.
pub(crate) type QueryError = HedgeError<sortie_sqlite::Error>;

/// A cluster in a directory of its own. Hedging is off: one scene, one rule.
pub(crate) struct Bank {
    embedded: Embedded,
    database: Database,
    // After the cluster: nobody reads a file when the directory goes.
    _home: TempDir,
}

/// What a loader needs: a cheap handle.
#[derive(Clone)]
pub(crate) struct Database {
    cluster: Cluster<Replica>,
    copies: Arc<[PathBuf]>,
    // What every read that begins now has to find.
    floor: Arc<AtomicI64>,
    // How many rows have been read, whether or not they are home.
    read: watch::Sender<u64>,
    // How many calls have been made.
    calls: watch::Sender<usize>,
    // Whether rows may come home.
    open: watch::Sender<bool>,
}

impl Bank {
    /// Opens a bank where everything works.
    pub(crate) fn open() -> Result<Self, Box<dyn Error>> {
        Self::with_latency(&[])
    }

    /// Opens a bank where the first query for [`USER`] hangs; the next one goes to another replica.
    pub(crate) fn where_the_first_query_hangs() -> Result<Self, Box<dyn Error>> {
        let shard = map().shard_of(USER);
        Self::with_latency(&[&format!("{shard}.0=fixed:1h")])
    }

    fn with_latency(laws: &[&str]) -> Result<Self, Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let mut config = EmbeddedConfig::default();
        config.data = Some(home.path().join("cluster"));
        config.rows = USERS;
        config.trouble.latency = laws.iter().map(|law| law.parse()).collect::<Result<_, _>>()?;
        let embedded = Embedded::create(&config)?;
        let shards = embedded.shards().iter().cloned().map(ReplicaSet::new);
        let shard = map().shard_of(USER);
        let copy = |replica| embedded.dir().join(format!("shard-{shard}-replica-{replica}.sqlite"));
        let copies = (0..config.replicas).map(copy).collect();
        let database = Database {
            cluster: Cluster::new(map(), shards, Hedge::off()),
            copies,
            floor: Arc::new(sortie_sqlite::balance(42).into()),
            read: watch::Sender::new(0),
            calls: watch::Sender::new(0),
            open: watch::Sender::new(true),
        };
        Ok(Self { embedded, database, _home: home })
    }

    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// How many queries reached SQLite.
    pub(crate) fn queries(&self) -> u64 {
        stats(&self.embedded).statements
    }
}

impl Database {
    /// Reads a balance from one replica, and takes its time to bring it home.
    pub(crate) async fn balance(self, user: i64) -> Result<i64, QueryError> {
        let ask = move |replica: Replica| replica.query(BALANCE.into(), [Value::Int(user)].into());
        let rows = self.cluster.read(user, ask).await?;
        self.read.send_modify(|rows| *rows += 1);
        sleep(WAY_HOME).await;
        until(self.open.subscribe(), |open| *open).await;
        Ok(first_int(&rows))
    }

    /// Adds one to the balance of [`USER`] in every copy, and returns when all of them have it.
    ///
    /// SQLite replicates nothing: the example writes the copies itself, one after another.
    pub(crate) async fn deposit(&self) -> rusqlite::Result<()> {
        let copies = Arc::clone(&self.copies);
        let write = move || {
            copies.iter().try_for_each(|copy| {
                let connection = Connection::open(copy)?;
                connection.execute_batch("PRAGMA synchronous = OFF")?;
                connection.execute(DEPOSIT, [USER]).map(drop)
            })
        };
        spawn_blocking(write).await.expect("the write does not panic")?;
        self.floor.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Counts a call, and returns the least balance that it may be answered with.
    pub(crate) fn call(&self) -> i64 {
        self.calls.send_modify(|calls| *calls += 1);
        self.floor.load(Relaxed)
    }

    /// Returns when so many calls have been made.
    pub(crate) async fn called(&self, times: usize) {
        until(self.calls.subscribe(), |calls| *calls >= times).await;
    }

    /// Returns when the next row has been read, counted from this call, and is on its way home.
    pub(crate) fn next_row(&self) -> impl Future<Output = ()> + use<> {
        let rows = self.read.subscribe();
        let seen = *rows.borrow();
        until(rows, move |rows| *rows > seen)
    }

    /// Keeps rows on their way home until [`release`](Self::release): the scene decides what
    /// happens meanwhile, not the machine.
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }
}

async fn until<T>(mut watched: watch::Receiver<T>, reached: impl FnMut(&T) -> bool) {
    let reached = watched.wait_for(reached).await;
    drop(reached.expect("who waits has a handle of the database, and so a sender"));
}

fn map() -> ShardMap {
    ShardMap::pg_hash(2)
}
