//! The cores that sessions run on: one current-thread runtime each, on a thread of its own.
//!
//! A session runs on one core at a time, with its sockets. What the runtime of all cores together
//! would do is left out: no task is stolen, and no worker is woken to look for one.
//!
//! Sessions share a core as long as it is not busy: a thread that finds several of them ready
//! whenever it wakes spends less on each than two threads that wake for one at a time. Busy is what
//! computes: a thread that is awake may only wait for its turn among the servers that it has asked.
//! A core that has become busy hands sessions over to one that is nearly idle.
//!
//! # Invariants
//!
//! 1. A session is polled by one core at a time: it is handed over as a whole, by its owner.
//! 2. Of two cores at most one gives sessions away at a time, and no more than make both equal.

mod ride;
mod socket;

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub(crate) use self::ride::Ride;
pub(crate) use self::socket::Socket;

/// How long tasks that nobody waits for any more may take to notice it.
pub(crate) const END_MAX: Duration = Duration::from_secs(1);

/// Sessions that share a core while another one has none: how many may come before it is measured
/// whether the core is busy. A choice, the pools of a few services.
const PACKED_MAX: usize = 256;

/// A core that computed for more than this share of the time, in thousandths, is busy. No more, as
/// it does not get more than that where others want the same processors; ADR 0035 has the figures.
const BUSY_MIN: u32 = 500;

/// A core that computed for less than this share may be given sessions of a busy one.
const CALM_MAX: u32 = BUSY_MIN / 2;

/// Over how long that is measured.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// All cores. Dropping it ends their runtimes, and with them whatever still runs there.
#[derive(Debug)]
pub(crate) struct Cores(Vec<Core>);

#[derive(Debug)]
struct Core {
    runtime: Handle,
    desk: Arc<Desk>,
    /// Where the system says how long its thread has computed; `None` where it does not.
    schedule: Option<PathBuf>,
    /// Dropping it ends the thread; `None` only while that happens.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a core and its sessions tell each other.
#[derive(Debug, Default)]
struct Desk {
    /// Places that are taken.
    taken: AtomicUsize,
    /// For how much of the last window it computed, in thousandths.
    load: AtomicU32,
    /// Which window this is.
    window: AtomicUsize,
    /// Sessions that did something in it.
    active: AtomicUsize,
    /// How many of them are to go to another core.
    leaving: AtomicUsize,
}

/// A session's place on a core; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place(Arc<Desk>);

impl Cores {
    /// Starts a runtime for each core of the machine.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (0..count).map(Core::start).collect::<io::Result<_>>().map(Self)
    }

    /// A place on the first core that has few sessions and is not busy, or else on the one that
    /// has the fewest, and the runtime of that core.
    pub(crate) fn place(&self) -> (Place, &Handle) {
        let has_room =
            |core: &&Core| core.desk.taken.load(Relaxed) < PACKED_MAX && !core.desk.is_busy();
        let fewest = || self.0.iter().min_by_key(|core| core.desk.taken.load(Relaxed));
        let core = self.0.iter().find(has_room).or_else(fewest);
        core.expect("there is at least one core").place()
    }

    /// A place on the core that computes the least, for a session that leaves its own.
    pub(crate) fn calmest(&self) -> (Place, &Handle) {
        let core = self.0.iter().min_by_key(|core| core.desk.load.load(Relaxed));
        core.expect("there is at least one core").place()
    }

    /// Looks again and again how busy the cores are, and has a busy one give sessions away.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops looking; what was to be given away may still be.
    pub(crate) async fn keep_measured(&self) -> Infallible {
        let mut before: Vec<Duration> = self.0.iter().map(Core::computed).collect();
        loop {
            let began = Instant::now();
            sleep(BUSY_WINDOW).await;
            for (core, before) in self.0.iter().zip(&mut before) {
                let now = core.computed();
                let load = share(now.saturating_sub(*before), began.elapsed());
                core.desk.load.store(load, Relaxed);
                *before = now;
            }
            self.level();
        }
    }

    /// Has the busiest core give sessions away, if another one is calm, and begins a window.
    fn level(&self) {
        let loads = || self.0.iter().map(|core| core.desk.load.load(Relaxed));
        let (most, least) = (loads().max().unwrap_or(0), loads().min().unwrap_or(0));
        let mut is_uneven = most > BUSY_MIN && least < CALM_MAX;
        for Core { desk, .. } in &self.0 {
            let active = desk.active.swap(0, Relaxed);
            let gives = is_uneven && desk.load.load(Relaxed) == most;
            let leaving = if gives { leaving(active, most, least) } else { 0 };
            is_uneven &= !gives;
            desk.leaving.store(leaving, Relaxed);
            desk.window.fetch_add(1, Relaxed);
        }
    }
}

/// How much of the time that passed a core computed, in thousandths.
fn share(computed: Duration, passed: Duration) -> u32 {
    let share = computed.as_micros() * 1_000 / passed.as_micros().max(1);
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// How many of its active sessions a core gives to another one, so that both compute as much.
fn leaving(active: usize, most: u32, least: u32) -> usize {
    let (most, least) = (most as usize, least as usize);
    active * most.saturating_sub(least) / (2 * most).max(1)
}

impl Cores {
    /// Waits until every core has run a task. Returns whether they all could.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting.
    pub(crate) async fn all_answer(&self) -> bool {
        let mut asked = JoinSet::new();
        for core in &self.0 {
            asked.spawn_on(async {}, &core.runtime);
        }
        let mut all = true;
        while let Some(answered) = asked.join_next().await {
            // The runtime of a core that has ended runs nothing.
            all &= answered.is_ok();
        }
        all
    }
}

impl Core {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        let run = move || {
            socket::enter(index);
            // Nobody listens any more when that could not be waited for.
            tell.send(schedule()).ok();
            // An error is the sender's end, which is the same word.
            runtime.block_on(stopped).ok();
            runtime.shutdown_timeout(END_MAX);
        };
        let thread = thread::Builder::new().name(format!("core-{index}")).spawn(run)?;
        let schedule = told.recv().ok().flatten();
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { runtime: handle, desk: Arc::default(), schedule, stop, thread })
    }

    fn place(&self) -> (Place, &Handle) {
        self.desk.taken.fetch_add(1, Relaxed);
        (Place(Arc::clone(&self.desk)), &self.runtime)
    }

    /// How long its thread has computed so far; where that is not known, how long it was awake.
    fn computed(&self) -> Duration {
        let read = |path: &PathBuf| parse_schedule(&fs::read_to_string(path).ok()?);
        let awake = || self.runtime.metrics().worker_total_busy_duration(0);
        self.schedule.as_ref().and_then(read).unwrap_or_else(awake)
    }
}

impl Desk {
    fn is_busy(&self) -> bool {
        self.load.load(Relaxed) > BUSY_MIN
    }

    /// Takes one of the departures that there are to be, if any is left.
    fn departs(&self) -> bool {
        let left = self.leaving.load(Relaxed);
        // Only the core's own thread takes any.
        left > 0 && self.leaving.compare_exchange(left, left - 1, Relaxed, Relaxed).is_ok()
    }
}

/// Where Linux says how long the calling thread has computed and has waited for its turn, if it
/// does (`CONFIG_SCHEDSTATS` or `CONFIG_SCHED_INFO`; `proc(5)`, "schedstat").
fn schedule() -> Option<PathBuf> {
    let thread = PathBuf::from("/proc").join(fs::read_link("/proc/thread-self").ok()?);
    let path = thread.join("schedstat");
    parse_schedule(&fs::read_to_string(&path).ok()?)?;
    Some(path)
}

/// The first of three numbers: nanoseconds of computing.
fn parse_schedule(text: &str) -> Option<Duration> {
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

impl Drop for Cores {
    fn drop(&mut self) {
        for core in &mut self.0 {
            core.stop = None;
        }
        for thread in self.0.iter_mut().filter_map(|core| core.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a core ended with a panic");
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
