//! The cores that sessions run on: one current-thread runtime each, on a thread of its own.
//!
//! A session stays on its core from its start to its end, with its sockets and its timers. What
//! the runtime of all cores together would do is left out: no task is stolen, and no worker is
//! woken to look for one.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long tasks that nobody waits for any more may take to notice it.
pub(crate) const END_MAX: Duration = Duration::from_secs(1);

/// All cores. Dropping it ends their runtimes, and with them whatever still runs there.
#[derive(Debug)]
pub(crate) struct Cores(Vec<Core>);

#[derive(Debug)]
struct Core {
    runtime: Handle,
    /// Places that are taken.
    taken: Arc<AtomicUsize>,
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

    /// A place on the core that has the fewest sessions, and the runtime of that core.
    pub(crate) fn place(&self) -> (Place, &Handle) {
        let core = self.0.iter().min_by_key(|core| core.taken.load(Relaxed));
        let core = core.expect("there is at least one core");
        core.taken.fetch_add(1, Relaxed);
        (Place(Arc::clone(&core.taken)), &core.runtime)
    }
}

impl Core {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An error is the sender's end, which is the same word.
            runtime.block_on(stopped).ok();
            runtime.shutdown_timeout(END_MAX);
        };
        let thread = thread::Builder::new().name(format!("core-{index}")).spawn(run)?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { runtime: handle, taken: Arc::default(), stop, thread })
    }
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
