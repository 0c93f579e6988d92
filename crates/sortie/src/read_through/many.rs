//! Many keys at once.

use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::ReadThrough;
use super::get::{Aging, Answered, FLIGHTS_MAX, Look, answer, released};
use super::read::{Answer, Read, Want};
use super::source::{LoadMany, Seed};
use crate::rt::time::Instant;
use crate::{Cache, Cached, Call, FlightError, Landed, Role};

type Answers<V, E> = Vec<Answered<V, E>>;
type Missed<L, W> = Vec<(usize, Seed<L, W>)>;

/// A key that needs a load.
struct Wanted<K, L> {
    place: usize,
    key: K,
    lease: Option<L>,
    held_at: Option<Instant>,
}

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
{
    /// Returns the values of many keys, in their order.
    ///
    /// What [`get`](Self::get) does for one key this does for each. What is not cached is loaded by
    /// one call of the [batch loader](Self::batched), and what is stale is refreshed by another,
    /// with a flight per key: callers of single keys share them, and this shares theirs. Keys that
    /// another process is loading are waited for one by one, and without a batch loader all are
    /// loaded so.
    ///
    /// # Errors
    ///
    /// Per key, as [`get`](Self::get); [`NotFound`](FlightError::NotFound) for one that the batch
    /// loader returned nothing for.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get), for each key.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::{FlightError, MemoryCache, ReadThrough};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let one = |user: u64| async move { Ok::<_, std::io::Error>(user * 100) };
    /// let many = |users: Vec<u64>| async move {
    ///     // select … where id = any($1)
    ///     let rows = users.into_iter().filter(|user| *user < 10);
    ///     Ok(rows.map(|user| (user, (user * 100).into())).collect())
    /// };
    /// let balances = ReadThrough::new(MemoryCache::new(10), one).batched(many);
    /// let found = balances.get_many([1, 2, 10]).await;
    /// assert_eq!(found[1].as_ref().unwrap().value, 200);
    /// assert!(matches!(found[2], Err(FlightError::NotFound)));
    /// # }
    /// ```
    pub async fn get_many(&self, keys: impl IntoIterator<Item = K> + Send) -> Answers<V, E> {
        self.get_many_with(keys, Read::new()).await
    }

    /// As [`get_many`](Self::get_many), with this caller's own wishes, which hold for each key.
    /// What is too old for it is loaded with what is missing; but a key whose load runs already,
    /// and began too early for it, is loaded by itself when that has ended. A read that
    /// [bypasses](Read::bypass) everything is a load of its own for each key that is named, all at
    /// once, without the batch loader.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many).
    ///
    /// # Cancel safety
    ///
    /// As [`get_with`](Self::get_with), for each key.
    pub async fn get_many_with(
        &self,
        keys: impl IntoIterator<Item = K> + Send,
        read: Read,
    ) -> Answers<V, E> {
        let (keys, want): (Vec<K>, _) = (keys.into_iter().collect(), read.want());
        if read.bypass {
            return join_all(keys.iter().map(|key| self.alone(key, want))).await;
        }
        let looks = join_all(keys.iter().map(|key| self.source.cache.get(key))).await;
        let mut answers: Vec<_> = keys.iter().map(|_| None).collect();
        let (mut aging, mut missed) = (Vec::new(), Vec::new());
        for (place, (key, found)) in keys.iter().zip(looks).enumerate() {
            match self.look(key, found, want) {
                Look::Answer(answer) => answers[place] = Some(Ok(answer)),
                Look::Aging(found) => aging.push((place, found)),
                Look::Nothing(seed) => missed.push((place, seed)),
            }
        }
        for (place, answer) in self.refresh_many(&keys, aging) {
            answers[place] = Some(Ok(answer));
        }
        for (place, answer) in self.load_missed(&keys, missed, want).await {
            answers[place] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(FlightError::NotFound))).collect()
    }

    /// Begins one load for all that is aging, as [`refresh`](Self::refresh) does.
    fn refresh_many(
        &self,
        keys: &[K],
        aging: Vec<(usize, Aging<V, C::Lease>)>,
    ) -> Vec<(usize, Answer<V>)> {
        let Some(load) = self.many.as_ref().filter(|_| !aging.is_empty()) else {
            let one_by_one = aging.into_iter();
            return one_by_one.map(|(place, it)| (place, self.refresh(&keys[place], it))).collect();
        };
        let (mut wanted, mut old) = (Vec::new(), Vec::new());
        for (place, Aging { cached, lease, how }) in aging {
            let (key, lease) = (keys[place].clone(), Some(lease));
            wanted.push(Wanted { place, key, lease, held_at: None });
            old.push((place, cached, how));
        }
        let call = self.call(None, None).gives_way();
        let landed = self.one_flight_each(&mut wanted, Want::ANY, call, load).now_or_never();
        let mut landed = landed.unwrap_or_default().into_iter();
        let given = old.into_iter().map(|(place, cached, how)| match landed.next() {
            Some(Ok(landed)) if landed.role != Role::Follower => (place, answer(landed)),
            _ => (place, self.given(cached, how)),
        });
        given.collect()
    }

    async fn load_missed(
        &self,
        keys: &[K],
        missed: Missed<C::Lease, C::Wait>,
        want: Want,
    ) -> Vec<(usize, Answered<V, E>)> {
        let spared = missed.into_iter().map(|(place, seed)| async move {
            (place, seed, self.spared(&keys[place], want).await)
        });
        let (mut answers, mut wanted, mut single) = (Vec::new(), Vec::new(), Vec::new());
        for (place, seed, spared) in join_all(spared).await {
            match (spared, seed, &self.many) {
                (Some(answer), ..) => answers.push((place, Ok(answer))),
                (None, seed @ (Seed::Lease(_) | Seed::TooOld), Some(_)) => {
                    let (key, held_at) = (keys[place].clone(), self.held_at(&seed));
                    let lease = if let Seed::Lease(lease) = seed { Some(lease) } else { None };
                    wanted.push(Wanted { place, key, lease, held_at });
                }
                (None, seed, _) => single.push((place, self.fly(&keys[place], seed, want))),
            }
        }
        let singles =
            single.into_iter().map(|(place, flight)| async move { (place, flight.await) });
        let batch = async {
            match &self.many {
                Some(load) if !wanted.is_empty() => self.fly_many(wanted, want, load).await,
                _ => Vec::new(),
            }
        };
        // The batch first: what is waited for here may wait for what it loads.
        let (batch, singles) = join(batch, join_all(singles)).await;
        let rescued = batch.into_iter().chain(singles).map(|(place, answered)| async move {
            (place, self.rescued(&keys[place], want, answered).await)
        });
        answers.extend(join_all(rescued).await);
        answers
    }

    /// As [`fly`](Self::fly), for many keys at once.
    async fn fly_many(
        &self,
        mut wanted: Vec<Wanted<K, C::Lease>>,
        want: Want,
        load: &Arc<LoadMany<K, V, E>>,
    ) -> Vec<(usize, Answered<V, E>)> {
        let (mut answers, mut since) = (Vec::new(), want.not_before);
        for _flight in 0..FLIGHTS_MAX {
            let call = self.call(since, want.deadline);
            let landed = self.one_flight_each(&mut wanted, want, call, load).await;
            let mut again = Vec::new();
            for (it, landed) in wanted.into_iter().zip(landed) {
                let want = Want { held_at: it.held_at, ..want };
                match landed {
                    Ok(landed) if !want.takes_landed(&landed) => again.push(it),
                    landed => answers.push((it.place, landed.map(answer))),
                }
            }
            since = since.max(again.iter().filter_map(|it| it.held_at).max());
            wanted = again;
            if wanted.is_empty() {
                return answers;
            }
        }
        let alone =
            wanted.into_iter().map(|it| async move { (it.place, self.alone(&it.key, want).await) });
        answers.extend(join_all(alone).await);
        answers
    }

    /// A flight for each key, and one load for those that nobody else is loading.
    async fn one_flight_each(
        &self,
        wanted: &mut [Wanted<K, C::Lease>],
        want: Want,
        call: Call,
        load: &Arc<LoadMany<K, V, E>>,
    ) -> Vec<Result<Landed<Cached<V>>, FlightError<E>>> {
        let held = |it: &mut Wanted<K, C::Lease>| Some((it.key.clone(), it.lease.take()?));
        let leases: HashMap<K, C::Lease> = wanted.iter_mut().filter_map(held).collect();
        let keys: Vec<K> = wanted.iter().map(|it| it.key.clone()).collect();
        let leases = Arc::new(Mutex::new(leases));
        let run = {
            let (source, policy) = (Arc::clone(&self.source), Arc::clone(&self.policy));
            let (load, leases) = (Arc::clone(load), Arc::clone(&leases));
            move |keys: Vec<K>, _cx| {
                let (source, policy) = (Arc::clone(&source), Arc::clone(&policy));
                let load = Arc::clone(&load);
                let mine: HashMap<_, _> = {
                    let mut leases = leases.lock();
                    keys.iter().filter_map(|key| leases.remove_entry(key)).collect()
                };
                async move { source.load_many(keys, mine, want, &*load, &policy).await }
            }
        };
        released(self.flights.run_many(keys, call, run), &leases).await
    }

    /// As [`invalidate`](Self::invalidate), for many keys.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_many<'k>(&self, keys: impl IntoIterator<Item = &'k K> + Send)
    where
        K: 'k,
    {
        let keys: Vec<&K> = keys.into_iter().collect();
        join_all(keys.iter().map(|key| self.source.cache.invalidate(key))).await;
        for key in keys {
            self.flights.forget(key);
        }
    }
}
