//! The article's `DistributedQuery` ("Moving Later"): one query to all replicas of a shard, the
//! first answer wins.
//!
//! `cargo run -p sortie-sqlite --example distributed_query`
//!
//! Each scene first runs the article's rule (ask all, keep what arrives first), then ours, on the
//! same load over an embedded cluster. The asserts at its end are the claims: the example fails
//! when one of them does not hold. Copies of a SQLite file are not synchronous replicas: nothing
//! is replicated here, they hold the same rows because nobody writes.

mod stage;
mod trouble;

#[path = "plain/distributed_query.rs"]
mod plain;

use std::pin::Pin;
use std::time::Duration;

use sortie::{Hedge, HedgeErrorKind, ReplicaSet, first_ok};
use sortie_sqlite::{Embedded, Replica, Value};
use stage::{Fallible, Table, chain, first_int, ms, stats};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use trouble::{LONG_WALK, cluster, settle};

const BALANCE: &str = "SELECT coalesce(max(balance), 0) FROM users WHERE user_id = ?1";

/// How long the demonstration waits for a call that would never return.
const PATIENCE: Duration = Duration::from_millis(300);

/// How many readers there are, and how many reads each makes, one after another.
#[derive(Clone, Copy)]
struct Crowd {
    readers: usize,
    reads_each: usize,
}

/// Who answered (a replica's number) and what, or the chain of errors as text.
type Answer = Result<(usize, i64), String>;

/// What became of a crowd's reads.
struct Seen {
    answered: usize,
    failed: usize,
    queries: u64,
    winners: [usize; 3],
    cancelled: u64,
    left_behind: u64,
    p95: Duration,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn main() -> Fallible {
    let mut table = Table::new(&[
        "",
        "rule",
        "answered",
        "failed",
        "queries",
        "winners",
        "cancelled",
        "left behind",
        "p95",
    ]);
    a_fast_error_wins(&mut table).await?;
    losers_run_on(&mut table).await?;
    the_price(&mut table).await?;
    println!("One query to the replicas of a shard: 3 copies of a SQLite file\n");
    table.print();
    println!(
        "\narticle: ask all, keep what comes first. queries: those sent to a replica. winners: \
         by replica.\nleft behind: queries still queued or running 1 s after the last answer.\n"
    );
    no_replicas_at_all().await;
    println!(
        "\nThe copies hold the same rows because nobody writes: they are not synchronous replicas."
    );
    Ok(())
}

/// Replica 0 is broken and answers at once, with an error.
async fn a_fast_error_wins(table: &mut Table) -> Fallible {
    let crowd = Crowd { readers: 10, reads_each: 10 };
    let broken = || cluster(&["0=fixed:10ms"], &["0.0"]);
    let article = seen(&broken()?, crowd, ask_all, |_| BALANCE).await;
    show(table, ["a fast error", "article"], &article);
    let ours = seen(&broken()?, crowd, ask_all_ours, |_| BALANCE).await;
    show(table, ["", "first_ok"], &ours);
    let hedge = Hedge::after(Duration::from_millis(70));
    let hedged = seen(&broken()?, crowd, by(&hedge), |_| BALANCE).await;
    show(table, ["", "hedge after 70 ms"], &hedged);
    assert_eq!((article.answered, article.failed), (0, 100), "the error was always first");
    assert_eq!((ours.answered, ours.failed), (100, 0));
    assert_eq!((hedged.answered, hedged.failed), (100, 0));
    assert!(hedge.ledger().failovers > 0, "a failure is replaced at once, by another replica");
    Ok(())
}

/// Replica 0 answers at once; the others have a bad plan, and walk for many seconds.
async fn losers_run_on(table: &mut Table) -> Fallible {
    let crowd = Crowd { readers: 1, reads_each: 4 };
    let sql = |replica: &Replica| if number(replica) == 0 { BALANCE } else { LONG_WALK };
    let article = seen(&cluster(&[], &[])?, crowd, ask_all, sql).await;
    show(table, ["losers with a long way to go", "article"], &article);
    let ours = seen(&cluster(&[], &[])?, crowd, ask_all_ours, sql).await;
    show(table, ["", "first_ok"], &ours);
    assert_eq!((article.answered, ours.answered), (4, 4));
    assert_eq!(article.left_behind, 8, "both losers of each read run on");
    assert_eq!(ours.left_behind, 0, "dropping a loser stops SQLite, by its progress handler");
    Ok(())
}

/// Replica 0 is slow: what it costs to be rid of it.
async fn the_price(table: &mut Table) -> Fallible {
    let crowd = Crowd { readers: 10, reads_each: 10 };
    let broken = || cluster(&["0.0=fixed:400ms", "0.1=fixed:10ms", "0.2=fixed:10ms"], &[]);
    let alone = seen(&broken()?, crowd, by(&Hedge::off()), |_| BALANCE).await;
    show(table, ["a slow replica", "one, in turn"], &alone);
    let article = seen(&broken()?, crowd, ask_all, |_| BALANCE).await;
    show(table, ["", "article"], &article);
    let hedge = Hedge::after(Duration::from_millis(100));
    let ours = seen(&broken()?, crowd, by(&hedge), |_| BALANCE).await;
    show(table, ["", "hedge after 100 ms"], &ours);
    assert!(alone.p95 >= Duration::from_millis(400), "who asks one replica waits for it");
    assert!(ours.p95 < alone.p95, "who hedges waits for the delay, not for the replica");
    assert_eq!(article.queries, 300, "asking all costs three times the queries");
    assert!(article.left_behind > 0, "and they pile up where it is slow");
    assert!(ours.queries < 200, "hedging costs one more for a slow read");
    assert_eq!(ours.left_behind, 0);
    let ledger = hedge.ledger();
    assert_eq!((ledger.attempts_ended(), ledger.in_flight()), (ledger.attempts(), 0));
    Ok(())
}

/// Nobody to ask: the article's channel waits for ever.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn no_replicas_at_all() {
    let article = timeout(PATIENCE, plain::distributed_query(Vec::new(), |()| async {})).await;
    println!("no replicas, article:  no answer after {}, given up by the example", ms(PATIENCE));
    let start = Instant::now();
    let ours = first_ok(Vec::new(), |()| async { Err::<(), _>("unreachable") }).await;
    let error = ours.expect_err("there is nobody to answer");
    println!("no replicas, first_ok: \"{error}\" after {}", ms(start.elapsed()));
    assert!(article.is_err(), "it would have waited for ever");
    assert_eq!(error.kind(), HedgeErrorKind::NoReplicas);
}

type Sql = fn(&Replica) -> &'static str;

/// The replicas of shard 0, and the same ones as a set that is asked in turn.
#[derive(Clone)]
struct Shard {
    replicas: Vec<Replica>,
    in_turn: ReplicaSet<Replica>,
}

/// The article's rule: see `plain/distributed_query.rs`.
async fn ask_all(shard: Shard, id: i64, sql: Sql) -> Answer {
    let query = |replica| ask(replica, id, sql);
    plain::distributed_query(shard.replicas, query).await.map_err(|error| chain(&error))
}

/// Ours, all at once.
async fn ask_all_ours(shard: Shard, id: i64, sql: Sql) -> Answer {
    let query = |replica| ask(replica, id, sql);
    first_ok(shard.replicas, query).await.map_err(|error| chain(&error))
}

/// Ours: the next one only when this one is slow or fails.
fn by(
    hedge: &Hedge,
) -> impl Fn(Shard, i64, Sql) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Clone + use<> {
    let hedge = hedge.clone();
    move |shard, id, sql| Box::pin(in_turn(hedge.clone(), shard, id, sql))
}

async fn in_turn(hedge: Hedge, shard: Shard, id: i64, sql: Sql) -> Answer {
    let query = move |replica| ask(replica, id, sql);
    hedge.run(&shard.in_turn, query).await.map_err(|error| chain(&error))
}

async fn ask(replica: Replica, id: i64, sql: Sql) -> Result<(usize, i64), sortie_sqlite::Error> {
    let sql = sql(&replica);
    let params = if sql == BALANCE { vec![Value::Int(id)] } else { Vec::new() };
    let rows = replica.query(sql.into(), params.into()).await?;
    Ok((number(&replica), first_int(&rows)))
}

/// A replica's number within its shard, from its label: 1 for `0.1`.
fn number(replica: &Replica) -> usize {
    let number = replica.label().rsplit('.').next().and_then(|number| number.parse().ok());
    number.expect("a label is SHARD.REPLICA")
}

/// Lets a crowd read from shard 0 by `rule`, and looks at the cluster afterwards.
async fn seen<Rule, Fut>(embedded: &Embedded, crowd: Crowd, rule: Rule, sql: Sql) -> Seen
where
    Rule: Fn(Shard, i64, Sql) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Answer> + Send,
{
    let replicas = embedded.shards()[0].clone();
    let shard = Shard { in_turn: ReplicaSet::new(replicas.clone()), replicas };
    let mut readers = JoinSet::new();
    for _ in 0..crowd.readers {
        let (rule, shard) = (rule.clone(), shard.clone());
        readers.spawn(async move {
            let mut reads = Vec::new();
            for id in (1..).take(crowd.reads_each) {
                let start = Instant::now();
                let answer = rule(shard.clone(), id, sql).await;
                reads.push((answer, start.elapsed()));
            }
            reads
        });
    }
    let reads: Vec<_> = readers.join_all().await.into_iter().flatten().collect();
    let mut winners = [0; 3];
    for (replica, _) in reads.iter().filter_map(|(answer, _)| answer.as_ref().ok()) {
        winners[*replica] += 1;
    }
    let mut times: Vec<Duration> = reads.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    settle(embedded).await;
    let now = stats(embedded);
    let answered: usize = winners.iter().sum();
    Seen {
        answered,
        failed: reads.len() - answered,
        // Those that got to a worker, and those that still wait for one.
        queries: now.statements + now.in_flight - now.running,
        winners,
        cancelled: now.cancelled,
        left_behind: now.in_flight,
        p95: times[times.len() * 95 / 100],
    }
}

fn show(table: &mut Table, [what, rule]: [&str; 2], seen: &Seen) {
    let Seen { answered, failed, queries, winners: [a, b, c], cancelled, left_behind, p95 } = seen;
    let winners = format!("{a}/{b}/{c}");
    let p95 = ms(*p95);
    table.row(&[&what, &rule, answered, failed, queries, &winners, cancelled, left_behind, &p95]);
}
