//! What a read does beyond a hit.

use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::ReadThrough;
use super::read::{Answer, How, Read, Want, Why};
use super::source::Seed;
use crate::rt::time::{Instant, timeout_at};
use crate::{Cache, Cached, Call, FlightError, Join, Landed, Lookup, Role};

/// How often a caller that wants a young value looks for a flight that gives one: others may lead
/// it, and may be content with what the cache has.
const FLIGHTS_MAX: usize = 3;

type Found<K, V, C> = Lookup<V, <C as Cache<K, V>>::Lease, <C as Cache<K, V>>::Wait>;
type Answered<V, E> = Result<Answer<V>, FlightError<E>>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
    C::Lease: 'static,
    C::Wait: 'static,
{
    /// Boxed: a hit, which is the common case, must not carry room for a flight.
    pub(super) fn beyond<'a>(
        &'a self,
        key: &'a K,
        found: Found<K, V, C>,
        want: Want,
    ) -> Boxed<'a, Answered<V, E>> {
        Box::pin(self.settle(key, found, want))
    }

    pub(super) async fn ask(&self, key: &K, read: Read) -> Answered<V, E> {
        if read.bypass {
            return self.alone(key, read.want()).await;
        }
        let want = read.want();
        let found = self.source.cache.get(key).await;
        self.settle(key, found, want).await
    }

    async fn settle(&self, key: &K, found: Found<K, V, C>, want: Want) -> Answered<V, E> {
        let seed = match self.at_hand(key, found, want) {
            Ok(answer) => return Ok(answer),
            Err(seed) => seed,
        };
        if self.source.backoff.holds(key)
            && let Some(answer) = self.last(key, want, Why::Failing).await
        {
            return Ok(answer);
        }
        let error = match self.fly(key, seed, want).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let why = match error {
            FlightError::Failed(_) | FlightError::Panicked { .. } => Why::Failed,
            FlightError::TimedOut | FlightError::Busy | FlightError::Aborted => Why::TimedOut,
            FlightError::Reentrant | FlightError::NotFound => return Err(error),
        };
        let last = self.last(key, want, why).await;
        // A load that failed was noted where it ran; one that hangs is only seen from here.
        if last.is_some() && matches!(error, FlightError::TimedOut) {
            self.source.backoff.hung(key, self.policy.pauses);
        }
        last.ok_or(error)
    }

    /// The answer, if what was found is one, or what a flight begins with.
    pub(super) fn at_hand(
        &self,
        key: &K,
        found: Found<K, V, C>,
        want: Want,
    ) -> Result<Answer<V>, Seed<C::Lease, C::Wait>> {
        match found {
            Lookup::Hit(cached) if want.takes(&cached) => Ok(Answer::new(cached, How::Hit)),
            Lookup::Early(cached, lease) if want.takes(&cached) => {
                Ok(self.refresh(key, lease).unwrap_or(Answer::new(cached, How::Hit)))
            }
            Lookup::Stale(cached, lease) if want.takes(&cached) => {
                let why = match lease {
                    Some(_) if self.source.backoff.holds(key) => Why::Failing,
                    Some(lease) => match self.refresh(key, lease) {
                        Some(refreshed) => return Ok(refreshed),
                        None => Why::Refreshing,
                    },
                    None => Why::Refreshing,
                };
                Ok(self.stale(cached, why))
            }
            Lookup::Hit(_) | Lookup::Stale(_, None) => Err(Seed::TooOld),
            Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) | Lookup::Early(_, lease) => {
                Err(Seed::Lease(lease))
            }
            Lookup::Pending(ended) => Err(Seed::Wait(ended)),
        }
    }

    /// One poll begins the flight, or joins it; from there it is its own task's.
    fn refresh(&self, key: &K, lease: C::Lease) -> Option<Answer<V>> {
        self.fly(key, Seed::Lease(lease), Want::ANY).now_or_never()?.ok()
    }

    fn stale(&self, cached: Cached<V>, why: Why) -> Answer<V> {
        let answer = Answer::new(cached, How::Stale(why));
        self.policy.stale(why, answer.age());
        answer
    }

    /// The last value, for a caller that would get an error otherwise.
    async fn last(&self, key: &K, want: Want, why: Why) -> Option<Answer<V>> {
        let max_age = self.policy.stale_if_error?;
        let cached = self.source.cache.last(key).await.filter(|cached| want.takes(cached))?;
        let young = cached.began.is_some_and(|began| began.elapsed() <= max_age);
        young.then(|| self.stale(cached, why))
    }

    pub(super) fn fly(
        &self,
        key: &K,
        seed: Seed<C::Lease, C::Wait>,
        want: Want,
    ) -> Boxed<'static, Answered<V, E>> {
        let (this, key) = (self.clone(), key.clone());
        // Whoever invalidated the key may not know of this process's flights.
        let held_at = match &seed {
            Seed::Lease(lease) => self.source.cache.is_exclusive(lease).then(Instant::now),
            Seed::Wait(others) => self.source.cache.held_since(others),
            Seed::TooOld => None,
        };
        let want = Want { held_at, ..want };
        Box::pin(async move {
            let (mut seed, mut since) = (Some(seed), want.not_before);
            for _flight in 0..FLIGHTS_MAX {
                let landed = this.one_flight(&key, seed.take(), want, since).await?;
                let led = landed.role != Role::Follower && want.takes(&landed.value);
                if led || want.takes_shared(&landed.value) {
                    return Ok(answer(landed));
                }
                since = since.max(held_at);
            }
            this.alone(&key, want).await
        })
    }

    async fn one_flight(
        &self,
        key: &K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        want: Want,
        since: Option<Instant>,
    ) -> Result<Landed<Cached<V>>, FlightError<E>> {
        let (source, policy) = (Arc::clone(&self.source), Arc::clone(&self.policy));
        // The flight's load may be called again, by a successor: it looks for a lease itself then.
        let (wanted, seed) = (key.clone(), Mutex::new(seed));
        let load = move |_cx| {
            let (source, policy) = (Arc::clone(&source), Arc::clone(&policy));
            let (key, seed) = (wanted.clone(), seed.lock().take());
            async move { source.load(key, seed, want, &policy).await }
        };
        self.flights.run_with(key.clone(), self.call(since, want.deadline), load).await
    }

    pub(super) fn call(&self, since: Option<Instant>, deadline: Option<Instant>) -> Call {
        let mut call = Call::new();
        if let Some(since) = self.swept.moment().max(since) {
            call = call.join(Join::Since(since));
        }
        if let Some(deadline) = deadline {
            call = call.deadline(deadline);
        }
        call
    }

    /// Loads for this caller alone.
    async fn alone(&self, key: &K, want: Want) -> Answered<V, E> {
        let began = Instant::now();
        let load = (self.source.load)(key.clone());
        let loaded = match want.deadline {
            Some(deadline) => {
                timeout_at(deadline, load).await.map_err(|_elapsed| FlightError::TimedOut)?
            }
            None => load.await,
        };
        let loaded = loaded.map_err(|error| FlightError::Failed(Arc::new(error)))?;
        let cached = Cached::new(loaded.value, loaded.as_of).began(began);
        Ok(Answer::new(cached, How::Loaded))
    }
}

pub(super) fn answer<V>(landed: Landed<Cached<V>>) -> Answer<V> {
    let how = match landed.role {
        Role::Follower => How::Joined,
        Role::Leader | Role::Solo => How::Loaded,
    };
    Answer::new(landed.value, how)
}
