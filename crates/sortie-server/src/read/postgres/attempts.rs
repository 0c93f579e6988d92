//! What becomes of the attempts at one replica, for whoever shows it to people.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie::Boarding;
use tokio::time::Instant;

/// The share of one more answer in the usual time, as a power of two.
const WEIGHT: u64 = 3;

/// What the attempts of one shard's read have in common.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// The read's flight; 0 is none.
    flight: u64,
    /// Until the first attempt has its connection, whoever asks the same is in time to share it.
    boarding: Mutex<Option<Boarding>>,
    begun: AtomicU32,
    failed: AtomicU32,
}

impl Trail {
    pub(super) fn of(flight: u64, boarding: Option<Boarding>) -> Self {
        Self { flight, boarding: Mutex::new(boarding), ..Self::default() }
    }

    /// From here on who comes is late.
    pub(super) fn board(&self) {
        // Nothing in the lock's scope panics.
        drop(self.boarding.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// One replica's.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The flights of those under way; as many as the replica is asked for.
    running: Mutex<Vec<u64>>,
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    hedges: AtomicU64,
    hedge_wins: AtomicU64,
    /// The usual time of an answer, in microseconds; 0 is not known yet.
    usual: AtomicU64,
}

/// How they stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptStats {
    /// The flights that wait for this replica.
    pub(crate) flights: Vec<u64>,
    pub(crate) begun: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Those that were begun while another replica was being asked, and had not failed.
    pub(crate) hedges: u64,
    /// Hedges that answered first.
    pub(crate) hedge_wins: u64,
    /// What an answer usually takes, as a moving average.
    pub(crate) usual: Option<Duration>,
}

/// An attempt, until it is dropped.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    all: &'a Attempts,
    trail: &'a Trail,
    is_hedge: bool,
}

impl Attempts {
    pub(super) fn begin<'a>(&'a self, trail: &'a Trail) -> Attempt<'a> {
        // Of those before this one all but the failed ones are still waited for.
        let before = trail.begun.fetch_add(1, Relaxed);
        let is_hedge = before > trail.failed.load(Relaxed);
        self.begun.fetch_add(1, Relaxed);
        if is_hedge {
            self.hedges.fetch_add(1, Relaxed);
        }
        self.running().push(trail.flight);
        Attempt { all: self, trail, is_hedge }
    }

    pub(super) fn read(&self) -> AttemptStats {
        let read = |count: &AtomicU64| count.load(Relaxed);
        AttemptStats {
            flights: self.running().clone(),
            begun: read(&self.begun),
            answered: read(&self.answered),
            failed: read(&self.failed),
            hedges: read(&self.hedges),
            hedge_wins: read(&self.hedge_wins),
            usual: Some(read(&self.usual)).filter(|it| *it > 0).map(Duration::from_micros),
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<u64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// It was answered; the statement was sent at that time.
    pub(super) fn answered(&self, sent: Instant) {
        self.all.answered.fetch_add(1, Relaxed);
        if self.is_hedge {
            self.all.hedge_wins.fetch_add(1, Relaxed);
        }
        let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        // Two at a time may count as one: it is an average.
        let usual = match self.all.usual.load(Relaxed) {
            0 => took,
            usual => usual - (usual >> WEIGHT) + (took >> WEIGHT),
        };
        self.all.usual.store(usual.max(1), Relaxed);
    }

    /// It failed: the next one is no hedge.
    pub(super) fn failed(&self) {
        self.trail.failed.fetch_add(1, Relaxed);
        self.all.failed.fetch_add(1, Relaxed);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut running = self.all.running();
        if let Some(place) = running.iter().position(|flight| *flight == self.trail.flight) {
            running.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hedge_is_begun_beside_another_and_a_failover_after_one() {
        let (one, two) = (Attempts::default(), Attempts::default());
        let trail = Trail::of(7, None);
        let (first, second) = (one.begin(&trail), two.begin(&trail));
        assert_eq!((one.read().flights, two.read().hedges), (vec![7], 1));
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(8)).await;
        second.answered(sent);
        drop((first, second));
        let stats = two.read();
        assert_eq!((stats.hedge_wins, stats.usual), (1, Some(Duration::from_millis(8))));
        assert!(one.read().flights.is_empty());

        let trail = Trail::of(8, None);
        let failed = one.begin(&trail);
        failed.failed();
        drop(failed);
        two.begin(&trail).answered(Instant::now());
        let stats = two.read();
        assert_eq!((stats.begun, stats.hedges, stats.hedge_wins), (2, 1, 1));
        assert_eq!(stats.usual, Some(Duration::from_millis(7)));
        assert_eq!((one.read().begun, one.read().failed, one.read().answered), (2, 1, 0));
    }
}
