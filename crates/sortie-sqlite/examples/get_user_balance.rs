//! The article's `GetUserBalance`: a cache, a single flight, a database.
//!
//! `cargo run -p sortie-sqlite --example get_user_balance`
//!
//! Each scene first runs the article's single flight (our port of its idea), then ours, on the same
//! load over an embedded cluster of SQLite files. The asserts at its end are the claims: the
//! example fails when one of them does not hold. Copies of a SQLite file are not synchronous
//! replicas: where a scene writes, the example writes every copy itself.

mod bank;
mod stage;

#[path = "plain/single_flight.rs"]
mod plain;

use std::sync::Arc;
use std::time::Duration;

use bank::{Bank, Database, QueryError, USER, WAY_HOME};
use plain::{Context, Fault, PlainCache, PlainFlights};
use sortie::{Call, Join, MemoryCache, ReadThrough, SingleFlight};
use stage::{Fallible, Table, chain, ms};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const CALLERS: usize = 200;

/// How long a caller waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A balance, or the chain of errors as text.
type Answer = Result<i64, String>;

/// What a caller got.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Fresh,
    /// A balance that lacks a deposit which was complete before the call began.
    Stale,
    Failed,
}

/// One rule on its own bank.
struct Run {
    bank: Bank,
    database: Database,
    start: Instant,
}

/// What came of it.
struct Seen {
    queries: u64,
    answered: usize,
    failed: usize,
    stale: usize,
    elapsed: Duration,
}

type Plain = Arc<PlainFlights<i64>>;
type Flights = SingleFlight<i64, i64, QueryError>;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn main() -> Fallible {
    let header = ["", "rule", "callers", "queries", "answered", "failed", "stale", "elapsed"];
    let mut table = Table::new(&header);
    a_herd(&mut table).await?;
    the_first_query_hangs(&mut table).await?;
    the_first_caller_gives_up(&mut table).await?;
    a_call_that_has_finished(&mut table).await?;
    a_write_while_a_call_runs(&mut table).await?;
    a_late_fill_of_the_cache(&mut table).await?;
    println!("One balance, many callers: a query takes {} on its way home\n", ms(WAY_HOME));
    table.print();
    println!(
        "\nqueries: those that reached SQLite. stale: answers that lack a deposit which was \
         complete before\nthe call began. SQLite copies are not synchronous replicas: the example \
         writes all of them itself."
    );
    Ok(())
}

/// Everybody wants the same row at once.
async fn a_herd(table: &mut Table) -> Fallible {
    let run = Run::new(Bank::open()?);
    let answers = run.crowd(CALLERS, |_, database| async move {
        database.balance(USER).await.map_err(|error| chain(&error))
    });
    let none = run.show(table, ["a herd", "none"], &answers.await);

    let (run, flights) = (Run::new(Bank::open()?), Plain::default());
    let answers = run.crowd(CALLERS, |_, database| ask_plain(flights.clone(), database));
    let article = run.show(table, ["", "article"], &answers.await);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    let answers = run.crowd(CALLERS, |_, database| ask(flights.clone(), Call::new(), database));
    let ours = run.show(table, ["", "sortie"], &answers.await);

    assert_eq!((none.queries, article.queries, ours.queries), (200, 1, 1));
    assert_eq!((none.answered, article.answered, ours.answered), (200, 200, 200));
    Ok(())
}

/// The article's first open problem: the query of the first caller never answers.
async fn the_first_query_hangs(table: &mut Table) -> Fallible {
    let (run, flights) = (Run::new(Bank::where_the_first_query_hangs()?), Plain::default());
    let answers = run.crowd(CALLERS, |_, database| ask_plain(flights.clone(), database));
    let article = run.show(table, ["the first query hangs", "article"], &answers.await);

    let run = Run::new(Bank::where_the_first_query_hangs()?);
    let flights: Flights = SingleFlight::builder().soft_age(2 * WAY_HOME).build();
    let answers = run.crowd(CALLERS, |_, database| ask(flights.clone(), Call::new(), database));
    let ours = run.show(table, ["", "sortie, a soft age of two loads"], &answers.await);

    assert_eq!((article.answered, article.failed), (0, 200), "everybody hung with the first");
    assert_eq!((ours.answered, ours.queries), (200, 2), "one successor answered everybody");
    assert!(ours.elapsed < article.elapsed / 2, "after the soft age and one normal load");
    Ok(())
}

/// The first caller gives up while the query that it happened to start is under way for all.
async fn the_first_caller_gives_up(table: &mut Table) -> Fallible {
    let (run, flights) = (Run::new(Bank::open()?), Plain::default());
    run.database.hold();
    let answers = run.crowd(CALLERS, |caller, database| {
        let (owner, context) = Context::new();
        let answer = ask_plain_in(context, flights.clone(), database.clone());
        let cancel = async move {
            if caller == 0 {
                database.called(CALLERS).await;
                owner.cancel();
            }
            owner // Kept until there is an answer: a dropped owner cancels nothing.
        };
        async move { tokio::join!(answer, cancel).0 }
    });
    let article = run.show(table, ["the first caller gives up", "article"], &answers.await);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    run.database.hold();
    let answers = run.crowd(CALLERS, |caller, database| {
        let answer = ask(flights.clone(), Call::new(), database.clone());
        async move {
            if caller > 0 {
                return answer.await;
            }
            tokio::select! {
                answer = answer => answer,
                () = database.called(CALLERS) => {
                    database.release();
                    Err("the caller gave up".into()) // Its call is dropped here.
                }
            }
        }
    });
    let ours = run.show(table, ["", "sortie"], &answers.await);

    assert_eq!((article.answered, article.failed), (0, 200), "its context was everybody's");
    assert_eq!((ours.answered, ours.failed), (199, 1), "only who gave up has no answer");
    assert_eq!((article.queries, ours.queries), (1, 1));
    Ok(())
}

/// A reader that is answered asks again at once. The article's calls are done before they are
/// deleted, so the second time it joins the call that has just finished.
async fn a_call_that_has_finished(table: &mut Table) -> Fallible {
    let rounds = 10;
    let (run, flights) = (Run::new(Bank::open()?), Plain::default());
    let mut outcomes = Vec::new();
    for _ in 0..rounds {
        let read = |database| ask_plain(flights.clone(), database);
        outcomes.extend(run.read_twice_around_a_write(read).await?);
    }
    let article = run.show(table, ["a call that has finished", "article"], &outcomes);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    let mut outcomes = Vec::new();
    for _ in 0..rounds {
        let read = |database| ask(flights.clone(), Call::new(), database);
        outcomes.extend(run.read_twice_around_a_write(read).await?);
    }
    let ours = run.show(table, ["", "sortie"], &outcomes);

    assert_eq!((article.stale, article.queries), (10, 10), "done, and not yet deleted");
    assert_eq!((ours.stale, ours.queries), (0, 20), "nobody joins what has ended");
    Ok(())
}

/// The article's second open problem: half of the callers come after a write, and join a query
/// that read the row before it.
async fn a_write_while_a_call_runs(table: &mut Table) -> Fallible {
    let (run, flights) = (Run::new(Bank::open()?), Plain::default());
    let read = |_, database| ask_plain(flights.clone(), database);
    let outcomes = run.crowds_around_a_write(read, || ()).await?;
    let article = run.show(table, ["a write while a call runs", "article"], &outcomes);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    let read = |_, database| ask(flights.clone(), Call::new(), database);
    let outcomes = run.crowds_around_a_write(read, || ()).await?;
    let running = run.show(table, ["", "sortie, Join::Running"], &outcomes);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    let read = |_, database| ask(flights.clone(), Call::new(), database);
    let outcomes = run.crowds_around_a_write(read, || flights.forget(&USER)).await?;
    let forget = run.show(table, ["", "sortie, the writer forgets"], &outcomes);

    let (run, flights) = (Run::new(Bank::open()?), Flights::new());
    let read = |_, database| ask(flights.clone(), Call::new().join(Join::Fresh), database);
    let outcomes = run.crowds_around_a_write(read, || ()).await?;
    let fresh = run.show(table, ["", "sortie, Join::Fresh"], &outcomes);

    assert_eq!((article.stale, article.queries), (CALLERS / 2, 1));
    assert_eq!((running.stale, running.queries), (CALLERS / 2, 1), "sharing what runs has a price");
    assert_eq!((forget.stale, forget.queries), (0, 2), "nobody joins what the write made old");
    assert_eq!((fresh.stale, fresh.queries), (0, 2), "nor what began before the caller came");
    Ok(())
}

/// A query that read the row before a write fills the cache after it, and the old value stays.
async fn a_late_fill_of_the_cache(table: &mut Table) -> Fallible {
    let (run, cache) = (Run::new(Bank::open()?), Arc::new(PlainCache::default()));
    let flights = Plain::default();
    let read = |database| ask_plain_cache(cache.clone(), flights.clone(), database);
    let outcomes = run.crowd_after_a_late_fill(read, async || cache.remove(USER)).await?;
    let article = run.show(table, ["a late fill of the cache", "article"], &outcomes);

    let run = Run::new(Bank::open()?);
    let database = run.database.clone();
    let cache = ReadThrough::new(MemoryCache::new(16), move |user| database.clone().balance(user));
    let read = |_database| {
        let cache = cache.clone();
        async move { cache.get(&USER).await.map_err(|error| chain(&error)) }
    };
    let outcomes =
        run.crowd_after_a_late_fill(read, async || cache.invalidate(&USER).await).await?;
    let ours = run.show(table, ["", "sortie, ReadThrough"], &outcomes);

    assert_eq!((article.stale, article.queries), (CALLERS, 1), "the cache keeps the old value");
    assert_eq!((ours.stale, ours.queries), (0, 2), "the write revoked the lease of the late fill");
    Ok(())
}
/// The article's rule, for a caller that nobody cancels.
async fn ask_plain(flights: Plain, database: Database) -> Answer {
    let (_owner, context) = Context::new();
    ask_plain_in(context, flights, database).await
}

/// The article's rule: see `plain/single_flight.rs`. The query gets the context of whoever
/// started it.
async fn ask_plain_in(context: Context, flights: Plain, database: Database) -> Answer {
    let answer = flights.run(context, USER, |context| plain_query(context, database));
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|fault| fault.to_string()),
        Err(_late) => Err("the caller gave up".into()),
    }
}

/// The article's rule with its cache in front.
async fn ask_plain_cache(cache: Arc<PlainCache>, flights: Plain, database: Database) -> Answer {
    if let Some(balance) = cache.get(USER) {
        return Ok(balance);
    }
    let (_owner, context) = Context::new();
    let load = |context| async move {
        let balance = plain_query(context, database).await?;
        cache.set(USER, balance);
        Ok(balance)
    };
    flights.run(context, USER, load).await.map_err(|fault: Fault| fault.to_string())
}

async fn plain_query(context: Context, database: Database) -> Result<i64, Fault> {
    tokio::select! {
        () = context.cancelled() => Err(Fault::Cancelled),
        answer = database.balance(USER) => answer.map_err(|error| Fault::Query(chain(&error))),
    }
}

/// Ours.
async fn ask(flights: Flights, call: Call, database: Database) -> Answer {
    let call = call.deadline(Instant::now() + PATIENCE);
    let answer = flights.run_with(USER, call, move |_cx| database.clone().balance(USER));
    answer.await.map(|landed| landed.value).map_err(|error| chain(&error))
}

impl Run {
    fn new(bank: Bank) -> Self {
        Self { database: bank.database(), bank, start: Instant::now() }
    }

    /// Lets so many callers ask at once.
    async fn crowd<Fut>(&self, callers: usize, ask: impl Fn(usize, Database) -> Fut) -> Vec<Outcome>
    where
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        for caller in 0..callers {
            calls.spawn(judge(self.database.clone(), ask(caller, self.database.clone())));
        }
        calls.join_all().await
    }

    /// Half of the callers, a write once the row has been read for them, the other half.
    async fn crowds_around_a_write<Fut>(
        &self,
        ask: impl Fn(usize, Database) -> Fut,
        written: impl Fn(),
    ) -> Fallible<Vec<Outcome>>
    where
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.database.hold();
        let row = self.database.next_row();
        let later = async {
            tokio::join!(row, self.database.called(CALLERS / 2));
            self.database.deposit().await?;
            written();
            let release = async {
                self.database.called(CALLERS).await;
                self.database.release();
            };
            Ok(tokio::join!(self.crowd(CALLERS / 2, &ask), release).0)
        };
        let (earlier, later) = tokio::join!(self.crowd(CALLERS / 2, &ask), later);
        later.map(|later| [earlier, later].concat())
    }

    /// A reader asks twice; between row and answer of the first there is a write.
    async fn read_twice_around_a_write<Fut>(
        &self,
        ask: impl Fn(Database) -> Fut,
    ) -> Fallible<[Outcome; 2]>
    where
        Fut: Future<Output = Answer>,
    {
        sleep(Duration::from_millis(1)).await; // The round before is over, deletions included.
        let database = &self.database;
        database.hold();
        let row = database.next_row();
        let write = async {
            row.await;
            let written = database.deposit().await;
            database.release();
            written
        };
        let twice = async {
            let first = judge(database.clone(), ask(database.clone())).await;
            [first, judge(database.clone(), ask(database.clone())).await]
        };
        let (outcomes, written) = tokio::join!(twice, write);
        written?;
        Ok(outcomes)
    }

    /// One reader fills the cache with what a write has made old; then everybody asks.
    async fn crowd_after_a_late_fill<Fut>(
        &self,
        ask: impl Fn(Database) -> Fut,
        invalidate: impl AsyncFn(),
    ) -> Fallible<Vec<Outcome>>
    where
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.database.hold();
        let row = self.database.next_row();
        let write = async {
            row.await;
            let written = self.database.deposit().await;
            invalidate().await;
            self.database.release();
            written
        };
        let (filled, written) = tokio::join!(ask(self.database.clone()), write);
        filled?;
        written?;
        Ok(self.crowd(CALLERS, |_, database| ask(database)).await)
    }

    /// Adds a row for this run, which ends now.
    fn show(&self, table: &mut Table, [what, rule]: [&str; 2], outcomes: &[Outcome]) -> Seen {
        let elapsed = self.start.elapsed();
        let count = |what| outcomes.iter().filter(|outcome| **outcome == what).count();
        let (failed, stale) = (count(Outcome::Failed), count(Outcome::Stale));
        let (callers, queries) = (outcomes.len(), self.bank.queries());
        let answered = callers - failed;
        table.row(&[&what, &rule, &callers, &queries, &answered, &failed, &stale, &ms(elapsed)]);
        Seen { queries, answered, failed, stale, elapsed }
    }
}

/// Waits for an answer, and compares it with what had been written before the call began.
async fn judge(database: Database, answer: impl Future<Output = Answer>) -> Outcome {
    let floor = database.call();
    match answer.await {
        Ok(balance) if balance < floor => Outcome::Stale,
        Ok(_) => Outcome::Fresh,
        Err(_) => Outcome::Failed,
    }
}
