//! Scatter: order, the primary error, limits, deadlines, panics, and nothing left behind.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sortie::{Scatter, ScatterError, ScatterLedger, ScatterStats};
use tokio::time::{Instant, sleep};

/// One leg's script: it answers after so many milliseconds, a negative figure means it fails.
type Script = i64;

const NEVER: Script = 1 << 40;
/// Fails at its first poll.
const AT_ONCE: Script = Script::MIN;

/// What a scatter over scripted legs came to, in a form that is easy to compare.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    All(Vec<Script>),
    Failed { text: String, gathered: Vec<usize> },
}

async fn answer(script: Script, alive: Arc<()>) -> Result<Script, io::Error> {
    if script != 0 && script != AT_ONCE {
        sleep(Duration::from_millis(script.unsigned_abs())).await;
    }
    drop(alive);
    if script < 0 { Err(io::Error::other("down")) } else { Ok(script) }
}

/// Runs `scripts` and checks the outcome, the time it took and that nothing is left.
async fn check(scripts: &[Script], limit: usize, expected: Outcome, took_ms: u64) {
    let (alive, ledger, began) = (Arc::new(()), ScatterLedger::default(), Instant::now());
    let ran = Scatter::over(scripts.iter().copied())
        .limit(limit)
        .ledger(&ledger)
        .run(|script| answer(script, Arc::clone(&alive)))
        .await;
    assert_eq!(Arc::strong_count(&alive), 1, "a leg outlived the call");
    assert_eq!(began.elapsed(), Duration::from_millis(took_ms));
    let stats = ledger.stats();
    let ScatterStats { ok, failed, cancelled, timed_out, not_started, in_flight, .. } = stats;
    assert_eq!(ok + failed + cancelled + timed_out + not_started, scripts.len() as u64);
    assert_eq!(in_flight, 0);
    assert_eq!(outcome(ran), expected);
}

fn outcome(ran: Result<Vec<Script>, ScatterError<Script, io::Error>>) -> Outcome {
    match ran {
        Ok(answers) => Outcome::All(answers),
        Err(error) => Outcome::Failed {
            text: error.to_string(),
            gathered: error.gathered().iter().map(|gathered| gathered.ordinal).collect(),
        },
    }
}

fn failed(text: &str, gathered: &[usize]) -> Outcome {
    Outcome::Failed { text: text.to_owned(), gathered: gathered.to_vec() }
}

#[tokio::test(start_paused = true)]
async fn answers_are_in_shard_order_whatever_order_they_arrive_in() {
    check(&[30, 0, 10, 0, 20], 9, Outcome::All(vec![30, 0, 10, 0, 20]), 30).await;
}

#[tokio::test(start_paused = true)]
async fn no_legs_give_an_empty_answer() {
    check(&[], 9, Outcome::All(vec![]), 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_leg_is_answered_or_named() {
    check(&[7], 9, Outcome::All(vec![7]), 7).await;
    check(&[-7], 9, failed("shard 0 failed", &[]), 7).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_error_cancels_the_rest() {
    let expected = failed("shard 2 failed; cancelled: 0", &[1]);
    check(&[NEVER, 1, -5], 9, expected, 5).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_error_is_not_waited_for_at_any_width() {
    for width in [2, 30, 31, 64, 1_000] {
        let mut scripts = vec![NEVER; width - 1];
        scripts.push(-1);
        let began = Instant::now();
        let ran = Scatter::over(scripts).run(|script| answer(script, Arc::default())).await;
        let error = ran.unwrap_err();
        assert_eq!(error.primary().label, (width - 1).to_string());
        assert_eq!(error.cancelled().len(), width - 1);
        assert_eq!(began.elapsed(), Duration::from_millis(1), "{width} legs");
    }
}

#[tokio::test(start_paused = true)]
async fn of_errors_in_one_turn_the_lowest_shard_is_primary() {
    let expected = failed("shard 1 failed; 1 more, on shard 3; cancelled: 0, 2", &[]);
    check(&[NEVER, -5, 9, -5], 9, expected, 5).await;
}

#[tokio::test(start_paused = true)]
async fn under_a_limit_legs_start_in_shard_order_and_the_unstarted_are_reported() {
    check(&[10, 10, 10, 10, 10], 2, Outcome::All(vec![10; 5]), 30).await;
    let expected = failed("shard 1 failed; cancelled: 2; not started: 3, 4", &[0]);
    check(&[4, -6, NEVER, 0, 0], 2, expected, 6).await;
    check(&[0, 0, 0, 0], 1, Outcome::All(vec![0; 4]), 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_ready_at_once_starts_nothing_more() {
    let expected = failed("shard 1 failed; cancelled: 0; not started: 2, 3", &[]);
    check(&[NEVER, AT_ONCE, 0, 0], 9, expected, 0).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "at least one leg")]
async fn a_limit_of_zero_is_refused_at_once() {
    drop(Scatter::over([1]).limit(0));
}
