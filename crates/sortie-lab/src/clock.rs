//! Time and threads, as one who has no runtime sees them.

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

const POLL_MIN: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(20);

#[expect(
    clippy::disallowed_methods,
    reason = "processes live in real time, and no runtime is here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` until it has an answer; `None` when `limit` passed first.
///
/// Blocks its thread: for callers without a runtime.
pub(crate) fn until<T, E>(
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let end = now() + limit;
    let mut poll = POLL_MIN;
    loop {
        if let Some(answer) = probe()? {
            return Ok(Some(answer));
        }
        if now() >= end {
            return Ok(None);
        }
        std::thread::park_timeout(poll);
        poll = (poll * 2).min(POLL_MAX);
    }
}

/// Waits for a thread; a panic there goes on here.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
