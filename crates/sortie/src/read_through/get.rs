//! What a read does beyond a hit.

use std::future::poll_fn;
use std::hash::Hash;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::ReadThrough;
use super::read::{Answer, How, Read, Want, Why};
use super::source::Seed;
use crate::rt::time::Instant;
use crate::{Cache, Cached, Call, FlightError, Join, Landed, Lookup, Role};

/// How often a caller that wants a young value looks for a flight that gives one: others may lead
/// it, and may be content with what the cache has.
pub(super) const FLIGHTS_MAX: usize = 3;

type Found<K, V, C> = Lookup<V, <C as Cache<K, V>>::Lease, <C as Cache<K, V>>::Wait>;
pub(super) type Answered<V, E> = Result<Answer<V>, FlightError<E>>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a caller's look at the cache has come to.
pub(super) enum Look<V, L, W> {
    Answer(Answer<V>),
    /// A value to be given, and loaded anew by whoever found it so.
    Aging(Aging<V, L>),
    /// What a flight begins with.
    Nothing(Seed<L, W>),
}

pub(super) struct Aging<V, L> {
    pub(super) cached: Cached<V>,
    pub(super) lease: L,
    pub(super) how: How,
}

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
{
    /// Boxed: a hit, which is the common case, must not carry room for a flight.
    #[cold]
    pub(super) fn beyond<'a>(&'a self, key: &'a K, want: Want) -> Boxed<'a, Answered<V, E>> {
        Box::pin(async move {
            let found = self.source.cache.get(key).await;
            self.settle(key, found, want).await
        })
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
        let seed = match self.look(key, found, want) {
            Look::Answer(answer) => return Ok(answer),
            Look::Aging(aging) => return Ok(self.refresh(key, aging)),
            Look::Nothing(seed) => seed,
        };
        if let Some(answer) = self.spared(key, want).await {
            return Ok(answer);
        }
        let answered = self.fly(key, seed, want).await;
        self.rescued(key, want, answered).await
    }

    pub(super) fn look(
        &self,
        key: &K,
        found: Found<K, V, C>,
        want: Want,
    ) -> Look<V, C::Lease, C::Wait> {
        match found {
            Lookup::Hit(cached) if want.takes(&cached) => {
                Look::Answer(Answer::new(cached, How::Hit))
            }
            Lookup::Early(cached, lease) if want.takes(&cached) => {
                Look::Aging(Aging { cached, lease, how: How::Hit })
            }
            Lookup::Stale(cached, lease) if want.takes(&cached) => match lease {
                Some(_) if self.source.backoff.holds(key) => {
                    Look::Answer(self.given(cached, How::Stale(Why::Failing)))
                }
                Some(lease) => {
                    Look::Aging(Aging { cached, lease, how: How::Stale(Why::Refreshing) })
                }
                None => Look::Answer(self.given(cached, How::Stale(Why::Refreshing))),
            },
            Lookup::Hit(_) | Lookup::Stale(_, None) => Look::Nothing(Seed::TooOld),
            Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) | Lookup::Early(_, lease) => {
                Look::Nothing(Seed::Lease(lease))
            }
            Lookup::Pending(ended) => Look::Nothing(Seed::Wait(ended)),
        }
    }

    /// Begins a flight, or joins it, in one poll; from there it is its own task's. A load that was
    /// ready answers this caller too.
    pub(super) fn refresh(&self, key: &K, aging: Aging<V, C::Lease>) -> Answer<V> {
        let Aging { cached, lease, how } = aging;
        let (call, seed) = (self.call(None, None).gives_way(), Some(Seed::Lease(lease)));
        match self.one_flight(key, seed, Want::ANY, call).now_or_never() {
            Some(Ok(landed)) if landed.role != Role::Follower => answer(landed),
            _ => self.given(cached, how),
        }
    }

    /// Gives what the cache had.
    pub(super) fn given(&self, cached: Cached<V>, how: How) -> Answer<V> {
        let answer = Answer::new(cached, how);
        if let How::Stale(why) = how {
            self.policy.stale(why, answer.age());
        }
        answer
    }

    /// The last value, while it is too early to try again.
    pub(super) async fn spared(&self, key: &K, want: Want) -> Option<Answer<V>> {
        if !self.source.backoff.holds(key) {
            return None;
        }
        self.last(key, want, Why::Failing).await
    }

    /// The last value instead of an error.
    pub(super) async fn rescued(
        &self,
        key: &K,
        want: Want,
        answered: Answered<V, E>,
    ) -> Answered<V, E> {
        let error = match answered {
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

    /// The last value, for a caller that would get an error otherwise.
    async fn last(&self, key: &K, want: Want, why: Why) -> Option<Answer<V>> {
        let max_age = self.policy.stale_if_error?;
        let cached = self.source.cache.last(key).await.filter(|cached| want.takes(cached))?;
        let young = cached.began.is_some_and(|began| began.elapsed() <= max_age);
        young.then(|| self.given(cached, How::Stale(why)))
    }

    pub(super) fn fly(
        &self,
        key: &K,
        seed: Seed<C::Lease, C::Wait>,
        want: Want,
    ) -> Boxed<'static, Answered<V, E>> {
        let (this, key) = (self.clone(), key.clone());
        let want = Want { held_at: self.held_at(&seed), ..want };
        Box::pin(async move {
            let (mut seed, mut since) = (Some(seed), want.not_before);
            for _flight in 0..FLIGHTS_MAX {
                let call = this.call(since, want.deadline);
                let landed = this.one_flight(&key, seed.take(), want, call).await?;
                if want.takes_landed(&landed) {
                    return Ok(answer(landed));
                }
                since = since.max(want.held_at);
            }
            this.alone(&key, want).await
        })
    }

    /// From when on nothing has invalidated the key. Whoever did may not know of this process's
    /// flights.
    pub(super) fn held_at(&self, seed: &Seed<C::Lease, C::Wait>) -> Option<Instant> {
        match seed {
            Seed::Lease(lease) => self.source.cache.is_exclusive(lease).then(Instant::now),
            Seed::Wait(others) => self.source.cache.held_since(others),
            Seed::TooOld => None,
        }
    }

    async fn one_flight(
        &self,
        key: &K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        want: Want,
        call: Call,
    ) -> Result<Landed<Cached<V>>, FlightError<E>> {
        let (source, policy) = (Arc::clone(&self.source), Arc::clone(&self.policy));
        let (wanted, seed) = (key.clone(), Arc::new(Mutex::new(seed)));
        // The flight's load may be called again, by a successor: it looks for a lease itself then.
        let load = {
            let seed = Arc::clone(&seed);
            move |_cx| {
                let (source, policy) = (Arc::clone(&source), Arc::clone(&policy));
                let (key, seed) = (wanted.clone(), seed.lock().take());
                async move { source.load(key, seed, want, &policy).await }
            }
        };
        released(self.flights.run_with(key.clone(), call, load), &seed).await
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
    pub(super) async fn alone(&self, key: &K, want: Want) -> Answered<V, E> {
        let (source, wanted) = (Arc::clone(&self.source), key.clone());
        let load = move |began| async move {
            let loaded = (source.load)(wanted).await?;
            Ok(Cached::new(loaded.value, loaded.as_of).began(began))
        };
        self.flights.alone(key.clone(), self.call(None, want.deadline), load).await.map(answer)
    }
}

/// Takes back what a flight's load has not taken in the first poll, for then it is not this
/// caller's load that runs. The one that does may wait for that very lease: it is to be held by a
/// load, or by nobody.
pub(super) async fn released<S: Default, F: Future>(flight: F, seeds: &Mutex<S>) -> F::Output {
    let (mut flight, mut seeds) = (pin!(flight), Some(seeds));
    poll_fn(move |task| {
        let polled = flight.as_mut().poll(task);
        if let Some(seeds) = seeds.take() {
            let untaken = mem::take(&mut *seeds.lock());
            drop(untaken);
        }
        polled
    })
    .await
}

pub(super) fn answer<V>(landed: Landed<Cached<V>>) -> Answer<V> {
    let how = match landed.role {
        Role::Leader | Role::Solo if !landed.value.found => How::Loaded,
        _ => How::Joined,
    };
    Answer::new(landed.value, how)
}
