//! What became of every leg: counters that sum, and a gauge that goes back to zero.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the legs of the scatters it is given to. A cheap handle: clones share the counters.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sortie::ScatterError<u8, std::io::Error>> {
/// let ledger = sortie::ScatterLedger::default();
/// sortie::Scatter::over([1, 2]).ledger(&ledger).run(|leg| async move { Ok(leg) }).await?;
/// assert_eq!(ledger.stats().ok, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScatterLedger(Arc<Counters>);

/// The legs of a [`ScatterLedger`] so far. Each leg of an ended scatter is in exactly one counter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ScatterStats {
    /// Legs that answered.
    pub ok: u64,
    /// Legs that failed; a panic is a failure.
    pub failed: u64,
    /// Legs that were running when another failed or the caller went away.
    pub cancelled: u64,
    /// Legs that were running when the deadline passed.
    pub timed_out: u64,
    /// Legs that had not begun when the scatter ended.
    pub not_started: u64,
    /// Legs that run now.
    pub in_flight: u64,
}

#[derive(Debug, Default)]
struct Counters {
    ended: [AtomicU64; Outcome::COUNT],
    in_flight: AtomicU64,
}

/// How a leg ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Ok,
    Failed,
    Cancelled,
    TimedOut,
    NotStarted,
}

/// One scatter's entries in the ledger. Its drop books what is left: legs still running were
/// cancelled, the others never started. So it must be dropped after the legs.
#[derive(Debug)]
pub(super) struct Account {
    ledger: Option<ScatterLedger>,
    ended: [u64; Outcome::COUNT],
    waiting: u64,
    running: u64,
    /// How many of `running` the gauge shows. It is brought up to date once a turn, so that a leg
    /// that is ready at once costs no shared write.
    shown: u64,
}

impl ScatterLedger {
    /// Returns the counters as they are now. They are read one after another, so a scatter that
    /// ends meanwhile may be counted in part.
    pub fn stats(&self) -> ScatterStats {
        let ended = |outcome: Outcome| self.0.ended[outcome as usize].load(Relaxed);
        ScatterStats {
            ok: ended(Outcome::Ok),
            failed: ended(Outcome::Failed),
            cancelled: ended(Outcome::Cancelled),
            timed_out: ended(Outcome::TimedOut),
            not_started: ended(Outcome::NotStarted),
            in_flight: self.0.in_flight.load(Relaxed),
        }
    }
}

impl Outcome {
    const COUNT: usize = 5;
}

impl Account {
    pub(super) fn open(ledger: Option<ScatterLedger>, legs: usize) -> Self {
        Self { ledger, ended: [0; Outcome::COUNT], waiting: legs as u64, running: 0, shown: 0 }
    }

    pub(super) fn start(&mut self) {
        self.waiting -= 1;
        self.running += 1;
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.running -= 1;
        self.ended[outcome as usize] += 1;
    }

    /// Brings the gauge up to date.
    pub(super) fn show(&mut self) {
        let Some(ledger) = &self.ledger else { return };
        // Wrapping addition of the difference: right for both signs.
        ledger.0.in_flight.fetch_add(self.running.wrapping_sub(self.shown), Relaxed);
        self.shown = self.running;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ended[Outcome::Cancelled as usize] += self.running;
        self.ended[Outcome::NotStarted as usize] += self.waiting;
        self.running = 0;
        self.show();
        let Some(ledger) = &self.ledger else { return };
        for (total, own) in ledger.0.ended.iter().zip(self.ended) {
            if own > 0 {
                total.fetch_add(own, Relaxed);
            }
        }
    }
}
