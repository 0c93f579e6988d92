//! Single flight: concurrent equal reads run once.
//!
//! A *flight* is one running load for a key; its *leader* started it, its *followers* joined.
//!
//! # Invariants
//!
//! 1. Nobody joins a flight that has ended, and nobody is given a load that is older than asked
//!    for.
//! 2. A load is polled by its leader while nobody else needs it, and for a few milliseconds at
//!    most; whoever does gives it a task of its own. No caller drives or keeps anything that
//!    another needs: any of them may be parked or dropped at any time. Only `run_local` is driven
//!    by its leader to the end; whoever waits for it can go on without that one.
//! 3. A key has at most two flights; loads outside the table (*solo*) are counted apart.
//! 4. An outcome is made once. A cancelled caller is never another caller's result.

mod arrivals;
mod batch;
mod boarding;
mod call;
mod clock;
mod config;
mod contained;
mod crew;
mod crowd;
mod entry;
mod error;
mod flight;
mod flying;
mod landing;
mod launch;
mod lineage;
mod lingering;
mod local;
mod lone;
mod lost;
mod pace;
mod party;
mod resting;
mod retry;
mod seat;
mod settle;
mod shared;
mod solo;
mod sought;
mod stats;
mod table;
mod takeoff;
mod tether;
mod told;
mod traffic;
mod view;
mod watch;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

pub use self::boarding::Boarding;
pub use self::call::{Call, FlightCx, FlightId, Landed, Role};
use self::config::Config;
pub use self::config::{AtLimit, Idle, Join, SingleFlightBuilder, WhenStuck};
pub use self::error::FlightError;
use self::flying::Valued;
use self::retry::Retries;
use self::shared::Shared;
use self::sought::{Borrowed, Owned};
pub use self::stats::FlightStats;
use self::table::Table;
pub use self::view::FlightView;
use crate::observe::Observer;

/// A registry of flights: equal reads that overlap in time share one load.
///
/// The handle is cheap to clone; clones are the same registry.
///
/// # How it works
///
/// The first caller of a key leads: it polls its load itself. If the load is not done soon after
/// another caller came (two rounds of the tasks that can run), and after 5 ms at the latest, it
/// gets a task of its own. Callers that come while it runs follow it, and all get the same outcome.
/// The entry of a key goes in the step that publishes the outcome: this is not a cache.
///
/// * **A caller that is cancelled, dropped or never polled again harms nobody.** Whoever waits
///   takes the load from the caller that started it; if nobody does, what it holds is kept for 5 ms
///   at most. So a load can't count on the task-locals of its caller. What becomes of a load
///   without callers is [`Idle`]'s to say.
/// * **A runtime that shuts down takes its loads along, and no caller of another.** Who waits for
///   such a load in another runtime has it begun again there, by the first of them that is polled.
/// * **A slow load is relieved.** Past its soft age (5 s unless set) a flight takes no new callers,
///   and one successor starts beside it by itself. The successor's answer goes to the callers of
///   both, for it began later; the old one's goes to its own callers only. Whoever is first ends
///   the wait; an old flight whose callers were all answered is aborted.
/// * **A failure is shared once.** A successor that fails leaves the old flight's callers to the
///   old flight; an old flight that fails while its successor runs leaves them to that one, whose
///   outcome is theirs whatever it is: nobody waits for more than two loads. Nothing is retried by
///   itself; the next new caller leads another successor. `flight_max` is told at once to all
///   callers of the flight that has reached it.
/// * **Joins have a freshness**: see [`Join`].
/// * **A load that would wait for itself is told at once** ([`FlightError::Reentrant`]), also by
///   way of other keys and registries, and of loads that others began. Only what a load asks for
///   from its own task is seen: a circle through a task that it spawned, a channel, a lock or
///   another process ends at `flight_max`.
///
/// # When not to use it
///
/// For writes, and for reads whose result depends on who asks: the key must hold everything that
/// the result depends on.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use sortie::{FlightError, Join, SingleFlight};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), FlightError<std::io::Error>> {
/// let flights = SingleFlight::builder().join(Join::Fresh).soft_age(Duration::from_secs(1));
/// let flights = flights.build();
/// let load = || async {
///     tokio::time::sleep(Duration::from_millis(50)).await;
///     Ok::<_, std::io::Error>(100)
/// };
/// let (one, two) = tokio::join!(flights.run("balance", load), flights.run("balance", load));
/// assert_eq!((one?, two?), (100, 100));
/// # Ok(())
/// # }
/// ```
pub struct SingleFlight<K, V, E> {
    table: Arc<Table<K, V, E>>,
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

    fn built(
        config: Config,
        retries: Option<Arc<Retries<E>>>,
        shared: Option<Arc<Shared<V>>>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Self { table: Arc::new(Table::new(config, retries, shared, observer)) }
    }

    /// Returns the value of `key`, from a load that runs already or from `load`.
    ///
    /// `load` may be called again, by a flight of its own: it is what a successor runs when the
    /// first one hangs.
    ///
    /// # Errors
    ///
    /// [`Failed`](FlightError::Failed) and [`Panicked`](FlightError::Panicked) are the load's own
    /// end. [`TimedOut`](FlightError::TimedOut): the flight lasted longer than `flight_max`.
    /// [`Busy`](FlightError::Busy): a limit was reached. [`Reentrant`](FlightError::Reentrant): the
    /// load asked for its own key. [`Aborted`](FlightError::Aborted): it was cancelled, or was lost
    /// with its runtime again and again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future gives up this caller's place and touches nobody else's. If
    /// it was the last caller, [`Idle`] says what becomes of the load; by default it is dropped,
    /// and what that does to a query on the wire is the load's to say.
    ///
    /// # Panics
    ///
    /// Panics if a load is not ready in its first poll and there is no tokio runtime with a timer.
    /// A panic of the load itself is an error, not a panic.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = sortie::SingleFlight::<u64, u64, std::io::Error>::new();
    /// let balance = flights.run(42, || async { Ok(100) }).await;
    /// assert_eq!(balance.unwrap(), 100);
    /// # }
    /// ```
    #[inline]
    pub fn run<L, F>(
        &self,
        key: K,
        load: L,
    ) -> impl Future<Output = Result<V, FlightError<E>>> + Send
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let hash = self.table.hash(&key);
        Valued(self.fly_untimed(Owned(key), hash, Call::new(), move |_cx| load()))
    }

    /// As [`run`](Self::run), with this caller's own wishes, and told how the value was come by.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); [`TimedOut`](FlightError::TimedOut) also when the caller's own
    /// deadline passes.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::{Call, Join, Role, SingleFlight};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = SingleFlight::<u64, u64, std::io::Error>::new();
    /// let call = Call::new().join(Join::Fresh);
    /// let landed = flights.run_with(42, call, |_cx| async { Ok(100) }).await.unwrap();
    /// assert_eq!((landed.value, landed.role), (100, Role::Leader));
    /// # }
    /// ```
    #[inline]
    pub fn run_with<L, F>(
        &self,
        key: K,
        call: Call,
        load: L,
    ) -> impl Future<Output = Result<Landed<V>, FlightError<E>>> + Send
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let hash = self.table.hash(&key);
        self.fly(Owned(key), hash, call, load)
    }

    /// As [`run_with`](Self::run_with), for a key that is kept by the caller: it is copied only if
    /// there is no flight to share.
    ///
    /// # Errors
    ///
    /// As [`run_with`](Self::run_with).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::{Call, SingleFlight};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = SingleFlight::<String, u64, std::io::Error>::new();
    /// let landed = flights.run_by("balance", Call::new(), |_cx| async { Ok(100) }).await;
    /// assert_eq!(landed.unwrap().value, 100);
    /// # }
    /// ```
    #[inline]
    pub fn run_by<Q, L, F>(
        &self,
        key: &Q,
        call: Call,
        load: L,
    ) -> impl Future<Output = Result<Landed<V>, FlightError<E>>> + Send
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + Sync + ?Sized,
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fly(Borrowed(key), self.table.hash(key), call, load)
    }

    /// Returns the values of many keys, in their order, with one load for those that do not fly.
    ///
    /// Each key has a flight of its own: callers of [`run`](Self::run) share them, and this shares
    /// theirs. All flights that this call leads begin in one load (or in as few as `batch_max`
    /// allows), before it waits for any that it joined. What is given up is given up by key; the
    /// load is aborted when its last key is.
    ///
    /// `load` is given keys, each once, and returns what it has, in any order. It may be called
    /// again with fewer keys, for example with one whose first flight hangs.
    ///
    /// # Errors
    ///
    /// For each key as [`run_with`](Self::run_with). [`NotFound`](FlightError::NotFound) is a key
    /// that the load returned nothing for; an `Err` beside a key is that key's failure alone, an
    /// `Err` of the load is the failure of all keys it was given.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run), for each key.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::{Call, FlightError, SingleFlight};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = SingleFlight::<u64, u64, std::io::Error>::new();
    /// let load = |users: Vec<u64>, _cx| async move {
    ///     // select … where id = any($1)
    ///     let rows = users.into_iter().filter(|user| *user < 100);
    ///     Ok(rows.map(|user| (user, Ok(user * 10))).collect())
    /// };
    /// let found = flights.run_many([1, 2, 100], Call::new(), load).await;
    /// assert_eq!(found[1].as_ref().unwrap().value, 20);
    /// assert!(matches!(found[2], Err(FlightError::NotFound)));
    /// # }
    /// ```
    pub async fn run_many<L, F>(
        &self,
        keys: impl IntoIterator<Item = K> + Send,
        call: Call,
        load: L,
    ) -> Vec<Result<Landed<V>, FlightError<E>>>
    where
        K: Clone,
        L: Fn(Vec<K>, FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, Result<V, E>)>, E>> + Send + 'static,
    {
        let load = Arc::new(move |keys, cx| launch::shared(load(keys, cx)));
        self.fly_many(keys.into_iter().collect(), call, load).await
    }

    /// Closes the flights of `key` to every later call.
    ///
    /// No call that arrives after this returns gets a load that began before it, however it joins.
    /// Callers that wait already still get an outcome. A forgotten flight counts as one of the two
    /// that a key may have, so forgetting again and again does not multiply loads.
    ///
    /// # Examples
    ///
    /// ```
    /// # let flights = sortie::SingleFlight::<u64, u64, std::io::Error>::new();
    /// // After a write to the row of user 42:
    /// flights.forget(&42);
    /// ```
    pub fn forget(&self, key: &K) {
        self.table.forget(key);
    }

    /// As [`forget`](Self::forget), if `flight` still flies, and leaves alone what began after it.
    ///
    /// For whoever finds a value wanting that it has from [`Landed::flight`] or
    /// [`FlightCx::flight`]: a later flight, which others rely on already, is not closed by it.
    /// Returns whether it flew.
    pub fn forget_if(&self, key: &K, flight: FlightId) -> bool {
        self.table.forget_if(key, flight.0)
    }

    /// Forgets the flights of `key` and ends them: their loads are dropped, and their callers get
    /// [`FlightError::Aborted`]. Those who wait for the next load get that.
    ///
    /// A load that its leader is just polling is only forgotten; that one still has the use of it.
    pub fn cancel(&self, key: &K) {
        self.table.cancel(key);
    }

    /// Counts what happened so far and what is in flight.
    pub fn stats(&self) -> FlightStats {
        self.table.stats()
    }
}

impl<K, V, E> Clone for SingleFlight<K, V, E> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K, V, E> fmt::Debug for SingleFlight<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("config", &self.table.config).finish_non_exhaustive()
    }
}
