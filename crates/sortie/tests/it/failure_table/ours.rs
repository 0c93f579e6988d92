//! What sortie has to show for itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sortie::{FlightError, Idle, MemoryCache, ReadThrough, SingleFlight};

use super::rows::{BoxFuture, Failure, Got, Load, Subject};

/// The flights alone.
#[derive(Clone)]
pub(crate) struct Flights(SingleFlight<u64, u64, Failure>);

/// A cache, and the flights behind it.
#[derive(Clone)]
pub(crate) struct Cached {
    values: ReadThrough<u64, u64, Failure>,
    /// What asks the database; the last one that was given.
    load: Arc<Mutex<Option<Load>>>,
}

fn told(error: FlightError<Failure>) -> Failure {
    match error {
        FlightError::Failed(failure) => (*failure).clone(),
        other => Failure(other.to_string()),
    }
}

impl Subject for Flights {
    const IS_CACHE: bool = false;

    fn new() -> Self {
        // As under a cache: callers that give up leave their load to those who come after them.
        let linger = Idle::Linger(Duration::from_secs(10));
        Self(SingleFlight::builder().idle(linger).build())
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        let flights = self.0.clone();
        Box::pin(async move { flights.run(key, move || load()).await.map_err(told) })
    }

    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>> {
        self.0.forget(&key);
        Some(Box::pin(async {}))
    }
}

impl Subject for Cached {
    const IS_CACHE: bool = true;

    fn new() -> Self {
        let load = Arc::new(Mutex::new(None::<Load>));
        let given = Arc::clone(&load);
        let values = ReadThrough::new(MemoryCache::new(1_000), move |_key| {
            let load = given
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
                .expect("a load is given with each get");
            load()
        });
        Self { values, load }
    }

    fn get(&self, key: u64, load: Load) -> BoxFuture<Got> {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load);
        let values = self.values.clone();
        Box::pin(async move { values.get(&key).await.map_err(told) })
    }

    fn invalidate(&self, key: u64) -> Option<BoxFuture<()>> {
        let values = self.values.clone();
        Some(Box::pin(async move { values.invalidate(&key).await }))
    }
}
