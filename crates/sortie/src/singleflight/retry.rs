//! Retries, which belong to the flight: their number does not grow with its callers.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::observe::{Event, Observer};
use crate::singleflight::call::FlightCx;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::Load;
use crate::singleflight::party::Outcome;
use crate::singleflight::table::Table;

/// Which failures are tried again, how often, and when.
pub(super) struct Retries<E> {
    attempts_max: u32,
    backoff: Duration,
    retryable: Box<dyn Fn(&E) -> bool + Send + Sync>,
    /// Spreads the pauses of different flights.
    jitter: RandomState,
    count: AtomicU64,
}

impl<K, V, E> Table<K, V, E> {
    /// What a flight tries its load again with, if it does. `cx` is there whenever it might.
    pub(super) fn again<T>(&self, load: &Load<T, E>, cx: Option<&FlightCx>) -> Option<Again<T, E>> {
        let retries = Arc::clone(self.retries.as_ref()?);
        let (load, cx, observer) = (Arc::clone(load), cx?.clone(), self.observer.clone());
        Some(Again { load, cx, retries, observer, attempt: 1 })
    }

    /// Whether a load that has ended so in its first poll is tried again.
    pub(super) fn is_retried<T>(&self, ended: &Outcome<T, E>) -> bool {
        ended.is_err() && self.retries.as_ref().is_some_and(|retries| retries.wants(1, ended))
    }
}

impl<E> Retries<E> {
    pub(super) fn new(
        retries_max: u32,
        backoff: Duration,
        retryable: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (retryable, jitter) = (Box::new(retryable), RandomState::new());
        Self {
            attempts_max: retries_max.saturating_add(1),
            backoff,
            retryable,
            jitter,
            count: AtomicU64::new(0),
        }
    }

    /// How many loads were tried again so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Whether an attempt with this number that ended so is followed by another.
    pub(super) fn wants<V>(&self, attempt: u32, ended: &Outcome<V, E>) -> bool {
        let Err(FlightError::Failed(error)) = ended else { return false };
        // A panic of the user's classification is a no: the failure itself is told.
        let asked = AssertUnwindSafe(|| (self.retryable)(error));
        attempt < self.attempts_max && catch_unwind(asked).unwrap_or(false)
    }

    /// The pause after an attempt: doubled each time, and between half and all of that.
    fn pause(&self, flight: u64, attempt: u32) -> Duration {
        let most = self.backoff.saturating_mul(1 << (attempt - 1).min(16));
        let part = u32::try_from(self.jitter.hash_one((flight, attempt)) % 512).unwrap_or(0);
        most / 2 + most / 1024 * part
    }
}

impl<E> fmt::Debug for Retries<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts_max, backoff, .. } = self;
        write!(f, "{attempts_max} attempts, pauses from {backoff:?}")
    }
}

/// What a flight needs to try its load once more.
pub(super) struct Again<V, E> {
    pub(super) load: Load<V, E>,
    pub(super) cx: FlightCx,
    pub(super) retries: Arc<Retries<E>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) attempt: u32,
}

impl<V, E> Again<V, E> {
    /// How long to wait before the next attempt, if there is one.
    pub(super) fn pause(&mut self, ended: &Outcome<V, E>) -> Option<Duration> {
        if !self.retries.wants(self.attempt, ended) {
            return None;
        }
        let pause = self.retries.pause(self.cx.flight.number(), self.attempt);
        self.attempt += 1;
        self.retries.count.fetch_add(1, Relaxed);
        if let Some(observer) = &self.observer {
            let (flight, attempt) = (self.cx.flight, self.attempt);
            observer.event(&Event::Retried { flight, attempt, pause });
        }
        Some(pause)
    }
}
