//! The article's third pattern: one question to three shards. Each scene first runs the usual rule
//! (a task for each shard, handles awaited in order), then ours.

#[path = "../../../sortie-sqlite/examples/plain/err_group.rs"]
mod plain;

use std::time::Duration;

use crate::servers::{Server, Servers};
use crate::table::{Fallible, Table, chain, ms};
use sortie::Scatter;
use tokio::time::Instant;

const SUM: &str = "SELECT sum(balance)::int8 FROM users";
const SLOW: &str = "SELECT sum(balance)::int8 FROM users, pg_sleep(3)";
const BROKEN: &str = "SELECT sum(balance)::int8 FROM no_such_table";

/// A shard, and what it is asked.
type Leg = (Server, &'static str);

/// The sum over all shards, or the chain of errors as text.
type Answer = Result<i64, String>;

/// Runs its scenes, and prints what happened.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
pub(crate) async fn run(servers: &Servers) -> Fallible {
    let mut table = Table::new(&["", "rule", "answer", "called back", "left running", "elapsed"]);
    every_shard_answers(servers, &mut table).await?;
    a_slow_shard_hides_an_error(servers, &mut table).await?;
    println!("One question to {} shards, PostgreSQL servers each\n", servers.all.len());
    table.print();
    println!(
        "\nleft running: queries that a server was still running 1 s after the answer. Each shard \
         answers\nfrom its own snapshot; there is none across shards."
    );
    Ok(())
}

async fn every_shard_answers(servers: &Servers, table: &mut Table) -> Fallible {
    let legs: Vec<Leg> = servers.all.iter().map(|server| (server.clone(), SUM)).collect();
    let (plain, ..) =
        seen(servers, table, ["every shard answers", "plain"], in_order(legs.clone())).await?;
    let (ours, left, _) = seen(servers, table, ["", "Scatter"], at_once(legs)).await?;
    assert_eq!(plain.expect("no shard failed"), ours.expect("no shard failed"));
    assert_eq!(left, 0);
    Ok(())
}

/// Shard 0 is slow, shard 1 fails at once.
async fn a_slow_shard_hides_an_error(servers: &Servers, table: &mut Table) -> Fallible {
    let asked = [SLOW, BROKEN].into_iter().chain(std::iter::repeat(SUM));
    let legs: Vec<Leg> = servers.all.iter().cloned().zip(asked).collect();
    let what = ["a slow shard, a broken one", "plain"];
    let (plain, _, took) = seen(servers, table, what, in_order(legs.clone())).await?;
    assert!(plain.is_err() && took >= Duration::from_secs(3), "it looked at shard 0 first");

    let (ours, left, took) = seen(servers, table, ["", "Scatter"], at_once(legs)).await?;
    let error = ours.expect_err("a shard failed");
    assert!(error.contains(&*servers.all[1].name), "the error names its shard: {error}");
    assert!(took < Duration::from_secs(1), "the first error in time is the answer");
    assert_eq!(left, 0, "and calls the others back");
    Ok(())
}

/// The usual rule, with the clients as they come.
async fn in_order(legs: Vec<Leg>) -> Answer {
    let query = |(server, sql): Leg| async move {
        server.client().await?.query_one(sql, &[]).await?.try_get(0)
    };
    let sums = plain::ask_every_shard(legs, query).await;
    sums.map(|sums: Vec<i64>| sums.iter().sum()).map_err(|error| chain(&error))
}

/// Ours: legs that are called back when the first one fails.
async fn at_once(legs: Vec<Leg>) -> Answer {
    let sums = Scatter::over(legs)
        .label(|(server, _)| server.name.trim_start_matches("shard ").to_owned())
        .run(|(server, sql)| async move {
            let client = server.client().await?;
            let row = server
                .recall
                .run(client, move |client| async move { client.query_one(sql, &[]).await });
            row.await?.try_get::<_, i64>(0)
        });
    sums.await.map(|sums| sums.into_iter().sum()).map_err(|error| chain(&error))
}

/// Asks, and looks at the servers afterwards: the answer, queries left running, and the time.
async fn seen(
    servers: &Servers,
    table: &mut Table,
    [what, rule]: [&str; 2],
    asked: impl Future<Output = Answer>,
) -> Fallible<(Answer, i64, Duration)> {
    let (start, before) = (Instant::now(), servers.called_back());
    let answer = asked.await;
    let elapsed = start.elapsed();
    let left = servers.left_running().await?;
    let text = match &answer {
        Ok(sum) => sum.to_string(),
        Err(error) => error.clone(),
    };
    table.row(&[&what, &rule, &text, &(servers.called_back() - before), &left, &ms(elapsed)]);
    Ok((answer, left, elapsed))
}
