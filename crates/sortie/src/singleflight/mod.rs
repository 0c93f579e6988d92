//! Single flight: concurrent equal reads run once.

mod call;
mod config;
mod error;
mod stats;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

pub use self::call::{Call, FlightCx, Landed, Role};
use self::config::Config;
pub use self::config::{AtLimit, Idle, Join, SingleFlightBuilder, WhenStuck};
pub use self::error::FlightError;
pub use self::stats::FlightStats;
use crate::rt::sync::Mutex;
use crate::rt::time::{self, Instant};

/// A registry of flights: equal reads that overlap in time share one load.
pub struct SingleFlight<K, V, E> {
    shared: Arc<(Config, Mutex<FlightStats>)>,
    holds: PhantomData<fn(K) -> (V, E)>,
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Makes a registry with the default settings.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts from the default settings.
    pub fn builder() -> SingleFlightBuilder<K, V, E> {
        SingleFlightBuilder::new()
    }

    fn with_config(config: Config) -> Self {
        Self { shared: Arc::new((config, Mutex::default())), holds: PhantomData }
    }

    /// Returns the value of `key`, from a load that runs already or from `load`.
    ///
    /// # Errors
    ///
    /// See [`FlightError`].
    pub async fn run<L, F>(&self, key: K, load: L) -> Result<V, FlightError<E>>
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let landed = self.run_with(key, Call::new(), move |_cx| load()).await?;
        Ok(landed.value)
    }

    /// As [`run`](Self::run), with this caller's own wishes, and told how the value was come by.
    ///
    /// # Errors
    ///
    /// See [`FlightError`].
    pub async fn run_with<L, F>(
        &self,
        _key: K,
        call: Call,
        load: L,
    ) -> Result<Landed<V>, FlightError<E>>
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let config = &self.shared.0;
        self.shared.1.lock().solos += 1;
        let began = Instant::now();
        let deadline = began.checked_add(config.flight_max);
        let ends = [deadline, call.deadline].into_iter().flatten().min();
        let run = AssertUnwindSafe(async { load(FlightCx { began, deadline }).await });
        let run = run.catch_unwind();
        let ended = match ends {
            Some(ends) => {
                time::timeout_at(ends, run).await.map_err(|_late| FlightError::TimedOut)?
            }
            None => run.await,
        };
        match ended {
            Ok(Ok(value)) => Ok(Landed { value, role: Role::Solo, began }),
            Ok(Err(error)) => Err(FlightError::failed(error)),
            Err(payload) => Err(FlightError::panicked(&*payload)),
        }
    }

    /// Closes the flights of `key` to every later call.
    pub fn forget(&self, _key: &K) {}

    /// Counts what happened so far and what is in flight.
    pub fn stats(&self) -> FlightStats {
        *self.shared.1.lock()
    }
}

impl<K, V, E> Default for SingleFlight<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, E> Clone for SingleFlight<K, V, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), holds: PhantomData }
    }
}

impl<K, V, E> fmt::Debug for SingleFlight<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("config", &self.shared.0).finish_non_exhaustive()
    }
}
