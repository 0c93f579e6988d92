//! The article's third pattern: one question to every shard of the cluster.
//!
//! `cargo run -p sortie-sqlite --example err_group`
//!
//! The article only names it. Each scene first runs the usual rule (a task for each shard, handles
//! awaited in order), then ours, on the same load over an embedded cluster of SQLite files. The
//! asserts at its end are the claims: the example fails when one of them does not hold.

mod stage;
mod trouble;

#[path = "plain/err_group.rs"]
mod plain;

use std::time::Duration;

use sortie::{ErrGroup, Scatter};
use sortie_sqlite::{Embedded, Replica, Value, balance};
use stage::{Fallible, Table, USERS, chain, first_int, ms, stats};
use tokio::time::Instant;
use trouble::{LONG_WALK, cluster, settle};

const SUM: &str = "SELECT coalesce(sum(balance), 0) FROM users";
const BALANCE: &str = "SELECT coalesce(max(balance), 0) FROM users WHERE user_id = ?1";
const BROKEN: &str = "SELECT balance FROM no_such_table";

/// How many reads the last scene makes, and which of them fails.
const READS: i64 = 100;
const FAILING_READ: i64 = 10;

/// What became of one question.
struct Seen {
    answer: Answer,
    queries: u64,
    cancelled: u64,
    left_behind: u64,
    elapsed: Duration,
}

/// A sum, or the chain of errors as text.
type Answer = Result<i64, String>;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
async fn main() -> Fallible {
    let mut table =
        Table::new(&["", "rule", "answer", "queries", "cancelled", "left behind", "elapsed"]);
    every_shard_answers(&mut table).await?;
    a_slow_shard_hides_an_error(&mut table).await?;
    nothing_outlives_the_question(&mut table).await?;
    a_group_with_a_limit(&mut table).await?;
    println!("One question to every shard: 2 shards of SQLite files, {USERS} users\n");
    table.print();
    println!(
        "\nplain: a task for each shard, handles awaited in order. queries: those that reached \
         SQLite.\nleft behind: those still running 1 s after the answer. Each shard answers \
         from its own\nsnapshot; there is none across shards."
    );
    Ok(())
}

/// Fair weather: both rules add up all rows.
async fn every_shard_answers(table: &mut Table) -> Fallible {
    let whole = (1..=USERS).map(balance).sum();
    let broken = || cluster(&["fixed:20ms"], &[]);
    let plain = seen(&broken()?, plain_sum, |_| SUM).await;
    show(table, ["every shard answers", "plain"], &plain);
    let ours = seen(&broken()?, our_sum, |_| SUM).await;
    show(table, ["", "Scatter"], &ours);
    assert_eq!((plain.answer, ours.answer), (Ok(whole), Ok(whole)));
    assert_eq!((plain.queries, ours.queries), (2, 2));
    Ok(())
}

/// Shard 1 fails at once, shard 0 takes a second: who reads handles in order learns it late.
async fn a_slow_shard_hides_an_error(table: &mut Table) -> Fallible {
    let broken = || cluster(&["0=fixed:1s"], &["1"]);
    let plain = seen(&broken()?, plain_sum, |_| SUM).await;
    show(table, ["a slow shard hides an error", "plain"], &plain);
    let ours = seen(&broken()?, our_sum, |_| SUM).await;
    show(table, ["", "Scatter"], &ours);
    assert!(plain.elapsed >= Duration::from_secs(1), "the slow shard was waited for");
    assert!(ours.elapsed < plain.elapsed / 2, "the error came when it was there");
    assert!(ours.answer.is_err_and(|error| error.contains("shard 1")), "it names its shard");
    assert_eq!(ours.cancelled, 1, "the slow shard was called back");
    Ok(())
}

/// Shard 0 fails while shard 1 computes: who returns early leaves it computing.
async fn nothing_outlives_the_question(table: &mut Table) -> Fallible {
    let broken = || cluster(&["0=fixed:50ms"], &[]);
    let sql = |replica: &Replica| if replica.label() == "0.0" { BROKEN } else { LONG_WALK };
    let plain = seen(&broken()?, plain_sum, sql).await;
    show(table, ["an error leaves others running", "plain"], &plain);
    let ours = seen(&broken()?, our_sum, sql).await;
    show(table, ["", "Scatter"], &ours);
    assert!(plain.answer.is_err() && ours.answer.is_err());
    assert_eq!((plain.left_behind, ours.left_behind), (1, 0));
    Ok(())
}

/// A hundred reads of which the tenth fails: all at once, or four at a time in a scope.
async fn a_group_with_a_limit(table: &mut Table) -> Fallible {
    let broken = || cluster(&["fixed:10ms"], &[]);
    let plain = seen(&broken()?, plain_reads, |_| BALANCE).await;
    show(table, ["a hundred reads, the tenth fails", "plain"], &plain);
    let ours = seen(&broken()?, our_reads, |_| BALANCE).await;
    show(table, ["", "ErrGroup, 4 at a time"], &ours);
    assert!(plain.answer.is_err() && ours.answer.is_err());
    assert_eq!(plain.queries, 100, "every task runs to its end, whatever became of the tenth");
    assert!(ours.queries < plain.queries, "few at a time, and nothing after the error");
    assert_eq!(ours.left_behind, 0);
    Ok(())
}

type Sql = fn(&Replica) -> &'static str;

async fn plain_sum(shards: Vec<Replica>, sql: Sql) -> Answer {
    let query = |replica: Replica| replica.query(sql(&replica).into(), [].into());
    let sums = plain::ask_every_shard(shards, query).await.map_err(|error| chain(&error))?;
    Ok(sums.iter().map(first_int).sum())
}

async fn our_sum(shards: Vec<Replica>, sql: Sql) -> Answer {
    let query = |replica: Replica| replica.query(sql(&replica).into(), [].into());
    let sums = Scatter::over(shards).run(query).await.map_err(|error| chain(&error))?;
    Ok(sums.iter().map(first_int).sum())
}

async fn plain_reads(shards: Vec<Replica>, sql: Sql) -> Answer {
    let reads = (1..=READS).map(|id| (id, shards[0].clone())).collect();
    let query = |(id, replica): (i64, Replica)| read(replica, id, sql);
    let sums = plain::ask_every_shard(reads, query).await.map_err(|error| chain(&error))?;
    Ok(sums.iter().sum())
}

async fn our_reads(shards: Vec<Replica>, sql: Sql) -> Answer {
    let scope = ErrGroup::new().limit(4).scope(|group| async move {
        for id in 1..=READS {
            let query = read(shards[0].clone(), id, sql);
            group.spawn(async move { query.await.map(drop) }).await?; // Waits for a place.
        }
        Ok(READS)
    });
    scope.await.map_err(|error| chain(&error))
}

async fn read(replica: Replica, id: i64, sql: Sql) -> Result<i64, sortie_sqlite::Error> {
    let (sql, params) = if id == FAILING_READ {
        (BROKEN, Vec::new())
    } else {
        (sql(&replica), vec![Value::Int(id)])
    };
    Ok(first_int(&replica.query(sql.into(), params.into()).await?))
}

/// Asks the first replica of every shard by `rule`, and looks at the cluster afterwards.
async fn seen<Fut: Future<Output = Answer>>(
    embedded: &Embedded,
    rule: impl Fn(Vec<Replica>, Sql) -> Fut,
    sql: Sql,
) -> Seen {
    let shards = embedded.shards().iter().map(|replicas| replicas[0].clone()).collect();
    let start = Instant::now();
    let answer = rule(shards, sql).await;
    let elapsed = start.elapsed();
    settle(embedded).await;
    let now = stats(embedded);
    let (queries, left_behind) = (now.statements, now.in_flight);
    Seen { answer, queries, cancelled: now.cancelled, left_behind, elapsed }
}

fn show(table: &mut Table, [what, rule]: [&str; 2], seen: &Seen) {
    let answer = match &seen.answer {
        Ok(sum) => sum.to_string(),
        Err(_) => "error".into(),
    };
    let Seen { queries, cancelled, left_behind, .. } = seen;
    table.row(&[&what, &rule, &answer, queries, cancelled, left_behind, &ms(seen.elapsed)]);
}
