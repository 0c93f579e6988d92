//! When a load's query is sent, as told by the load.
//!
//! A load that waits for a connection has begun nothing yet: whoever arrives meanwhile is early
//! enough for it. The load says so by holding a [`Boarding`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};
use std::time::Duration;

use crate::rt::time::Instant;

/// Says that a flight has not begun: for as long as this lives, it may be joined by callers that
/// want a load which begins after they arrived.
///
/// Dropping it is the begin. See [`FlightCx::boarding`](crate::FlightCx::boarding).
#[derive(Debug)]
#[must_use = "the flight has begun when this is dropped"]
pub struct Boarding(pub(super) Vec<Arc<Gate>>);

impl Drop for Boarding {
    fn drop(&mut self) {
        for gate in &self.0 {
            gate.close();
        }
    }
}

/// The moment of the begin, shared by a flight's entry and its load.
#[derive(Debug)]
pub(super) struct Gate {
    launched: Instant,
    /// Nanoseconds from the launch to the begin, or `OPEN`.
    begun_after: AtomicU64,
}

const OPEN: u64 = u64::MAX;

impl Gate {
    /// A gate that closed at the launch: a load that holds nothing begins there.
    pub(super) fn new(launched: Instant) -> Arc<Self> {
        Arc::new(Self { launched, begun_after: AtomicU64::new(0) })
    }

    pub(super) fn open(&self) {
        self.begun_after.store(OPEN, SeqCst);
    }

    fn close(&self) {
        let nanos = self.launched.elapsed().as_nanos();
        self.begun_after.store(u64::try_from(nanos).unwrap_or(OPEN - 1), SeqCst);
        // Not before it is visible to every caller that arrives is anything sent.
        fence(SeqCst);
    }

    /// When the load began; `None` while it has not.
    pub(super) fn begun(&self) -> Option<Instant> {
        match self.begun_after.load(SeqCst) {
            OPEN => None,
            nanos => Some(self.launched + Duration::from_nanos(nanos)),
        }
    }
}
