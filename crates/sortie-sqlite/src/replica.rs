//! A replica: its slots, the queue in front of them, and the threads behind.
//!
//! # Invariants
//!
//! 1. An attempt that is dropped while it waits for a slot never begins, and one that is dropped
//!    while it serves its delay never reaches SQLite.
//! 2. A slot is given back when the worker has let go of the statement, not when its caller lost
//!    interest. There are as many slots as workers, so a job never waits for a worker.
//! 3. An attempt counts as in flight from its first poll until its slot is given back, and is no
//!    longer counted when its answer arrives.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Source;
use crate::worker::Reader;
use crate::{Error, Law, Rows, Trouble, Value};

/// One server of the embedded cluster. Clones are handles to the same server.
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

/// What a replica did so far, and what it does now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// Attempts that got a slot, plus those a failing replica answered at once.
    pub statements: u64,
    /// Attempts dropped before they were answered, begun or not.
    pub cancelled: u64,
    /// Attempts now queued or running.
    pub in_flight: u64,
    /// Attempts now holding a slot.
    pub running: u64,
}

/// The threads of one replica, joined when this is dropped.
pub(crate) struct Pool {
    replica: Replica,
    closing: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

/// How a replica is made.
pub(crate) struct Plan<'a> {
    pub(crate) shard: usize,
    pub(crate) replica: usize,
    pub(crate) file: &'a Path,
    /// Nobody else can write to the file.
    pub(crate) private: bool,
    pub(crate) workers: usize,
    pub(crate) queue_max: usize,
    pub(crate) trouble: &'a Trouble,
}

struct Inner {
    shard: usize,
    replica: usize,
    label: String,
    laws: Vec<Law>,
    fails: bool,
    draws: AtomicU64,
    slots: Arc<Semaphore>,
    attempts_max: u64,
    queue_max: usize,
    jobs: Mutex<Option<Sender<Job>>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    statements: AtomicU64,
    cancelled: AtomicU64,
    in_flight: AtomicU64,
    running: AtomicU64,
}

/// An attempt that got to a worker.
struct Job {
    sql: Arc<str>,
    params: Arc<[Value]>,
    cancelled: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Rows, Source>>,
    // Fields drop in this order: the slot is free before nobody is counted in flight.
    slot: Slot,
    in_flight: InFlight,
}

impl Replica {
    /// Returns the shard's number, a dot, and the replica's number within the shard: `0.1`.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Returns what this replica did so far, and what it does now.
    pub fn stats(&self) -> ReplicaStats {
        let counts = &self.0.counts;
        ReplicaStats {
            statements: counts.statements.load(Relaxed),
            cancelled: counts.cancelled.load(Relaxed),
            in_flight: counts.in_flight.load(Relaxed),
            running: counts.running.load(Relaxed),
        }
    }

    /// Runs one read-only statement; `?1` in it is the first of `params`.
    ///
    /// The attempt waits for a slot, then serves the delay that [`Trouble`] has for it, then runs.
    /// Nothing happens before the first poll.
    ///
    /// # Errors
    ///
    /// [`Error::Failing`] at once when the replica is told to fail, [`Error::Busy`] when its queue
    /// is full, [`Error::Sqlite`] when SQLite refuses the statement, [`Error::Closed`] when the
    /// [`Embedded`](crate::Embedded) cluster was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt and nothing else: queued, it never begins; running,
    /// its own progress handler ends it within some tens of microseconds of work, and only then
    /// its slot is free. The connection is never interrupted.
    ///
    /// # Panics
    ///
    /// Panics if the attempt has a delay to serve outside a Tokio runtime with a timer.
    pub fn query(
        &self,
        sql: Arc<str>,
        params: Arc<[Value]>,
    ) -> impl Future<Output = Result<Rows, Error>> + Send + 'static + use<> {
        Arc::clone(&self.0).attempt(sql, params)
    }
}

impl Pool {
    /// Opens the replica's connections and starts its threads.
    pub(crate) fn start(plan: &Plan<'_>) -> Result<Self, Error> {
        // Unbounded by type, bounded by the slots: a job holds one until a worker is done with it.
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let replica = Replica(Arc::new(Inner::new(plan, sender)));
        let closing = Arc::new(AtomicBool::new(false));
        let mut pool = Self { replica, closing, workers: Vec::with_capacity(plan.workers) };
        for worker in 0..plan.workers {
            let reader = Reader::open(plan.file, plan.private, &pool.closing)
                .map_err(|source| pool.sqlite(source.into()))?;
            let receiver = Arc::clone(&receiver);
            let name = format!("replica-{}-{worker}", pool.replica.label());
            let thread = Builder::new().name(name).spawn(move || work(&reader, &receiver));
            let thread =
                thread.map_err(|source| Error::Io { path: plan.file.to_owned(), source })?;
            pool.workers.push(thread);
        }
        Ok(pool)
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    fn sqlite(&self, source: Source) -> Error {
        Error::Sqlite { at: self.replica.label().to_owned(), source }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let inner = &self.replica.0;
        inner.slots.close();
        self.closing.store(true, Relaxed);
        // Without a sender the workers leave their loop; nobody can queue a job from here on.
        drop(inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to wait for.
            drop(worker.join());
        }
    }
}

impl Inner {
    fn new(plan: &Plan<'_>, jobs: Sender<Job>) -> Self {
        let &Plan { shard, replica, trouble, .. } = plan;
        let laws = trouble.latency.iter().filter(|latency| latency.address.strikes(shard, replica));
        // Replicas draw from sequences of their own, far apart on the one circle of the generator.
        let nth = (shard as u64) << 32 | replica as u64;
        Self {
            shard,
            replica,
            label: format!("{shard}.{replica}"),
            laws: laws.map(|latency| latency.law).collect(),
            fails: trouble.fail.iter().any(|address| address.strikes(shard, replica)),
            draws: AtomicU64::new(mix(trouble.seed ^ mix(nth))),
            slots: Arc::new(Semaphore::new(plan.workers)),
            attempts_max: (plan.workers + plan.queue_max) as u64,
            queue_max: plan.queue_max,
            jobs: Mutex::new(Some(jobs)),
            counts: Arc::default(),
        }
    }

    async fn attempt(self: Arc<Self>, sql: Arc<str>, params: Arc<[Value]>) -> Result<Rows, Error> {
        if self.fails {
            self.counts.statements.fetch_add(1, Relaxed);
            return Err(Error::Failing { shard: self.shard, replica: self.replica });
        }
        let flag = Arc::new(AtomicBool::new(false));
        let counts = Arc::clone(&self.counts);
        let mut caller = Caller { counts, flag: Arc::clone(&flag), left: true };
        let outcome = self.served(sql, params, flag).await;
        caller.left = false;
        outcome
    }

    async fn served(
        &self,
        sql: Arc<str>,
        params: Arc<[Value]>,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Rows, Error> {
        let in_flight = self.enter()?;
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        let slot = Slot::new(permit.map_err(|_closed| self.closed())?, &self.counts);
        let delay = self.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }

        let (reply, answer) = oneshot::channel();
        let job = Job { sql, params, cancelled, reply, slot, in_flight };
        self.send(job)?;
        match answer.await {
            Ok(outcome) => {
                outcome.map_err(|source| Error::Sqlite { at: self.label.clone(), source })
            }
            Err(_worker_gone) => Err(self.closed()),
        }
    }

    fn enter(&self) -> Result<InFlight, Error> {
        let before = self.counts.in_flight.fetch_add(1, Relaxed);
        let in_flight = InFlight(Arc::clone(&self.counts));
        if before >= self.attempts_max {
            return Err(Error::Busy { replica: self.label.clone(), queue_max: self.queue_max });
        }
        Ok(in_flight)
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.closed()) }
    }

    fn delay(&self) -> Duration {
        let law = |law: &Law| law.delay([self.draw(), self.draw()]);
        self.laws.iter().map(law).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns the next number of this replica's sequence, from `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    fn draw(&self) -> f64 {
        let state = self.draws.fetch_add(GAMMA, Relaxed).wrapping_add(GAMMA);
        (mix(state) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn closed(&self) -> Error {
        Error::Closed { replica: self.label.clone() }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replica").field(&self.0.label).finish()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.workers.len();
        f.debug_struct("Pool")
            .field("replica", &self.replica)
            .field("workers", &workers)
            .finish_non_exhaustive()
    }
}

/// The caller's side of an attempt: raises the flag when the caller leaves before the answer.
struct Caller {
    counts: Arc<Counts>,
    flag: Arc<AtomicBool>,
    left: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.left {
            self.counts.cancelled.fetch_add(1, Relaxed);
            self.flag.store(true, Relaxed);
        }
    }
}

/// One attempt in the count of those queued or running.
struct InFlight(Arc<Counts>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// One attempt in the count of those running, and its permit.
struct Slot {
    counts: Arc<Counts>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    fn new(permit: OwnedSemaphorePermit, counts: &Arc<Counts>) -> Self {
        counts.statements.fetch_add(1, Relaxed);
        counts.running.fetch_add(1, Relaxed);
        Self { counts: Arc::clone(counts), _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts.running.fetch_sub(1, Relaxed);
    }
}

/// Runs jobs until the pool is dropped.
fn work(reader: &Reader, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Idle workers wait for their turn at the lock, the first of them for a job.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { sql, params, cancelled, reply, slot, in_flight }) = job else { return };
        let outcome = (!cancelled.load(Relaxed)).then(|| reader.run(&sql, &params, &cancelled));
        // Before the answer, and in this order: the slot is free before nobody is in flight.
        drop((slot, in_flight));
        if let Some(outcome) = outcome {
            // The caller may have left: then its answer is nobody's.
            drop(reply.send(outcome));
        }
    }
}

/// The step of Steele, Lea and Flood's `SplitMix64` (OOPSLA 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of `SplitMix64`: it spreads every bit of `z` over all of the result.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
