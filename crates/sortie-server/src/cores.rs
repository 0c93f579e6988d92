//! The cores that sessions run on: one current-thread runtime each, on a thread of its own.
//!
//! A session stays on its core from its start to its end, with its sockets and its timers. What
//! the runtime of all cores together would do is left out: no task is stolen, and no worker is
//! woken to look for one.
//!
//! Few sessions share a core as long as it is not busy: a thread that finds several of them ready
//! whenever it wakes spends far less on each than two threads that wake for one at a time, and
//! the clients and servers on the same machine keep their caches. Busy is what computes: a thread
//! that is awake and waits for its turn would not get on faster on two cores that are as full.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::{fs, io};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long tasks that nobody waits for any more may take to notice it.
pub(crate) const END_MAX: Duration = Duration::from_secs(1);

/// Sessions that share a core while another one has none. A choice, from ADR 0018's figures: at 64
/// sessions one thread is the cheaper one, and far more would have to move before it is full.
const PACKED_MAX: usize = 64;

/// A core that computed for more than this share of the time, in thousandths, is busy.
const BUSY_MIN: u32 = 700;

/// Over how long that is measured. No longer is needed: no more than [`PACKED_MAX`] sessions are
/// placed by what is no longer true.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// All cores. Dropping it ends their runtimes, and with them whatever still runs there.
#[derive(Debug)]
pub(crate) struct Cores(Vec<Core>);

#[derive(Debug)]
struct Core {
    runtime: Handle,
    /// Places that are taken.
    taken: Arc<AtomicUsize>,
    is_busy: AtomicBool,
    /// Where the system says how long its thread has computed; `None` where it does not.
    schedule: Option<PathBuf>,
    /// Dropping it ends the thread; `None` only while that happens.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A session's place on a core; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Cores {
    /// Starts a runtime for each core of the machine.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (0..count).map(Core::start).collect::<io::Result<_>>().map(Self)
    }

    /// A place on the first core that has few sessions and is not busy, or else on the one that
    /// has the fewest, and the runtime of that core.
    pub(crate) fn place(&self) -> (Place, &Handle) {
        let has_room = |core: &&Core| {
            core.taken.load(Relaxed) < PACKED_MAX && !core.is_busy.load(Relaxed)
        };
        let fewest = || self.0.iter().min_by_key(|core| core.taken.load(Relaxed));
        let core = self.0.iter().find(has_room).or_else(fewest);
        let core = core.expect("there is at least one core");
        core.taken.fetch_add(1, Relaxed);
        (Place(Arc::clone(&core.taken)), &core.runtime)
    }

    /// Looks again and again how busy the cores are.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops looking.
    pub(crate) async fn keep_measured(&self) -> Infallible {
        let mut before: Vec<Duration> = self.0.iter().map(Core::computed).collect();
        loop {
            let began = Instant::now();
            sleep(BUSY_WINDOW).await;
            for (core, before) in self.0.iter().zip(&mut before) {
                let now = core.computed();
                let is_busy = is_busy(now.saturating_sub(*before), began.elapsed());
                core.is_busy.store(is_busy, Relaxed);
                *before = now;
            }
        }
    }
}

/// Whether a core is that computed as long as this of the time that passed.
fn is_busy(computed: Duration, passed: Duration) -> bool {
    computed * 1_000 > passed * BUSY_MIN
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
            // Nobody listens any more when that could not be waited for.
            tell.send(schedule()).ok();
            // An error is the sender's end, which is the same word.
            runtime.block_on(stopped).ok();
            runtime.shutdown_timeout(END_MAX);
        };
        let thread = thread::Builder::new().name(format!("core-{index}")).spawn(run)?;
        let schedule = told.recv().ok().flatten();
        let (stop, thread) = (Some(stop), Some(thread));
        let is_busy = AtomicBool::new(false);
        Ok(Self { runtime: handle, taken: Arc::default(), is_busy, schedule, stop, thread })
    }

    /// How long its thread has computed so far; where that is not known, how long it was awake.
    fn computed(&self) -> Duration {
        let read = |path: &PathBuf| parse_schedule(&fs::read_to_string(path).ok()?);
        let awake = || self.runtime.metrics().worker_total_busy_duration(0);
        self.schedule.as_ref().and_then(read).unwrap_or_else(awake)
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
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
