//! The article's `DistributedQuery` ("Moving Later"): a primary and two synchronous standbys, the
//! first answer wins. Each scene first runs the article's rule, then ours.

#[path = "../../../sortie-sqlite/examples/plain/distributed_query.rs"]
mod plain;

use std::sync::Arc;
use std::time::Duration;

use crate::servers::{Server, Servers};
use crate::table::{Fallible, Table, chain, ms};
use sortie::{Hedge, ReplicaSet, first_ok};
use sortie_postgres::clients::SqlStates;
use tokio::time::Instant;

/// Slow is the query itself: it sleeps on the server, before it looks at the row.
const QUERY: &str = "SELECT balance FROM users, pg_sleep($2) WHERE user_id = $1";
const USER: i64 = 42;

/// How long the query takes on the slow servers, in seconds.
const SLOW: f64 = 3.0;

/// Who answered and what, or the chain of errors as text.
type Answer = Result<(Arc<str>, i64), String>;

/// A server, and how many seconds it takes.
type Replica = (Server, f64);

/// Runs its scenes, and prints what happened.
#[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
pub(crate) async fn run(servers: &Servers) -> Fallible {
    let mut table =
        Table::new(&["", "rule", "winner", "balance", "called back", "left running", "elapsed"]);
    losers_run_on(servers, &mut table).await?;
    a_fast_error_wins(servers, &mut table).await?;
    println!("One query, {} PostgreSQL servers that hold the same rows\n", servers.all.len());
    table.print();
    println!(
        "\nleft running: queries that a server was still running 1 s after the answer. The \
         standbys are\nsynchronous (remote_apply, all of them required), so each answer is as \
         good as another."
    );
    Ok(())
}

/// All servers but the last are slow.
async fn losers_run_on(servers: &Servers, table: &mut Table) -> Fallible {
    let last = servers.all.len() - 1;
    let slow_but_last =
        |(at, server): (usize, &Server)| (server.clone(), if at < last { SLOW } else { 0.0 });
    let replicas: Vec<Replica> = servers.all.iter().enumerate().map(slow_but_last).collect();

    let (article, left) =
        seen(servers, table, ["two slow servers", "article"], ask_all(replicas.clone())).await?;
    assert!(article.is_ok());
    assert_eq!(left, i64::try_from(last)?, "dropping a future stops nothing on a server");
    servers.idle().await?;

    let ask_at_once =
        async { first_ok(replicas.clone(), ask).await.map_err(|error| chain(&error)) };
    let (ours, left) = seen(servers, table, ["", "first_ok"], ask_at_once).await?;
    assert_eq!((ours.is_ok(), left), (true, 0), "losers are cancelled where they run");

    let set = ReplicaSet::new(replicas);
    let hedge = Hedge::after(Duration::from_millis(70)).classify(SqlStates);
    let in_turn = async { hedge.run(&set, ask).await.map_err(|error| chain(&error)) };
    let (ours, left) = seen(servers, table, ["", "hedge after 70 ms"], in_turn).await?;
    assert_eq!((ours.is_ok(), left), (true, 0));
    Ok(())
}

/// The first server turns us away at once; the others take a moment.
async fn a_fast_error_wins(servers: &Servers, table: &mut Table) -> Fallible {
    let take_a_moment = servers.all.iter().map(|server| (server.clone(), 0.2));
    let mut replicas: Vec<Replica> = take_a_moment.collect();
    replicas[0] = (servers.all[0].broken()?, 0.0);

    let (article, _) =
        seen(servers, table, ["a fast error", "article"], ask_all(replicas.clone())).await?;
    assert!(article.is_err(), "the error was first");
    servers.idle().await?;

    let ask_at_once =
        async { first_ok(replicas.clone(), ask).await.map_err(|error| chain(&error)) };
    let (ours, _) = seen(servers, table, ["", "first_ok"], ask_at_once).await?;
    assert!(ours.is_ok(), "the first success wins");

    let set = ReplicaSet::new(replicas);
    let hedge = Hedge::after(Duration::from_secs(1)).classify(SqlStates);
    let in_turn = async { hedge.run(&set, ask).await.map_err(|error| chain(&error)) };
    let (ours, left) = seen(servers, table, ["", "hedge after 1 s"], in_turn).await?;
    assert_eq!((ours.is_ok(), left), (true, 0), "a failure is replaced at once");
    assert_eq!(hedge.ledger().failovers, 1);
    Ok(())
}

/// Ours: a query that is called back when its future is dropped.
async fn ask((server, seconds): Replica) -> Result<(Arc<str>, i64), tokio_postgres::Error> {
    let client = server.client().await?;
    let row = server.recall.run(client, move |client| async move {
        client.query_one(QUERY, &[&USER, &seconds]).await
    });
    Ok((Arc::clone(&server.name), row.await?.try_get(0)?))
}

/// The article's rule, with the client as it comes.
async fn ask_all(replicas: Vec<Replica>) -> Answer {
    let query = |(server, seconds): Replica| async move {
        let row = server.client().await?.query_one(QUERY, &[&USER, &seconds]).await?;
        Ok((Arc::clone(&server.name), row.try_get(0)?))
    };
    plain::distributed_query(replicas, query)
        .await
        .map_err(|error: tokio_postgres::Error| chain(&error))
}

/// Asks, and looks at the servers afterwards: the answer, and the queries left running.
async fn seen(
    servers: &Servers,
    table: &mut Table,
    [what, rule]: [&str; 2],
    asked: impl Future<Output = Answer>,
) -> Fallible<(Answer, i64)> {
    let (start, before) = (Instant::now(), servers.called_back());
    let answer = asked.await;
    let elapsed = ms(start.elapsed());
    let left = servers.left_running().await?;
    let (winner, balance) = match &answer {
        Ok((server, balance)) => (server.to_string(), balance.to_string()),
        Err(error) => ("nobody".to_owned(), error.rsplit(": ").next().unwrap_or(error).to_owned()),
    };
    let called_back = servers.called_back() - before;
    table.row(&[&what, &rule, &winner, &balance, &called_back, &left, &elapsed]);
    Ok((answer, left))
}
