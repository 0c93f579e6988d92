//! Many ask for the same: the first pattern, seen from outside.

use std::time::Duration;

use sortie_testkit::{Batch, Metrics, Server, Wire};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{ROUNDS_MAX, all_ask, alone, connect, serve, spent};

/// The same point read in both protocols.
fn point(id: u32) -> [Batch; 2] {
    let columns = "SELECT user_id, name, balance FROM users WHERE user_id";
    let extended = Batch::new()
        .parse("", &format!("{columns} = $1"), &[])
        .bind("", "", (0, &[Some(id.to_string().as_bytes())]), 1)
        .describe(b'P', "")
        .execute("")
        .sync();
    [Batch::new().query(&format!("{columns} = {id}")), extended]
}

#[tokio::test]
async fn two_hundred_callers_cost_at_most_four_statements_and_get_identical_bytes() {
    let _alone = alone().await;
    let server = serve(&["--latency", "fixed:50ms"]).await;
    let mut herd = connect(server.listen(), 200).await;
    for question in [1, 42, 99_999, 1_000_000].into_iter().flat_map(point) {
        let mut fewest = f64::INFINITY;
        for _ in 0..ROUNDS_MAX {
            let before = server.metrics().await;
            let (back, answers) = all_ask(herd, &question).await;
            herd = back;
            assert!(answers.iter().all(|answer| *answer == answers[0]), "answers differ");
            assert!(answers[0].iter().any(|frame| frame.tag == b'C'), "{:?}", answers[0]);
            let spent = spent(&before, &server.idle().await);
            assert!((spent.leaders + spent.followers - 200.0).abs() < 0.5, "{spent:?}");
            fewest = fewest.min(spent.statements - spent.hedges);
            if fewest <= 4.0 {
                break;
            }
        }
        println!("200 callers at once: {fewest} statements");
        assert!((1.0..=4.0).contains(&fewest), "{fewest} statements");
    }
    drop(herd);
    server.stop().await;
}

#[tokio::test]
async fn a_cluster_wide_question_of_a_herd_visits_each_shard_a_few_times() {
    let _alone = alone().await;
    let server = serve(&["--latency", "fixed:50ms"]).await;
    let herd = connect(server.listen(), 200).await;
    let before = server.metrics().await;
    let question = Batch::new().query("SELECT count(*), sum(balance) FROM users");
    let (herd, answers) = all_ask(herd, &question).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "answers differ");
    let spent = spent(&before, &server.idle().await);
    assert!((2.0..=8.0).contains(&(spent.statements - spent.hedges)), "{spent:?}");
    drop(herd);
    server.stop().await;
}

/// What is cut in the middle of its query.
enum Cut {
    /// The caller whose flight runs alone, while others arrive.
    TheFirst,
    /// The leader of the flight that the others share.
    TheSuccessor,
}

async fn check_a_dead_leader(cut: Cut) {
    let _alone = alone().await;
    let load = Duration::from_secs(2);
    let server = serve(&["--latency", "fixed:2s", "--hedge", "off"]).await;
    let followers = connect(server.listen(), 100).await;
    let [question, _] = point(42);
    let before = server.metrics().await;
    let mut first = Wire::connect(server.listen()).await;
    let mut successor = Wire::connect(server.listen()).await;
    first.send(question.bytes()).await;
    until(&server, |now| waiting(now) >= 1.0).await;
    successor.send(question.bytes()).await;
    until(&server, |now| waiting(now) >= 2.0).await;
    // The first flight ends a load's time after its begin; then the one that all others share runs.
    let (dead, mut alive) = match cut {
        Cut::TheFirst => (first, successor),
        Cut::TheSuccessor => (successor, first),
    };
    let cutting = async {
        // Only once everybody waits: whoever came later would rightly get a later load.
        until(&server, |now| waiting(now) >= 102.0).await;
        if matches!(cut, Cut::TheSuccessor) {
            until(&server, |now| spent(&before, now).statements >= 2.0).await;
        }
        drop(dead);
    };
    let started = Instant::now();
    let ((followers, answers), ()) = tokio::join!(all_ask(followers, &question), cutting);
    let took = started.elapsed();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "answers differ");
    assert!(answers[0].iter().any(|frame| frame.tag == b'D'), "{:?}", answers[0]);
    assert_eq!(alive.until_ready().await, answers[0]);
    assert!(took < 3 * load, "somebody noticed: {took:?}");
    let spent = spent(&before, &server.idle().await);
    assert!(spent.statements < 2.5, "a query on the dead caller's account: {spent:?}");
    drop((followers, alive));
    server.stop().await;
}

/// Reads now waiting.
fn waiting(now: &Metrics) -> f64 {
    now.sum("sortie_waiters_in_flight", &[])
}

/// Waits until the server's metrics say so.
async fn until(server: &Server, there: impl Fn(&Metrics) -> bool) {
    let polling = async {
        while !there(&server.metrics().await) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), polling).await.expect("the metrics never said so");
}

#[tokio::test]
async fn a_first_caller_that_is_cut_off_costs_nobody_anything() {
    check_a_dead_leader(Cut::TheFirst).await;
}

#[tokio::test]
async fn a_leader_with_followers_that_is_cut_off_costs_nobody_anything() {
    check_a_dead_leader(Cut::TheSuccessor).await;
}
