//! Random scripts against a simulation that knows only the rules, not the code.

use std::time::Duration;

use proptest::prelude::*;
use sortie::{AttemptKind, Hedge, HedgeErrorKind, HedgeLedger};
use tokio::time::{Instant, timeout};

use super::rig::{Does, Outcome, Rig, Script, did, outcome};

/// Latencies and delays are multiples of it, so that each replica's own bit below it (see
/// [`latency`]) keeps any two events from falling on the same millisecond.
const UNIT_MS: u64 = 32;
const REPLICAS_MAX: usize = 4;

#[derive(Clone, Debug)]
struct Case {
    scripts: Vec<Script>,
    delay_ms: Option<u64>,
    attempts_max: usize,
    /// When the caller of each call loses patience.
    patience_ms: Vec<u64>,
}

/// What one call came to. `None` if the caller lost patience.
#[derive(Debug, Eq, PartialEq)]
struct Told {
    outcome: Option<Outcome>,
    took_ms: u64,
    failed: Vec<(usize, AttemptKind, u64, Does)>,
}

struct Running {
    place: usize,
    kind: AttemptKind,
    since: u64,
    ends: Option<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let script = (
        0..=6_u64,
        prop_oneof![
            3 => Just(Does::Ok),
            3 => Just(Does::Fail),
            1 => Just(Does::Answer),
            1 => Just(Does::Abstain),
            1 => Just(Does::Refuse),
            1 => Just(Does::Panic),
            1 => Just(Does::Hang),
        ],
    );
    let scripts = prop::collection::vec(script, 0..=REPLICAS_MAX);
    let delay = prop::option::weighted(0.8, (1..=3_u64).prop_map(|units| units * UNIT_MS));
    // Odd, so that no event coincides with it.
    let patience = prop_oneof![Just(99_999), (0..20 * UNIT_MS).prop_map(|ms| ms | 1)];
    let patience = prop::collection::vec(patience, 1..=5);
    (scripts, delay, 1..=REPLICAS_MAX + 1, patience).prop_map(
        |(scripts, delay_ms, max, patience)| {
            let scripts = scripts.into_iter().enumerate();
            let scripts = scripts
                .map(|(place, (units, does))| Script { after_ms: latency(place, units), does })
                .collect();
            Case { scripts, delay_ms, attempts_max: max, patience_ms: patience }
        },
    )
}

/// Zero means ready when first polled. Otherwise the bit of `place` is set: sums along a chain of
/// failovers stay distinct.
fn latency(place: usize, units: u64) -> u64 {
    match units {
        0 => 0,
        _ => units * UNIT_MS + (2 << place),
    }
}

/// The rules, on an abstract clock. `turn` is the replica whose turn it is.
fn simulate(case: &Case, turn: usize, patience: u64, ledger: &mut HedgeLedger) -> Told {
    let replicas = case.scripts.len();
    let asked_max = replicas.min(case.attempts_max);
    let (mut now, mut asked, mut last_start) = (0, 0, 0);
    let mut running: Vec<Running> = Vec::new();
    let mut told = Told { outcome: None, took_ms: 0, failed: Vec::new() };
    let mut next = Some(AttemptKind::First);
    ledger.requests += 1;
    loop {
        if let Some(kind) = next.take().filter(|_| asked < asked_max) {
            let place = (turn + asked) % replicas;
            let Script { after_ms, does } = case.scripts[place];
            let ends = (does != Does::Hang).then_some(now + after_ms);
            running.push(Running { place, kind, since: now, ends });
            (asked, last_start) = (asked + 1, now);
            match kind {
                AttemptKind::First => ledger.firsts += 1,
                AttemptKind::Hedge => ledger.hedges += 1,
                _ => ledger.failovers += 1,
            }
        } else if running.is_empty() {
            ledger.requests_err += 1;
            told.outcome = Some(exhausted(&told.failed));
            break;
        }
        let end = running.iter().filter_map(|it| it.ends).min().unwrap_or(u64::MAX);
        let timer = case.delay_ms.filter(|_| asked < asked_max).map(|delay| last_start + delay);
        let timer = timer.unwrap_or(u64::MAX);
        if patience < end.min(timer) {
            now = patience;
            ledger.requests_abandoned += 1;
            ledger.abandoned += running.len() as u64;
            break;
        }
        now = end.min(timer);
        if timer < end {
            next = Some(AttemptKind::Hedge);
            continue;
        }
        let over = running.remove(running.iter().position(|it| it.ends == Some(end)).unwrap());
        told.outcome = settle(case.scripts[over.place].does, &over, now, &mut told, ledger);
        if told.outcome.is_some() {
            ledger.lost += running.len() as u64;
            break;
        }
        let ignored = case.scripts[over.place].does == Does::Abstain && !running.is_empty();
        next = (!ignored).then_some(AttemptKind::Failover);
    }
    told.took_ms = now;
    told
}

/// Books an end; returns the call's outcome if that is decided by it.
fn settle(
    does: Does,
    over: &Running,
    now: u64,
    told: &mut Told,
    ledger: &mut HedgeLedger,
) -> Option<Outcome> {
    match does {
        Does::Ok => {
            ledger.won += 1;
            ledger.requests_ok += 1;
            ledger.hedge_wins += u64::from(over.kind == AttemptKind::Hedge);
            ledger.failover_wins += u64::from(over.kind == AttemptKind::Failover);
            return Some(Outcome::Won(over.place));
        }
        Does::Answer => {
            ledger.answered += 1;
            ledger.requests_err += 1;
        }
        Does::Fail | Does::Refuse => ledger.failed_over += 1,
        Does::Abstain => ledger.abstained += 1,
        Does::Panic => ledger.panicked += 1,
        Does::Hang => unreachable!("it never ends"),
    }
    told.failed.push((over.place, over.kind, now - over.since, does));
    (does == Does::Answer).then_some(Outcome::Error(HedgeErrorKind::Answered, Some(over.place)))
}

fn exhausted(failed: &[(usize, AttemptKind, u64, Does)]) -> Outcome {
    let by_information = [Does::Fail, Does::Abstain, Does::Refuse, Does::Panic];
    let best = by_information.iter().find_map(|does| {
        let mut same = failed.iter().filter(|it| it.3 == *does);
        let first = same.clone().find(|it| it.1 == AttemptKind::First);
        first.or_else(|| same.next())
    });
    match best {
        Some(best) => Outcome::Error(HedgeErrorKind::Exhausted, Some(best.0)),
        None => Outcome::Error(HedgeErrorKind::NoReplicas, None),
    }
}

async fn observe(rig: &Rig, patience_ms: u64) -> Told {
    let begun = Instant::now();
    let result = timeout(Duration::from_millis(patience_ms), rig.call_in_full()).await.ok();
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let attempts = match &result {
        Some(Err(error)) => error.attempts(),
        _ => &[],
    };
    let failed = attempts
        .iter()
        .map(|it| {
            let elapsed = u64::try_from(it.elapsed.as_millis()).unwrap();
            (it.replica.parse().unwrap(), it.kind, elapsed, did(it))
        })
        .collect();
    Told { outcome: result.as_ref().map(outcome), took_ms, failed }
}

async fn check(case: &Case) {
    let hedge = case.delay_ms.map_or_else(Hedge::off, |ms| Hedge::after(Duration::from_millis(ms)));
    let rig = Rig::new(hedge.attempts_max(case.attempts_max), &case.scripts);
    let mut ledger = HedgeLedger::default();
    for (call, &patience_ms) in case.patience_ms.iter().enumerate() {
        let turn = call % case.scripts.len().max(1);
        let mut expected = simulate(case, turn, patience_ms, &mut ledger);
        if !matches!(expected.outcome, Some(Outcome::Error(..))) {
            expected.failed.clear(); // Nobody is told of failures that did not matter.
        }
        assert_eq!(observe(&rig, patience_ms).await, expected);
        assert_eq!(rig.assert_at_rest(), ledger);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_script_ends_as_the_rules_say(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(check(&case));
    }
}
