//! The article's `GetUserBalance`: two synchronous standbys answer for a crowd.
//!
//! The article's single flight stands beside ours in the example of the same name on SQLite; here
//! it is the database that is real.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::servers::{Server, Servers};
use crate::table::{Fallible, Table, ms};
use sortie::{Call, Hedge, HedgeError, Join, ReplicaSet, SingleFlight};
use sortie_postgres::clients::SqlStates;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const CALLERS: usize = 200;
const USER: i64 = 42;

/// A balance takes 50 ms on its way home; the hanging query an hour.
const QUERY: &str = "SELECT balance FROM users, pg_sleep($2) WHERE user_id = $1";
const WAY_HOME: Duration = Duration::from_millis(50);
const AN_HOUR: Duration = Duration::from_secs(3600);

type Error = HedgeError<tokio_postgres::Error>;
type Flights = SingleFlight<i64, i64, Error>;

/// The standbys, asked in turn, and how many queries they got.
#[derive(Clone)]
struct Bank {
    standbys: ReplicaSet<Server>,
    hedge: Hedge<SqlStates>,
    queries: Arc<AtomicUsize>,
    /// How many of the first queries hang.
    hanging: usize,
}

/// Runs its scenes, and prints what happened.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
pub(crate) async fn run(servers: &Servers) -> Fallible {
    let mut table =
        Table::new(&["", "rule", "callers", "queries", "answered", "left running", "elapsed"]);
    a_herd(servers, &mut table).await?;
    the_first_query_hangs(servers, &mut table).await?;
    println!("One balance, many callers: two synchronous standbys answer\n");
    table.print();
    let (writes, stale) = reads_after_writes(servers).await?;
    println!(
        "\n{writes} writes to the primary while {READERS} readers ask the standbys without a \
         pause, sharing flights:\n{stale} answers were older than when their reader asked."
    );
    assert_eq!(stale, 0, "the standbys are synchronous, and `Fresh` joins share nothing older");
    Ok(())
}

/// Everybody wants the same row at once.
async fn a_herd(servers: &Servers, table: &mut Table) -> Fallible {
    let bank = Bank::of(servers, 0);
    let alone = bank.crowd(|bank| async move { bank.balance().await.is_ok() });
    bank.show(servers, table, ["a herd", "none"], alone).await?;
    assert_eq!(bank.queries.load(Relaxed), CALLERS);

    let (bank, flights) = (Bank::of(servers, 0), Flights::new());
    let shared = bank.crowd(move |bank| shared(flights.clone(), bank));
    let answered = bank.show(servers, table, ["", "sortie"], shared).await?;
    assert_eq!((answered, bank.queries.load(Relaxed)), (CALLERS, 1));
    Ok(())
}

/// The article's first open problem: the query of the first caller never answers.
async fn the_first_query_hangs(servers: &Servers, table: &mut Table) -> Fallible {
    let bank = Bank::of(servers, 1);
    let flights: Flights = SingleFlight::builder().soft_age(2 * WAY_HOME).build();
    let answers = {
        let flights = flights.clone();
        bank.crowd(move |bank| shared(flights.clone(), bank))
    };
    let row = ["the first query hangs", "sortie, a soft age of two loads"];
    let answered = bank.show(servers, table, row, answers).await?;
    assert_eq!((answered, bank.queries.load(Relaxed)), (CALLERS, 2), "one successor for all");
    assert_eq!(servers.running().await?, 0, "nobody waits for the hanging one: it was called back");
    Ok(())
}

const READERS: usize = 8;
const WRITES: i64 = 100;

/// The article's second open problem: a reader that begins after a write.
async fn reads_after_writes(servers: &Servers) -> Fallible<(i64, usize)> {
    let bank = Bank::of(servers, 0);
    let flights: Flights = SingleFlight::builder().join(Join::Fresh).build();
    let written = Arc::new(AtomicUsize::new(0));
    let primary = servers.all[0].client().await?;
    let write = "UPDATE users SET balance = $2 WHERE user_id = $1";
    primary.execute(write, &[&USER, &0_i64]).await?;
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (bank, flights, written) = (bank.clone(), flights.clone(), Arc::clone(&written));
        readers.spawn(async move {
            let (mut stale, last) = (0, usize::try_from(WRITES).unwrap_or(0));
            loop {
                let asked = written.load(Relaxed);
                let load = {
                    let bank = bank.clone();
                    move || bank.clone().at_once()
                };
                let balance = flights.run(USER, load).await.unwrap_or(-1);
                stale += usize::from(usize::try_from(balance).is_ok_and(|seen| seen < asked));
                if asked == last {
                    return stale;
                }
            }
        });
    }
    for balance in 1..=WRITES {
        primary.execute(write, &[&USER, &balance]).await?;
        written.store(usize::try_from(balance)?, Relaxed);
    }
    Ok((WRITES, readers.join_all().await.into_iter().sum()))
}

impl Bank {
    fn of(servers: &Servers, hanging: usize) -> Self {
        Self {
            standbys: ReplicaSet::new(servers.all.iter().skip(1).cloned()),
            hedge: Hedge::off().classify(SqlStates),
            queries: Arc::default(),
            hanging,
        }
    }

    /// Ours: the balance from one of the standbys; the query is called back if nobody waits.
    async fn balance(self) -> Result<i64, Error> {
        let hangs = self.queries.fetch_add(1, Relaxed) < self.hanging;
        let seconds = if hangs { AN_HOUR } else { WAY_HOME }.as_secs_f64();
        self.hedge.run(&self.standbys, move |standby| balance(standby, seconds)).await
    }

    async fn at_once(self) -> Result<i64, Error> {
        self.hedge.run(&self.standbys, |standby| balance(standby, 0.0)).await
    }

    /// Lets all callers ask at once; how many got an answer, and how long that took.
    async fn crowd<Fut>(&self, ask: impl Fn(Self) -> Fut) -> (usize, Duration)
    where
        Fut: Future<Output = bool> + Send + 'static,
    {
        let (start, mut callers) = (Instant::now(), JoinSet::new());
        for _ in 0..CALLERS {
            callers.spawn(ask(self.clone()));
        }
        let answered = callers.join_all().await.into_iter().filter(|answered| *answered).count();
        (answered, start.elapsed())
    }

    async fn show(
        &self,
        servers: &Servers,
        table: &mut Table,
        [what, rule]: [&str; 2],
        crowd: impl Future<Output = (usize, Duration)>,
    ) -> Fallible<usize> {
        let (answered, elapsed) = crowd.await;
        let (queries, left) = (self.queries.load(Relaxed), servers.left_running().await?);
        table.row(&[&what, &rule, &CALLERS, &queries, &answered, &left, &ms(elapsed)]);
        Ok(answered)
    }
}

async fn balance(standby: Server, seconds: f64) -> Result<i64, tokio_postgres::Error> {
    let client = standby.client().await?;
    let row = standby.recall.run(client, move |client| async move {
        client.query_one(QUERY, &[&USER, &seconds]).await
    });
    row.await?.try_get(0)
}

/// A caller that shares a flight, and gives up after 10 s.
async fn shared(flights: Flights, bank: Bank) -> bool {
    let load = move |_flight| bank.clone().balance();
    let answer = flights.run_with(USER, Call::new(), load);
    timeout(Duration::from_secs(10), answer).await.is_ok_and(|answer| answer.is_ok())
}
