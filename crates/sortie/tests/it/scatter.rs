//! Scatter: order, the primary error, limits, deadlines, panics, and nothing left behind.

use std::error::Error as _;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use sortie::{LegFailure, Scatter, ScatterError, ScatterLedger, ScatterStats};
use tokio::sync::Notify;
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
            gathered: error.gathered().iter().map(|gathered| gathered.label.ordinal()).collect(),
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
        assert_eq!(error.primary().label.ordinal(), width - 1);
        assert_eq!(error.cancelled().len(), width - 1);
        assert_eq!(began.elapsed(), Duration::from_millis(1), "{width} legs");
    }
}

#[tokio::test(start_paused = true)]
async fn of_errors_in_one_turn_the_lowest_shard_is_primary() {
    let expected = failed("shard 1 failed; 1 more, on shard 3; cancelled: 0, 2", &[]);
    check(&[NEVER, -5, 9, -5], 9, expected, 5).await;
}

#[tokio::test]
async fn a_tie_is_settled_by_shard_whoever_is_woken_first() {
    let gates: Vec<Notify> = (0..4).map(|_| Notify::new()).collect();
    let ran = Scatter::over(0..4_usize).run(|leg| {
        let gate = &gates[leg];
        async move {
            gate.notified().await;
            Err::<(), _>(io::Error::other("down"))
        }
    });
    let mut ran = Box::pin(ran);
    assert!(ran.as_mut().now_or_never().is_none());
    gates[3].notify_one();
    gates[1].notify_one();
    let error = ran.await.unwrap_err();
    assert_eq!(error.to_string(), "shard 1 failed; 1 more, on shard 3; cancelled: 0, 2");
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

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_legs_that_are_late() {
    let (ledger, began) = (ScatterLedger::default(), Instant::now());
    let error = Scatter::over([10, 30, 40, 0])
        .limit(3)
        .label(|ms| format!("{ms} ms"))
        .deadline(began + Duration::from_millis(20))
        .ledger(&ledger)
        .run(|script| answer(script, Arc::default()))
        .await
        .unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_millis(20));
    assert_eq!(error.to_string(), "shard 30 ms timed out; 1 more, on shard 40 ms");
    assert!(matches!(error.primary().failure, LegFailure::TimedOut) && error.source().is_none());
    let stats = ledger.stats();
    assert_eq!((stats.ok, stats.timed_out, stats.not_started, stats.in_flight), (2, 2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_deadlines_own_turn_comes_first() {
    let deadline = Instant::now() + Duration::from_millis(20);
    let ran = Scatter::over([NEVER, -20]).deadline(deadline);
    let error = ran.run(|script| answer(script, Arc::default())).await.unwrap_err();
    assert_eq!(error.to_string(), "shard 1 failed; cancelled: 0");
    assert_eq!(error.source().unwrap().to_string(), "down");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_starts_nothing_and_hurts_no_empty_scatter() {
    let (began, ledger) = (AtomicUsize::new(0), ScatterLedger::default());
    let visit = |script: Script| {
        began.fetch_add(1, Relaxed);
        answer(script, Arc::default())
    };
    let over = |scripts: &[Script]| {
        Scatter::over(scripts.to_vec()).deadline(Instant::now()).ledger(&ledger).run(visit)
    };
    assert!(over(&[]).await.is_ok());
    let error = over(&[0, 0, 0]).await.unwrap_err();
    assert_eq!(error.to_string(), "shard 0 timed out; not started: 1, 2");
    assert_eq!((began.load(Relaxed), ledger.stats().not_started), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn one_leg_has_its_deadline_and_its_name() {
    let deadline = Instant::now() + Duration::from_millis(20);
    let ran = Scatter::over([NEVER]).label(|_| "eu").deadline(deadline);
    let error = ran.run(|script| answer(script, Arc::default())).await.unwrap_err();
    assert_eq!(error.to_string(), "shard eu timed out");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_scatter_drops_its_legs_before_the_drop_returns() {
    for legs in [1, 3] {
        let (alive, ledger) = (Arc::new(()), ScatterLedger::default());
        let mut ran = Box::pin(
            Scatter::over(vec![NEVER; legs])
                .limit(2)
                .ledger(&ledger)
                .run(|script| answer(script, Arc::clone(&alive))),
        );
        assert!(ran.as_mut().now_or_never().is_none());
        assert_eq!(ledger.stats().in_flight, legs.min(2) as u64);
        drop(ran);
        assert_eq!(Arc::strong_count(&alive), 1);
        let stats = ledger.stats();
        assert_eq!(stats.in_flight, 0);
        assert_eq!((stats.cancelled, stats.not_started), (legs.min(2) as u64, legs as u64 / 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_passed_on_after_the_siblings_are_gone() {
    for (legs, at_ms) in [(1, 0), (1, 5), (40, 0), (40, 5)] {
        let (alive, ledger) = (Arc::new(()), ScatterLedger::default());
        let ran = Scatter::over((0..legs).rev()).ledger(&ledger).run(|leg| {
            let alive = Arc::clone(&alive);
            async move {
                let ms = if leg == 0 { at_ms } else { NEVER };
                answer(ms, alive).await?;
                assert_ne!(leg, 0, "a leg's own panic");
                Ok::<_, io::Error>(())
            }
        });
        let payload = AssertUnwindSafe(ran).catch_unwind().await.unwrap_err();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(message.contains("a leg's own panic"));
        assert_eq!(Arc::strong_count(&alive), 1);
        let stats = ledger.stats();
        assert_eq!((stats.failed, stats.cancelled, stats.in_flight), (1, legs - 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_errors_some_are_kept_and_all_are_counted() {
    let scripts = vec![-5; 100];
    let ran = Scatter::over(scripts).run(|script| answer(script, Arc::default())).await;
    let error = ran.unwrap_err();
    assert_eq!(error.primary().label.ordinal(), 0);
    assert_eq!((error.others().len(), error.others_total()), (64, 99));
}

#[tokio::test(start_paused = true)]
async fn only_the_leg_that_was_woken_is_polled() {
    let polls: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
    let gates: Vec<Notify> = (0..64).map(|_| Notify::new()).collect();
    let ran = Scatter::over(0..64_usize).run(|leg| {
        let (polls, gates) = (&polls, &gates);
        let mut gate = Box::pin(gates[leg].notified());
        std::future::poll_fn(move |cx| {
            polls[leg].fetch_add(1, Relaxed);
            gate.as_mut().poll(cx).map(Ok::<_, io::Error>)
        })
    });
    let mut ran = Box::pin(ran);
    assert!(ran.as_mut().now_or_never().is_none());
    for polls in &polls {
        polls.store(0, Relaxed);
    }
    gates[17].notify_one();
    assert!(ran.as_mut().now_or_never().is_none());
    let polled: Vec<_> = (0..64).filter(|&leg| polls[leg].load(Relaxed) > 0).collect();
    assert_eq!(polled, [17]);
    for gate in &gates {
        gate.notify_one();
    }
    assert_eq!(ran.await.unwrap().len(), 64);
}

/// What a scatter should come to: when each leg ends, by the order in which places come free.
fn model(scripts: &[Script], limit: usize) -> (Outcome, u64) {
    // Legs that end at their first poll take no time and no place.
    let (mut free, mut ends) = (vec![0_u64; limit], Vec::new());
    for script in scripts {
        let place = free.iter_mut().min().expect("there is at least one place");
        let began = *place;
        *place += if *script == AT_ONCE { 0 } else { script.unsigned_abs() };
        ends.push((began, *place));
    }
    let fails = (0..scripts.len()).filter(|&leg| scripts[leg] < 0);
    let Some(primary) = fails.min_by_key(|&leg| (ends[leg].1, leg)) else {
        let last = ends.iter().map(|&(_, ends)| ends).max();
        return (Outcome::All(scripts.to_vec()), last.unwrap_or(0));
    };
    let gathered = |&leg: &usize| scripts[leg] >= 0 && ends[leg].1 <= ends[primary].1;
    let gathered = (0..scripts.len()).filter(gathered).collect();
    (Outcome::Failed { text: format!("shard {primary} failed"), gathered }, ends[primary].1)
}

proptest! {
    #[test]
    fn any_scatter_agrees_with_its_model(
        scripts in prop::collection::vec((1_i64..40, prop::bool::weighted(0.05)), 0..80),
        limit in 1_usize..90,
    ) {
        let scripts: Vec<Script> =
            scripts.into_iter().map(|(ms, fails)| if fails { -ms } else { ms }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().expect("a runtime starts");
        let (seen, took) = runtime.block_on(run(&scripts, limit));
        let (expected, takes) = model(&scripts, limit);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(took, takes);
    }
}

/// Runs `scripts`, checks the books, and returns what the model says too.
async fn run(scripts: &[Script], limit: usize) -> (Outcome, u64) {
    let (alive, ledger, began) = (Arc::new(()), ScatterLedger::default(), Instant::now());
    let ran = Scatter::over(scripts.iter().copied())
        .limit(limit)
        .ledger(&ledger)
        .run(|script| answer(script, Arc::clone(&alive)))
        .await;
    assert_eq!(Arc::strong_count(&alive), 1, "a leg outlived the call");
    let ScatterStats { ok, failed, cancelled, not_started, in_flight, .. } = ledger.stats();
    assert_eq!((ok + failed + cancelled + not_started, in_flight), (scripts.len() as u64, 0));
    if let Err(error) = &ran {
        assert_eq!(error.gathered().len() as u64, ok);
        assert_eq!(error.others_total() as u64 + 1, failed);
        assert_eq!(error.cancelled().len() as u64, cancelled);
        assert_eq!(error.not_started().len() as u64, not_started);
    }
    let took = u64::try_from(began.elapsed().as_millis()).expect("a short test");
    let seen = match outcome(ran) {
        Outcome::Failed { text, gathered } => {
            let primary = text.split(';').next().expect("a split has a first part");
            Outcome::Failed { text: primary.to_owned(), gathered }
        }
        all @ Outcome::All(_) => all,
    };
    (seen, took)
}
