//! Hedged reads: who is asked when, whose answer counts, and that nothing is left behind.
#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod contexts;
mod losers;
mod model;
mod rig;
mod spans;

use std::collections::BTreeSet;
use std::time::Duration;

use sortie::{AttemptFailure, Hedge, HedgeErrorKind, ReplicaSet, first_ok};
use tokio::time::Instant;

use self::rig::{Does, Outcome, Rig, Script};

const ANSWERED: HedgeErrorKind = HedgeErrorKind::Answered;
const EXHAUSTED: HedgeErrorKind = HedgeErrorKind::Exhausted;

fn ok(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Ok }
}

fn fail(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Fail }
}

fn answer(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Answer }
}

fn abstain(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Abstain }
}

fn refuse(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Refuse }
}

fn panic(after_ms: u64) -> Script {
    Script { after_ms, does: Does::Panic }
}

fn hang() -> Script {
    Script { after_ms: 0, does: Does::Hang }
}

fn hedge() -> Hedge {
    Hedge::after(Duration::from_millis(10))
}

/// `scripts` under `hedge` end in `expected` after `took_ms`, with `started` attempts. The rig
/// checks the ledger, the gauges and that no attempt is alive.
async fn check(hedge: Hedge, scripts: &[Script], expected: Outcome, took_ms: u64, started: usize) {
    let rig = Rig::new(hedge, scripts);
    let begun = Instant::now();
    let outcome = rig.call().await;
    assert_eq!(outcome, expected);
    assert_eq!(begun.elapsed(), Duration::from_millis(took_ms));
    assert_eq!(rig.started(), started, "attempts started");
    rig.assert_at_rest();
}

fn won(replica: usize) -> Outcome {
    Outcome::Won(replica)
}

fn lost(kind: HedgeErrorKind, representative: usize) -> Outcome {
    Outcome::Error(kind, Some(representative))
}

#[tokio::test(start_paused = true)]
async fn a_fast_replica_is_the_only_one_asked() {
    check(hedge(), &[ok(0), ok(0)], won(0), 0, 1).await;
    check(hedge(), &[ok(9), ok(0)], won(0), 9, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_replica_loses_to_the_next() {
    check(hedge(), &[ok(90), ok(1)], won(1), 11, 2).await;
    check(hedge(), &[hang(), hang(), ok(1)], won(2), 21, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_replica_may_still_win() {
    check(hedge(), &[ok(15), ok(9)], won(0), 15, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_attempt_at_once() {
    check(hedge(), &[fail(0), ok(3)], won(1), 3, 2).await;
    check(hedge(), &[fail(4), fail(0), ok(3)], won(2), 7, 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_from_the_attempt_started_last() {
    check(hedge(), &[fail(4), hang(), ok(1)], won(2), 15, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_hedge_does_not_kill_a_good_original() {
    check(hedge(), &[ok(50), fail(1)], won(0), 50, 2).await;
    check(hedge(), &[ok(50), panic(1)], won(0), 50, 2).await;
    check(hedge(), &[ok(50), fail(0), fail(0)], won(0), 50, 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_an_error_is_returned_at_once() {
    check(hedge(), &[answer(2), ok(0)], lost(ANSWERED, 0), 2, 1).await;
    check(hedge(), &[ok(50), answer(2)], lost(ANSWERED, 1), 12, 2).await;
    check(hedge(), &[fail(1), answer(2)], lost(ANSWERED, 1), 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_abstention_is_ignored() {
    check(hedge(), &[ok(50), abstain(1), ok(50)], won(0), 50, 3).await;
    // Nobody else is in flight, so the next one is asked without waiting for the delay.
    check(hedge(), &[abstain(1), ok(2)], won(1), 3, 2).await;
    check(Hedge::off(), &[abstain(1), ok(2)], won(1), 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_turned_away_fails_over() {
    check(hedge(), &[refuse(1), ok(2)], won(1), 3, 2).await;
    check(hedge(), &[refuse(1), refuse(1)], lost(EXHAUSTED, 0), 2, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_over() {
    check(hedge(), &[panic(0), ok(2)], won(1), 2, 2).await;
    check(hedge(), &[panic(3), panic(0)], lost(EXHAUSTED, 0), 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_error_is_the_most_informative_one() {
    check(hedge(), &[panic(1), refuse(1), abstain(1), fail(1)], lost(EXHAUSTED, 3), 4, 4).await;
    check(hedge(), &[panic(1), refuse(1), abstain(1)], lost(EXHAUSTED, 2), 3, 3).await;
    // Of equals the first attempt's, though the hedge failed earlier.
    check(hedge(), &[fail(20), fail(1)], lost(EXHAUSTED, 0), 20, 2).await;
    // Of equals among the others the earliest to fail.
    check(hedge(), &[panic(30), fail(15), fail(1)], lost(EXHAUSTED, 2), 30, 3).await;
}

#[tokio::test(start_paused = true)]
async fn without_hedging_only_failures_move_on() {
    check(Hedge::off(), &[ok(5_000), ok(0)], won(0), 5_000, 1).await;
    check(Hedge::off(), &[fail(3), ok(4)], won(1), 7, 2).await;
    check(Hedge::off(), &[fail(3), fail(4)], lost(EXHAUSTED, 0), 7, 2).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_replicas_are_asked_than_allowed() {
    check(hedge().attempts_max(2), &[hang(), ok(50), ok(0)], won(1), 60, 2).await;
    check(hedge().attempts_max(1), &[fail(2), ok(0)], lost(EXHAUSTED, 0), 2, 1).await;
    check(hedge().attempts_max(9), &[fail(2), ok(0)], won(1), 2, 2).await;
}

#[tokio::test(start_paused = true)]
async fn no_replica_is_an_error_at_once() {
    let nobody = Outcome::Error(HedgeErrorKind::NoReplicas, None);
    check(hedge(), &[], nobody, 0, 0).await;
    check(Hedge::off(), &[], nobody, 0, 0).await;

    let begun = Instant::now();
    let error = first_ok([], async |(): ()| Err::<(), _>("down")).await.unwrap_err();
    assert_eq!(error.kind(), HedgeErrorKind::NoReplicas);
    assert_eq!(error.to_string(), "there is no replica to ask");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn replicas_are_asked_in_turn() {
    let replicas = ReplicaSet::new([0, 1, 2]);
    let hedge = hedge();
    for turn in 0..7 {
        let asked = hedge.run(&replicas, async |place| Ok::<_, ()>(place)).await.unwrap();
        assert_eq!(asked, turn % 3);
    }
    // The others follow in order, each once.
    let order = std::sync::Mutex::new(Vec::new());
    let all_fail = hedge.run(&replicas, |place| {
        order.lock().unwrap().push(place);
        async { Err::<(), _>("down") }
    });
    assert_eq!(all_fail.await.unwrap_err().attempts().len(), 3);
    assert_eq!(*order.lock().unwrap(), [1, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_error_names_every_attempt() {
    let replicas = ReplicaSet::new([90, 2]).label(|ms| format!("db-{ms}"));
    let error = hedge()
        .run(&replicas, |ms| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Err::<(), _>(std::io::Error::other("no space"))
        })
        .await
        .unwrap_err();
    let told: Vec<_> = error
        .attempts()
        .iter()
        .map(|it| format!("{} {} {}", it.replica, it.kind, it.elapsed.as_millis()))
        .collect();
    assert_eq!(told, ["db-2 hedge 2", "db-90 first 90"]);
    assert_eq!(error.to_string(), "db-90: the replica failed (1 more failed)");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no space");
    assert!(matches!(error.representative().unwrap().failure, AttemptFailure::Failed(_)));
    assert_eq!(error.into_error().unwrap().to_string(), "no space");
}

#[tokio::test(start_paused = true)]
async fn sending_to_all_asks_everybody_at_once_and_ignores_fast_errors() {
    let asked = std::sync::Mutex::new(BTreeSet::new());
    let begun = Instant::now();
    let alive = std::sync::Arc::new(());
    let winner = first_ok([50, -1, 20, -30], |ms: i64| {
        asked.lock().unwrap().insert(ms);
        let alive = alive.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await;
            drop(alive);
            if ms < 0 { Err("down") } else { Ok(ms) }
        }
    });
    assert_eq!(winner.await.unwrap(), 20);
    assert_eq!(begun.elapsed(), Duration::from_millis(20));
    assert_eq!(asked.lock().unwrap().len(), 4);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1, "a loser outlived the call");
}

#[tokio::test(start_paused = true)]
async fn sending_to_all_fails_when_all_fail() {
    let error = first_ok([3, 1, 0], |ms| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        assert!(ms > 0, "the third one panics");
        Err::<(), _>(ms)
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), HedgeErrorKind::Exhausted);
    assert_eq!(error.attempts().len(), 3);
    assert_eq!(error.to_string(), "1: the replica failed (2 more failed)");
    assert_eq!(error.into_error(), Some(1));
}

#[test]
#[should_panic(expected = "a call that may ask nobody")]
fn asking_nobody_is_a_mistake_of_the_caller() {
    drop(hedge().attempts_max(0));
}
