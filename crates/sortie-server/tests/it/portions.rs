//! Executes with a row limit: a portal that dies with its batch is read for all who want as much of
//! it; one that may live on is a server's.

use sortie_testkit::{Batch, Frame, cluster};

use crate::lazy::{answers, before, pins, shared};
use crate::support::{among_others, before_shards};

/// Nine rows.
const NINE: &str = "SELECT user_id, name FROM users WHERE user_id < $1 ORDER BY user_id";

/// A Bind of the statement of this name, and an Execute for so many rows.
fn some(name: &str, rows_max: i32) -> Batch {
    Batch::new().bind("", name, (0, &[Some(b"10")]), 0).execute_some("", rows_max)
}

/// A statement, and so many of its rows, with their description.
fn parsed(rows_max: i32) -> Batch {
    let parse = Batch::new().parse("", NINE, &[20]).bind("", "", (0, &[Some(b"10")]), 0);
    parse.describe(b'P', "").execute_some("", rows_max)
}

/// Batches in front of whose last statement nothing is under way, and that leave no portal.
pub(crate) fn shareable() -> Vec<Vec<Batch>> {
    let prepare = || Batch::new().parse("s", NINE, &[20]).sync();
    let begin = || Batch::new().query("BEGIN");
    let mut scripts = Vec::new();
    for rows_max in [-1, 1, 8, 9, 10, i32::MAX] {
        scripts.push(vec![parsed(rows_max).sync()]);
        scripts.push(vec![prepare(), some("s", rows_max).sync(), some("s", rows_max).sync()]);
        let closed = parsed(rows_max).close(b'P', "").sync();
        scripts.push(vec![begin(), closed, Batch::new().query("COMMIT")]);
    }
    scripts
}

/// Portals that somebody goes on with, or tries to.
pub(crate) fn living() -> Vec<Vec<Batch>> {
    let on = || Batch::new().execute_some("", 3);
    let queries = |texts: &[&str]| texts.iter().map(|it| Batch::new().query(it)).collect();
    let begun = |rest: Vec<Batch>| [queries(&["BEGIN"]), rest, queries(&["COMMIT"])].concat();
    vec![
        vec![parsed(2).sync(), on().sync(), Batch::new().query("SELECT 1")],
        vec![parsed(2).flush().then(&on().flush()).then(&on()).sync()],
        vec![parsed(2).then(&on()).then(&on().execute("")).sync()],
        begun(vec![parsed(2).sync(), on().sync(), on().execute("").sync()]),
        begun(vec![parsed(2).close(b'P', "").sync(), on().sync()]),
        begun(vec![Batch::new().query("SELECT now() = now()"), parsed(2).sync(), on().sync()]),
    ]
}

#[tokio::test]
async fn rows_in_portions_are_answered_as_postgresql_answers_them() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let there = cluster.primary(0).address();
    let (server, _config) = before(format!("postgres://reader@{there}/sortie"), "reader").await;
    for (nth, script) in shareable().iter().enumerate() {
        let begin = server.metrics().await;
        let ours = answers(server.listen(), "postgres", script).await;
        assert_eq!(ours, answers(there, "sortie", script).await, "shareable {nth}");
        assert!(shared(&server.metrics().await) > shared(&begin), "shareable {nth}");
    }
    for (nth, script) in living().iter().enumerate() {
        let ours = answers(server.listen(), "postgres", script).await;
        assert_eq!(ours, answers(there, "sortie", script).await, "living {nth}");
    }
    let begin = server.metrics().await;
    answers(server.listen(), "postgres", &[parsed(1).sync()]).await;
    assert_eq!(pins(&server.metrics().await), pins(&begin));
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn the_first_rows_of_all_shards_are_the_first_of_what_is_merged() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let (server, _config, mut wire) = before_shards(&cluster).await;
    let all = wire.ask(&parsed(0).sync()).await;
    assert_eq!(Frame::tags(&all), "12TDDDDDDDDDCZ");
    for (rows_max, expected) in [(2, "12TDDsZ"), (9, "12TDDDDDDDDDsZ"), (10, "12TDDDDDDDDDCZ")] {
        let some = wire.ask(&parsed(rows_max).sync()).await;
        assert_eq!(Frame::tags(&some), expected);
        let rows = |answer: &[Frame]| answer.iter().filter_map(Frame::row).collect::<Vec<_>>();
        assert_eq!(rows(&some), rows(&all)[..rows(&some).len()]);
    }
    server.stop().await;
}
