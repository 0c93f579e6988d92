//! How a registry of flights behaves: joins, ages, limits.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::observe::Observer;
use crate::rt::time::Instant;
use crate::singleflight::SingleFlight;
use crate::singleflight::retry::Retries;
use crate::singleflight::shared::Shared;

/// Which load a caller accepts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Join {
    /// Share whatever load runs, as every other single flight does. A caller that has just written
    /// may get a value read before its write.
    #[default]
    Running,
    /// Share only a load that begins after this call: wait for the running one to end, then share
    /// one load with everybody else who waited. Costs up to twice the load's time.
    Fresh,
    /// Share only a load that began after this moment, as `Fresh` from then on. For a session that
    /// has written: the moment when its write was acknowledged is early enough for all it reads
    /// later, and most of its reads share.
    Since(Instant),
}

/// What becomes of a flight when its last caller has left.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Idle {
    /// It is aborted at once.
    #[default]
    Abort,
    /// It runs on for at most this long, and may be joined again meanwhile. For loads that fill a
    /// cache: callers that give up early still leave a value to the next one.
    Linger(Duration),
    /// It runs to its end, or to `flight_max`.
    Detach,
}

/// What a caller gets when a limit is reached.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AtLimit {
    /// Its load runs for it alone, in its own future.
    #[default]
    Solo,
    /// [`FlightError::Busy`](crate::FlightError::Busy).
    Busy,
}

/// What a caller gets when both flights of its key are past their soft age.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum WhenStuck {
    /// It waits for either, to its own deadline.
    #[default]
    Wait,
    /// [`FlightError::Busy`](crate::FlightError::Busy).
    Busy,
}

/// The settings of a registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) join: Join,
    pub(super) idle: Idle,
    pub(super) soft_age: Duration,
    pub(super) flight_max: Duration,
    pub(super) flights_max: usize,
    pub(super) waiters_max: usize,
    pub(super) at_limit: AtLimit,
    pub(super) when_stuck: WhenStuck,
    pub(super) boarding: bool,
    pub(super) batch_max: usize,
    pub(super) lingering_max: usize,
    pub(super) soft_factor: Option<(u32, Duration)>,
    pub(super) join_in_time: bool,
}

impl Config {
    /// Whether anybody asks how long loads take.
    pub(super) fn is_paced(&self) -> bool {
        self.soft_factor.is_some() || self.join_in_time
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            join: Join::Running,
            idle: Idle::Abort,
            // The default of nginx's `proxy_cache_lock_age`: when one more request is let through.
            soft_age: Duration::from_secs(5),
            // Our choice: room for a successor and its own soft age before everybody is told.
            flight_max: Duration::from_secs(30),
            flights_max: 1 << 16,
            waiters_max: 1 << 20,
            at_limit: AtLimit::Solo,
            when_stuck: WhenStuck::Wait,
            boarding: false,
            batch_max: 1 << 10,
            lingering_max: 1 << 10,
            soft_factor: None,
            join_in_time: false,
        }
    }
}

/// Settings for a [`SingleFlight`]; see [`SingleFlight::builder`].
pub struct SingleFlightBuilder<K, V, E> {
    config: Config,
    retries: Option<Arc<Retries<E>>>,
    shared: Option<Arc<Shared<V>>>,
    observer: Option<Arc<dyn Observer>>,
    makes: PhantomData<fn(K)>,
}

impl<K, V, E> SingleFlightBuilder<K, V, E> {
    pub(super) fn new() -> Self {
        let (config, makes) = (Config::default(), PhantomData);
        Self { config, retries: None, shared: None, observer: None, makes }
    }

    /// Which load a caller accepts that does not say otherwise. Default: [`Join::Running`].
    #[must_use]
    pub fn join(mut self, join: Join) -> Self {
        self.config.join = join;
        self
    }

    /// What becomes of a flight without callers. Default: [`Idle::Abort`].
    #[must_use]
    pub fn idle(mut self, idle: Idle) -> Self {
        self.config.idle = idle;
        self
    }

    /// The age past which a flight takes no new callers and one successor starts beside it.
    ///
    /// Default: 5 s, as nginx's `proxy_cache_lock_age`. [`Duration::MAX`] means never.
    #[must_use]
    pub fn soft_age(mut self, soft_age: Duration) -> Self {
        self.config.soft_age = soft_age;
        self
    }

    /// Counts the soft age from how long loads take: `factor` times the moving average of the key,
    /// not less than `floor`, and not more than [`soft_age`](Self::soft_age), which also holds
    /// until a load has been measured. Default: not. Three is a good factor.
    ///
    /// Averages are kept for 4,096 groups of keys, not for each key.
    #[must_use]
    pub fn soft_age_factor(mut self, factor: u32, floor: Duration) -> Self {
        self.config.soft_factor = Some((factor, floor));
        self
    }

    /// Whether a caller whose deadline comes before the load that it would wait for is expected to
    /// end gets [`FlightError::Busy`](crate::FlightError::Busy) at once. Default: no, it waits and
    /// hopes. A caller who would lead is never refused for this.
    #[must_use]
    pub fn join_in_time(mut self, join_in_time: bool) -> Self {
        self.config.join_in_time = join_in_time;
        self
    }

    /// The age at which a flight is aborted and its callers get `TimedOut`.
    ///
    /// Default: 30 s. [`Duration::MAX`] means never.
    #[must_use]
    pub fn flight_max(mut self, flight_max: Duration) -> Self {
        self.config.flight_max = flight_max;
        self
    }

    /// How many keys may be in flight at once, each with at most two loads. Default: 65,536.
    ///
    /// Never exceeded. Large limits are kept by shard, so a caller may meet one up to 1 in 128
    /// early.
    #[must_use]
    pub fn flights_max(mut self, flights_max: NonZeroUsize) -> Self {
        self.config.flights_max = flights_max.get();
        self
    }

    /// How many callers may wait at once, over all keys. Default: 1,048,576.
    #[must_use]
    pub fn waiters_max(mut self, waiters_max: NonZeroUsize) -> Self {
        self.config.waiters_max = waiters_max.get();
        self
    }

    /// How many bytes of values that have landed may be held for callers who have not taken them
    /// yet: past that a caller meets a limit instead of joining. `weigh` says how many a value has.
    /// Default: not counted.
    ///
    /// A value's weight is known when it lands, so flights that are joined already may still exceed
    /// it; they are not joined by more.
    #[must_use]
    pub fn shared_bytes_max(
        mut self,
        shared_bytes_max: NonZeroUsize,
        weigh: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.shared = Some(Arc::new(Shared::new(shared_bytes_max.get(), weigh)));
        self
    }

    /// How many flights may run on without callers under [`Idle::Linger`]; past that the one that
    /// has lingered longest is aborted. Default: 1,024.
    #[must_use]
    pub fn lingering_max(mut self, lingering_max: NonZeroUsize) -> Self {
        self.config.lingering_max = lingering_max.get();
        self
    }

    /// What a caller gets when a limit is reached. Default: [`AtLimit::Solo`].
    #[must_use]
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.config.at_limit = at_limit;
        self
    }

    /// What a caller gets when both flights of its key hang. Default: [`WhenStuck::Wait`].
    #[must_use]
    pub fn when_stuck(mut self, when_stuck: WhenStuck) -> Self {
        self.config.when_stuck = when_stuck;
        self
    }

    /// Whether loads say themselves when they begin, by [`FlightCx::boarding`]. Default: no, they
    /// begin when they are called.
    ///
    /// [`FlightCx::boarding`]: crate::FlightCx::boarding
    #[must_use]
    pub fn boarding(mut self, boarding: bool) -> Self {
        self.config.boarding = boarding;
        self
    }

    /// How many keys one load of [`run_many`](SingleFlight::run_many) is given. Default: 1,024.
    #[must_use]
    pub fn batch_max(mut self, batch_max: NonZeroUsize) -> Self {
        self.config.batch_max = batch_max.get();
        self
    }

    /// Tries a load again that fails with an error for which `retryable` says yes, at most
    /// `retries_max` times. Default: never.
    ///
    /// Before the first retry it pauses for between half and all of `backoff`, and twice as long
    /// each time. Retries are the flight's: there are no more of them however many callers wait,
    /// and its ages and its freshness count from its begin. A load that runs for its caller alone
    /// is not retried, and neither is a panic.
    #[must_use]
    pub fn retries(
        mut self,
        retries_max: u32,
        backoff: Duration,
        retryable: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.retries = Some(Arc::new(Retries::new(retries_max, backoff, retryable)));
        self
    }

    /// Who is told of what happens, while it happens. Default: nobody, and nothing is measured.
    ///
    /// One observer may serve many registries.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Makes the registry.
    pub fn build(self) -> SingleFlight<K, V, E>
    where
        K: Eq + Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        SingleFlight::built(self.config, self.retries, self.shared, self.observer)
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

impl<K, V, E> Clone for SingleFlightBuilder<K, V, E> {
    fn clone(&self) -> Self {
        let (retries, shared) = (self.retries.clone(), self.shared.clone());
        let observer = self.observer.clone();
        Self { config: self.config, retries, shared, observer, makes: PhantomData }
    }
}

impl<K, V, E> fmt::Debug for SingleFlightBuilder<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SingleFlightBuilder").field(&self.config).finish()
    }
}
