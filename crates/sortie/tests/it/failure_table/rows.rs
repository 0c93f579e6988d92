//! What goes wrong around a load that many wait for: one function for each row of the table.
//!
//! Every row is the same for everybody who can load a value once for many callers. `cargo xtask
//! peers` runs them for other crates, too, and prints the table.
//!
//! The clock is paused: "at 100 ms" is exact, and a caller that hangs costs no time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Got = Result<u64, Failure>;
/// Asks the database.
pub(crate) type Load = Arc<dyn Fn() -> BoxFuture<Got> + Send + Sync>;

/// The database's error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Whoever is looked at: something that loads the value of a key once for all who ask meanwhile.
pub(crate) trait Subject: Clone + Send + Sync + 'static {
    /// Whether it keeps values.
    const IS_CACHE: bool;

    fn new() -> Self;

    /// The value, from `load` if need be.
    fn get(&self, key: u64, load: Load) -> BoxFuture<Got>;

    /// After a write: the value of `key` is another one now. `None` if it can't be told.
    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>>;

    /// Stores the value of `key`. `None` if it can't.
    fn insert(&self, _key: u64, _value: u64) -> Option<BoxFuture<()>> {
        None
    }
}

/// What a row found, and whether a user would want it so; `None` where it does not apply.
pub(crate) type Found = Option<Cell>;
pub(crate) type Cell = (String, bool);

/// Nobody in these rows has a reason to wait for longer.
const HANG: Duration = Duration::from_secs(5);

/// How long a load takes.
const LOAD: Duration = Duration::from_millis(200);

const KEY: u64 = 7;

/// A database with one row, and a count of the queries to it.
#[derive(Clone, Default)]
struct Database {
    loads: Arc<AtomicUsize>,
    row: Arc<AtomicU64>,
}

impl Database {
    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }

    /// Reads the row when it begins, and has it `after` so long.
    fn load(&self, after: Duration) -> Load {
        let this = self.clone();
        Arc::new(move || {
            let this = this.clone();
            Box::pin(async move {
                this.loads.fetch_add(1, SeqCst);
                let value = this.row.load(SeqCst);
                sleep(after).await;
                Ok(value)
            })
        })
    }

    fn failing(&self, after: Duration, end: fn() -> Got) -> Load {
        let this = self.clone();
        Arc::new(move || {
            let loads = Arc::clone(&this.loads);
            Box::pin(async move {
                loads.fetch_add(1, SeqCst);
                sleep(after).await;
                end()
            })
        })
    }
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

fn loads(count: usize) -> String {
    format!("{count} load{}", if count == 1 { "" } else { "s" })
}

/// 100 callers at once: one load.
pub(crate) async fn herd<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let load = database.load(LOAD);
    join_all((0..100).map(|_| subject.get(KEY, Arc::clone(&load)))).await;
    Some((loads(database.loads()), database.loads() == 1))
}

/// The first caller is cancelled half-way: does its load go on for the others?
pub(crate) async fn leader_cancelled<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let load = database.load(LOAD);
    let mut leader = JoinSet::new();
    leader.spawn(subject.get(KEY, Arc::clone(&load)));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let waiter = async {
        sleep(LOAD / 2).await;
        leader.shutdown().await;
    };
    let got = timeout(HANG, subject.get(KEY, Arc::clone(&load)));
    let (got, ()) = futures_util::join!(got, waiter);
    let said = format!("{}, {} ms", loads(database.loads()), millis(began.elapsed()));
    Some((said, got.is_ok() && database.loads() == 1))
}

/// Ten callers one after the other, each with less patience than the load takes.
pub(crate) async fn short_patience<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let load = database.load(LOAD);
    let mut answered = 0;
    for _ in 0..10 {
        let got = timeout(LOAD * 3 / 10, subject.get(KEY, Arc::clone(&load))).await;
        answered += usize::from(matches!(got, Ok(Ok(_))));
    }
    Some((format!("{}, {answered} answers", loads(database.loads())), answered > 0))
}

/// Ten callers of a load that panics, and one more afterwards whose load does not.
pub(crate) async fn panics<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let load = database.failing(LOAD / 4, || panic!("a bug in the load"));
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let (subject, load) = (subject.clone(), Arc::clone(&load));
        callers.spawn(async move { timeout(HANG, subject.get(KEY, load)).await });
    }
    let (mut panicked, mut hung) = (0, 0);
    while let Some(ended) = callers.join_next().await {
        panicked += usize::from(ended.is_err());
        hung += usize::from(matches!(ended, Ok(Err(_))));
    }
    let ran = database.loads();
    let next = timeout(HANG, subject.get(KEY, database.load(LOAD)));
    let mut usable = JoinSet::new();
    usable.spawn(next);
    let usable = matches!(usable.join_next().await, Some(Ok(Ok(Ok(_)))));
    let state = if usable { "" } else { ", key is lost" };
    let said = format!("{}, {panicked} panics, {hung} hang{state}", loads(ran));
    // Whose load it was may be told by a panic; nobody else has done anything wrong.
    Some((said, ran == 1 && panicked <= 1 && hung == 0 && usable))
}

/// 20 callers of a load that fails: one query, and the error for everybody.
pub(crate) async fn error<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let load = database.failing(LOAD / 4, || Err(Failure("no such table".to_owned())));
    let began = Instant::now();
    let callers = (0..20).map(|_| timeout(HANG, subject.get(KEY, Arc::clone(&load))));
    let ended = join_all(callers).await;
    let told = ended
        .iter()
        .filter(|it| matches!(it, Ok(Err(Failure(said))) if said.contains("no such table")));
    let (told, took) = (told.count(), millis(began.elapsed()));
    let said = format!("{}, {told} told, {took} ms", loads(database.loads()));
    Some((said, database.loads() == 1 && told == 20))
}

/// A write in the middle of a load: what is found afterwards, and what a caller gets that comes
/// right behind the write.
async fn written_meanwhile<S: Subject>() -> Option<(u64, u64)> {
    let (subject, database) = (S::new(), Database::default());
    let mut leader = JoinSet::new();
    leader.spawn(subject.get(KEY, database.load(LOAD)));
    sleep(LOAD / 2).await;
    database.row.store(1, SeqCst);
    subject.invalidate(KEY)?.await;
    let behind = timeout(HANG, subject.get(KEY, database.load(LOAD))).await;
    leader.join_all().await;
    let afterwards = timeout(HANG, subject.get(KEY, database.load(LOAD))).await;
    let value = |got: Result<Got, _>| got.ok().and_then(Result::ok).unwrap_or(u64::MAX);
    Some((value(behind), value(afterwards)))
}

fn age(value: u64) -> Cell {
    if value == 1 { ("new".to_owned(), true) } else { ("old".to_owned(), false) }
}

/// A write in the middle of a load: is the old value found in the cache afterwards?
pub(crate) async fn stale_set<S: Subject>() -> Found {
    if !S::IS_CACHE {
        return None;
    }
    Some(age(written_meanwhile::<S>().await?.1))
}

/// What a caller gets that comes right behind a write, while an older load runs.
pub(crate) async fn stale_join<S: Subject>() -> Found {
    Some(age(written_meanwhile::<S>().await?.0))
}

/// A new value is stored in the middle of a load of the old one: which is found afterwards?
pub(crate) async fn late_load<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let mut leader = JoinSet::new();
    leader.spawn(subject.get(KEY, database.load(LOAD)));
    sleep(LOAD / 2).await;
    subject.insert(KEY, 1)?.await;
    leader.join_all().await;
    database.row.store(1, SeqCst);
    let got = timeout(HANG, subject.get(KEY, database.load(LOAD))).await;
    Some(age(got.ok().and_then(Result::ok).unwrap_or(u64::MAX)))
}

/// The first caller is polled once and then left alone: is the second one served?
pub(crate) async fn leader_parked<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let mut parked = subject.get(KEY, database.load(LOAD));
    let pending = poll!(&mut parked).is_pending();
    let got = timeout(HANG, subject.get(KEY, database.load(LOAD))).await;
    drop(parked);
    Some(served(pending && matches!(got, Ok(Ok(_)))))
}

/// The first caller is cancelled, and those before and behind a waiter are left alone: is that one
/// served?
pub(crate) async fn waiters_parked<S: Subject>() -> Found {
    let (subject, database) = (S::new(), Database::default());
    let mut leader = JoinSet::new();
    leader.spawn(subject.get(KEY, database.load(LOAD)));
    tokio::task::yield_now().await;
    let mut oldest = subject.get(KEY, database.load(LOAD));
    let mut waiter = subject.get(KEY, database.load(LOAD));
    let mut newest = subject.get(KEY, database.load(LOAD));
    for caller in [&mut oldest, &mut waiter, &mut newest] {
        let _pending = poll!(caller).is_pending();
    }
    sleep(LOAD / 2).await;
    leader.shutdown().await;
    let got = timeout(HANG, waiter).await;
    drop((oldest, newest));
    Some(served(matches!(got, Ok(Ok(_)))))
}

fn served(yes: bool) -> Cell {
    (if yes { "served" } else { "hangs" }.to_owned(), yes)
}

/// Callers of many keys that give up: what is left of each, in bytes by `used`?
pub(crate) async fn given_up<S: Subject>(used: fn() -> usize) -> Found {
    const KEYS: u64 = 100_000;

    let (subject, database) = (S::new(), Database::default());
    let load = database.failing(LOAD, || Err(Failure("nobody asks any more".to_owned())));
    let give_up = async |keys: std::ops::Range<u64>| {
        for key in keys {
            let mut caller = subject.get(key, Arc::clone(&load));
            let _pending = poll!(&mut caller).is_pending();
            drop(caller);
            if key % 1_000 == 0 {
                // Whatever runs on may end.
                sleep(LOAD * 2).await;
            }
        }
        sleep(LOAD * 2).await;
    };
    // Tables that grow with the first keys don't count.
    give_up(0..KEYS / 10).await;
    let before = used();
    give_up(KEYS / 10..KEYS).await;
    let left = used().saturating_sub(before) as u64 / (KEYS - KEYS / 10);
    Some((format!("{left} bytes"), left < 8))
}
