//! Random schedules: `SingleFlight` against the reference, and both against the rules.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::{ArcWake, waker};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRunner};
use sortie::{Call, FlightError, FlightStats, Join, Landed, SingleFlight};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance};

use super::reference::{Answer, Broken, FLIGHT_MAX, KEYS, Op, Reference, SOFT_AGE, Seen, Wish};

type Flights = SingleFlight<usize, usize, usize>;
type Ended = Result<Landed<usize>, FlightError<usize>>;

/// A load as the schedule sees it: it ends when it is told to.
struct Load {
    key: usize,
    end: Option<oneshot::Sender<bool>>,
    alive: Weak<()>,
}

struct Woken(AtomicBool);

impl ArcWake for Woken {
    fn wake_by_ref(it: &Arc<Self>) {
        it.0.store(true, SeqCst);
    }
}

struct Caller {
    call: Pin<Box<dyn Future<Output = Ended> + Send>>,
    woken: Arc<Woken>,
}

/// The real thing, driven by hand: a caller is polled only if its waker was woken.
struct Real {
    flights: Flights,
    loads: Arc<Mutex<Vec<Load>>>,
    start: Instant,
    callers: Vec<Option<Caller>>,
    answers: Vec<Option<Answer>>,
}

impl Real {
    fn new() -> Self {
        let ages = Flights::builder().soft_age(Duration::from_millis(SOFT_AGE));
        let flights = ages.flight_max(Duration::from_millis(FLIGHT_MAX)).build();
        let start = Instant::now();
        Self { flights, start, loads: Arc::default(), callers: Vec::new(), answers: Vec::new() }
    }

    fn arrive(&mut self, key: usize, wish: Wish, ready: bool) {
        let loads = Arc::clone(&self.loads);
        let load = move |_cx| {
            let alive = Arc::new(());
            let (end, ended) = oneshot::channel();
            let mut loads = loads.lock().unwrap();
            let number = loads.len();
            loads.push(Load { key, end: Some(end), alive: Arc::downgrade(&alive) });
            async move {
                let ok = ready || ended.await.unwrap_or(false);
                drop(alive);
                if ok { Ok(number) } else { Err(number) }
            }
        };
        let flights = self.flights.clone();
        let join = match wish {
            Wish::Running => Join::Running,
            Wish::Fresh => Join::Fresh,
            Wish::Since(ago) => {
                let now = Instant::now() - self.start;
                Join::Since(self.start + now.saturating_sub(Duration::from_millis(ago)))
            }
        };
        let call = Call::new().join(join);
        let call = Box::pin(async move { flights.run_with(key, call, load).await });
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.callers.push(Some(Caller { call, woken }));
        self.answers.push(None);
    }

    async fn settle(&mut self) {
        for _ in 0..3 {
            self.poll_woken();
            tokio::task::yield_now().await;
        }
        self.poll_woken();
    }

    fn poll_woken(&mut self) {
        for (place, answer) in self.callers.iter_mut().zip(&mut self.answers) {
            let Some(caller) = place.as_mut() else { continue };
            if !caller.woken.0.swap(false, SeqCst) {
                continue;
            }
            let waker = waker(Arc::clone(&caller.woken));
            let polled = caller.call.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(ended) = polled {
                *answer = Some(match ended {
                    Ok(landed) => Answer::Load(landed.value),
                    Err(FlightError::Failed(load)) => Answer::Failed(*load),
                    Err(FlightError::TimedOut) => Answer::TimedOut,
                    Err(other) => panic!("{other:?}"),
                });
                *place = None;
            }
        }
    }

    fn seen(&self) -> Seen {
        let loads = self.loads.lock().unwrap();
        Seen {
            begun: loads.iter().map(|load| load.key).collect(),
            alive: loads.iter().map(|load| load.alive.strong_count() > 0).collect(),
            answers: self.answers.clone(),
        }
    }
}

/// What a caller may expect, noted when it arrives.
struct Due {
    key: usize,
    /// No load with a smaller number is good enough.
    floor: usize,
    left: bool,
}

/// The rules themselves, checked on what is seen from outside.
#[derive(Default)]
struct Rules {
    dues: Vec<Due>,
    fences: [usize; KEYS],
}

impl Rules {
    fn arrive(&mut self, key: usize, wish: Wish, reference: &Reference) {
        let moments = reference.began.iter();
        let begun = match wish {
            Wish::Running => 0,
            Wish::Fresh => moments.count(),
            Wish::Since(ago) => {
                moments.filter(|began| **began <= reference.now.saturating_sub(ago)).count()
            }
        };
        self.dues.push(Due { key, floor: begun.max(self.fences[key]), left: false });
    }

    fn check(&self, seen: &Seen) -> Result<(), String> {
        for key in 0..KEYS {
            let alive = seen.begun.iter().zip(&seen.alive).filter(|(k, a)| **k == key && **a);
            if alive.count() > 2 {
                return Err(format!("more than two flights of key {key}"));
            }
        }
        for (caller, (due, answer)) in self.dues.iter().zip(&seen.answers).enumerate() {
            match answer {
                Some(Answer::Load(load)) if *load < due.floor => {
                    return Err(format!(
                        "caller {caller} got load {load}, older than it asked for"
                    ));
                }
                Some(Answer::Load(load)) if seen.begun[*load] != due.key => {
                    return Err(format!("caller {caller} got another key's value"));
                }
                None if !due.left && !flies(due.key, seen) => {
                    return Err(format!("caller {caller} waits and no load runs"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn flies(key: usize, seen: &Seen) -> bool {
    seen.begun.iter().zip(&seen.alive).any(|(k, alive)| *k == key && *alive)
}

/// Runs one schedule. Without `real`, the reference itself is checked against the rules.
async fn run(ops: &[Op], broken: Broken, mut real: Option<&mut Real>) -> Result<(), String> {
    let (mut reference, mut rules) = (Reference::new(broken), Rules::default());
    for op in ops {
        let waiting =
            |caller: &usize| reference.seen.answers[*caller].is_none() && !rules.dues[*caller].left;
        match *op {
            Op::Arrive { key, wish, ready } => {
                rules.arrive(key, wish, &reference);
                reference.arrive(key, wish, ready);
                if let Some(real) = &mut real {
                    real.arrive(key, wish, ready);
                }
            }
            Op::Leave(which) => {
                let waiting: Vec<_> = (0..rules.dues.len()).filter(waiting).collect();
                if let Some(caller) = waiting.get(which % waiting.len().max(1)) {
                    rules.dues[*caller].left = true;
                    reference.leave(*caller);
                    if let Some(real) = &mut real {
                        real.callers[*caller] = None;
                    }
                }
            }
            Op::Forget(key) => {
                rules.fences[key] = reference.seen.begun.len();
                reference.forget(key);
                if let Some(real) = &mut real {
                    real.flights.forget(&key);
                }
            }
            Op::End { which, ok } => {
                let alive = &reference.seen.alive;
                let alive: Vec<_> = (0..alive.len()).filter(|load| alive[*load]).collect();
                if let Some(load) = alive.get(which % alive.len().max(1)) {
                    reference.end(*load, ok);
                    if let Some(real) = &mut real {
                        let end = real.loads.lock().unwrap()[*load].end.take().unwrap();
                        end.send(ok).map_err(|_gone| format!("load {load} is gone"))?;
                    }
                }
            }
            Op::Pass(ms) => {
                let until = reference.now + ms;
                while let Some((at, count)) = reference.next_deadline().filter(|it| it.0 <= until) {
                    if count > 1 {
                        return Ok(()); // Which of two timers is first is nobody's promise.
                    }
                    pass(&mut reference, at, &mut real).await;
                }
                pass(&mut reference, until, &mut real).await;
            }
        }
        // Moments are told apart: no two flights begin, and no two timers ring, at the same one.
        if !matches!(op, Op::Pass(_)) {
            if reference.next_deadline().is_some_and(|(at, _)| at == reference.now + 1) {
                return Ok(());
            }
            settle(&mut real).await;
            let next = reference.now + 1;
            pass(&mut reference, next, &mut real).await;
        }
        compare(&rules, &reference.seen, real.as_deref())
            .map_err(|it| format!("{it}, by {op:?}"))?;
    }
    Ok(())
}

fn compare(rules: &Rules, expected: &Seen, real: Option<&Real>) -> Result<(), String> {
    rules.check(expected)?;
    let Some(real) = real else { return Ok(()) };
    let seen = real.seen();
    rules.check(&seen)?;
    if seen == *expected { Ok(()) } else { Err(format!("saw {seen:?}\nnot {expected:?}")) }
}

async fn settle(real: &mut Option<&mut Real>) {
    if let Some(real) = real {
        real.settle().await;
    }
}

async fn pass(reference: &mut Reference, at: u64, real: &mut Option<&mut Real>) {
    let before = reference.now;
    reference.pass_to(at);
    if let Some(real) = real {
        advance(Duration::from_millis(at - before)).await;
        real.settle().await;
    }
}

fn schedules() -> impl Strategy<Value = Vec<Op>> {
    // One draw per operation: most of the time of this test would go to drawing otherwise.
    prop::collection::vec(any::<u32>().prop_map(operation), 1..24)
}

fn operation(drawn: u32) -> Op {
    let (kind, bits) = (drawn % 16, drawn / 16);
    let (which, key) = (bits as usize, bits as usize % KEYS);
    match kind {
        0..6 => {
            let wish = match bits / 2 % 4 {
                0 => Wish::Fresh,
                1 => Wish::Since(u64::from(bits / 256 % 16)),
                _ => Wish::Running,
            };
            Op::Arrive { key, wish, ready: bits & 0x78 == 0 }
        }
        6..8 => Op::Leave(which),
        8 => Op::Forget(key),
        9..13 => Op::End { which: which / 8, ok: bits % 8 < 5 },
        13..15 => Op::Pass(u64::from(bits % 120) + 1),
        _ => Op::Pass(u64::from(bits % 1_000) + 200),
    }
}

fn runner(cases: u32) -> TestRunner {
    let rng_algorithm = RngAlgorithm::XorShift;
    let config = Config { cases, max_shrink_iters: 2_000, rng_algorithm, ..Config::default() };
    TestRunner::new(Config { failure_persistence: None, ..config })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// How many schedules are tried, other ones at every run. Each break is found in 5,000 of them.
/// `SORTIE_SCHEDULES=100000` tries more than there is time for every day.
fn wanted() -> u32 {
    std::env::var("SORTIE_SCHEDULES").map_or(20_000, |count| count.parse().unwrap())
}

/// A quarter of them: the four run in parallel.
fn agrees_with_the_reference() {
    let runtime = runtime();
    let sums = RefCell::new([0; 8]);
    let cases = wanted() / 4;
    let checked = runner(cases).run(&schedules(), |ops| {
        runtime.block_on(async {
            let mut real = Real::new();
            run(&ops, Broken::Nothing, Some(&mut real)).await.map_err(TestCaseError::fail)?;
            // Everybody leaves: nothing stays behind.
            real.callers.clear();
            real.settle().await;
            let stats = real.flights.stats();
            prop_assert_eq!((stats.in_flight_flights, stats.in_flight_waiters), (0, 0));
            prop_assert!(!real.seen().alive.contains(&true), "a load leaked");
            let FlightStats { leaders, followers, nexts, successors, .. } = stats;
            let FlightStats { failed, timed_out, aborted, superseded, .. } = stats;
            let counts =
                [leaders, followers, nexts, successors, failed, timed_out, aborted, superseded];
            sums.borrow_mut().iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            Ok(())
        })
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    // A schedule that never comes to a rule proves nothing about it.
    let sums = sums.into_inner();
    assert!(sums.iter().all(|sum| *sum > u64::from(cases / 25)), "{sums:?}");
}

#[test]
fn schedules_1_agree_with_the_reference() {
    agrees_with_the_reference();
}

#[test]
fn schedules_2_agree_with_the_reference() {
    agrees_with_the_reference();
}

#[test]
fn schedules_3_agree_with_the_reference() {
    agrees_with_the_reference();
}

#[test]
fn schedules_4_agree_with_the_reference() {
    agrees_with_the_reference();
}

/// The checks are worth something: each rule that is broken on purpose is found out, by the rules
/// alone and by the comparison with the real thing.
#[test]
fn a_broken_rule_is_found() {
    let runtime = runtime();
    let found = |broken, compare: bool| {
        runner(5_000).run(&schedules(), |ops| {
            let mut real = compare.then(Real::new);
            let checked = runtime.block_on(run(&ops, broken, real.as_mut()));
            checked.map_err(TestCaseError::fail)
        })
    };
    assert!(found(Broken::Nothing, false).is_ok());
    let breaks = [
        Broken::FreshJoinsRunning,
        Broken::SinceIsRunning,
        Broken::ForgetIsIgnored,
        Broken::AThirdFlight,
        Broken::AbandonedWaiters,
    ];
    for broken in breaks {
        for compare in [false, true] {
            let verdict = found(broken, compare);
            assert!(matches!(verdict, Err(TestError::Fail(..))), "{broken:?} was not found out");
        }
    }
}
