//! Scripted replicas, and the checks that hold after every call on them.

use std::error::Error;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie::{
    AttemptFailure, AttemptKind, Class, FailedAttempt, Hedge, HedgeError, HedgeErrorKind,
    HedgeLedger, Loser, Loss, ReplicaSet,
};
use tokio::time::sleep;

/// What a replica does after `after_ms`; with 0 it does so when it is first polled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) after_ms: u64,
    pub(super) does: Does,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Does {
    Ok,
    Fail,
    Answer,
    Abstain,
    /// Returns a value that the classification turns away.
    Refuse,
    Panic,
    Hang,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Won(usize),
    /// The kind, and which replica the representative attempt was on.
    Error(HedgeErrorKind, Option<usize>),
}

/// The caller's error: what went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Trouble(pub(super) Does);

/// One replica: its place and its script.
pub(super) type Replica = (usize, Script);

type Classifier = fn(&Result<(usize, Does), Trouble>) -> Class;
type Losers = Arc<Mutex<Vec<Loser<Replica>>>>;

/// Who holds `alive` while no attempt does: the rig and its reaper.
const AT_REST: usize = 2;

/// A hedge over scripted replicas that counts what happens on its own.
pub(super) struct Rig {
    pub(super) hedge: Hedge<Classifier, Collect>,
    pub(super) replicas: ReplicaSet<Replica>,
    started: AtomicUsize,
    calls: AtomicUsize,
    alive: Arc<()>,
    losers: Losers,
}

/// A reaper that checks that a loser's future is gone and keeps the loser.
#[derive(Clone)]
pub(super) struct Collect {
    alive: Arc<()>,
    losers: Losers,
}

impl Rig {
    pub(super) fn new(hedge: Hedge, scripts: &[Script]) -> Self {
        let (alive, losers) = (Arc::new(()), Losers::default());
        let collect = Collect { alive: Arc::clone(&alive), losers: Arc::clone(&losers) };
        Self {
            hedge: hedge.classify(classify as Classifier).reaper(collect),
            replicas: ReplicaSet::new(scripts.iter().copied().enumerate()),
            started: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            alive,
            losers,
        }
    }

    pub(super) async fn call(&self) -> Outcome {
        outcome(&self.call_in_full().await)
    }

    pub(super) fn call_in_full(
        &self,
    ) -> impl Future<Output = Result<(usize, Does), HedgeError<Trouble>>> {
        self.calls.fetch_add(1, Relaxed);
        self.hedge.run(&self.replicas, |(place, script): Replica| {
            self.started.fetch_add(1, Relaxed);
            play(place, script, Arc::clone(&self.alive))
        })
    }

    pub(super) fn started(&self) -> usize {
        self.started.load(Relaxed)
    }

    /// The losers so far, oldest first: why, on which replica, of which kind, how old in ms.
    pub(super) fn losers(&self) -> Vec<(Loss, usize, AttemptKind, u128)> {
        let losers = self.losers.lock().unwrap();
        losers.iter().map(|it| (it.why, it.replica.0, it.kind, it.age.as_millis())).collect()
    }

    /// Nothing runs: the ledger closes, its figures agree with those counted here, gauges are 0.
    pub(super) fn assert_at_rest(&self) -> HedgeLedger {
        assert_eq!(Arc::strong_count(&self.alive), AT_REST, "an attempt outlived its call");
        let ledger = self.hedge.ledger();
        let HedgeLedger { requests, requests_ok, requests_err, requests_abandoned, .. } = ledger;
        assert_eq!(requests, self.calls.load(Relaxed) as u64);
        assert_eq!(requests, requests_ok + requests_err + requests_abandoned, "{ledger:?}");
        assert_eq!(ledger.attempts(), self.started() as u64, "{ledger:?}");
        assert_eq!(ledger.attempts(), ledger.attempts_ended(), "{ledger:?}");
        assert_eq!((ledger.in_flight(), ledger.requests_in_flight()), (0, 0));
        assert_eq!(ledger.won, requests_ok);
        assert_eq!(ledger.lost + ledger.abandoned, self.losers.lock().unwrap().len() as u64);
        assert!(self.replicas.in_flight().all(|(_, gauge)| gauge == 0), "{:?}", self.replicas);
        ledger
    }
}

impl sortie::Reaper<Replica> for Collect {
    fn reap(&self, loser: Loser<Replica>) {
        let alive = Arc::strong_count(&self.alive);
        assert_eq!(alive, AT_REST, "reaped before it was dropped");
        self.losers.lock().unwrap().push(loser);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Error for Trouble {}

/// What an attempt that failed did, as far as its record shows it.
pub(super) fn did(attempt: &FailedAttempt<Trouble>) -> Does {
    match &attempt.failure {
        AttemptFailure::Answered(Trouble(Does::Answer)) => Does::Answer,
        AttemptFailure::Failed(Trouble(Does::Fail)) => Does::Fail,
        AttemptFailure::Abstained(Trouble(Does::Abstain)) => Does::Abstain,
        AttemptFailure::Refused => Does::Refuse,
        AttemptFailure::Panicked(message) if &**message == "scripted" => Does::Panic,
        other => panic!("no script does {other:?}"),
    }
}

pub(super) fn outcome(result: &Result<(usize, Does), HedgeError<Trouble>>) -> Outcome {
    match result {
        Ok((place, _)) => Outcome::Won(*place),
        Err(error) => {
            let place = error.representative().map(|it| it.replica.parse().unwrap());
            Outcome::Error(error.kind(), place)
        }
    }
}

fn classify(outcome: &Result<(usize, Does), Trouble>) -> Class {
    match outcome {
        Ok((_, Does::Refuse)) => Class::FailOver,
        Ok(_) => Class::Win,
        Err(Trouble(Does::Answer)) => Class::Answer,
        Err(Trouble(Does::Abstain)) => Class::Abstain,
        Err(_) => Class::FailOver,
    }
}

async fn play(place: usize, script: Script, alive: Arc<()>) -> Result<(usize, Does), Trouble> {
    let Script { after_ms, does } = script;
    if after_ms > 0 {
        sleep(Duration::from_millis(after_ms)).await;
    }
    if does == Does::Hang {
        std::future::pending::<()>().await;
    }
    drop(alive);
    match does {
        Does::Ok | Does::Refuse => Ok((place, does)),
        Does::Panic => panic!("scripted"),
        _ => Err(Trouble(does)),
    }
}
