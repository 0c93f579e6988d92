//! Many keys at once.

use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::ReadThrough;
use super::get::answer;
use super::read::{Answer, Want};
use super::source::{LoadMany, Seed};
use crate::rt::time::Instant;
use crate::{Cache, FlightError};

type Answers<V, E> = Vec<Result<Answer<V>, FlightError<E>>>;

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
    C::Lease: 'static,
    C::Wait: 'static,
{
    /// Returns the values of many keys, in their order.
    ///
    /// What is not cached is loaded by one call of the [batch loader](Self::batched), with a
    /// flight per key: callers of single keys share them, and this shares theirs. Keys that another
    /// process is loading are waited for one by one, and without a batch loader all are.
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
        let keys: Vec<K> = keys.into_iter().collect();
        let looks = join_all(keys.iter().map(|key| self.source.cache.get(key))).await;
        let mut answers: Vec<_> = keys.iter().map(|_| None).collect();
        let (mut led, mut leases, mut single) = (Vec::new(), HashMap::new(), Vec::new());
        for (place, (key, found)) in keys.iter().zip(looks).enumerate() {
            match (self.at_hand(key, found, Want::ANY), &self.many) {
                (Ok(answer), _) => answers[place] = Some(Ok(answer)),
                (Err(Seed::Lease(lease)), Some(_)) => {
                    led.push((place, key.clone()));
                    leases.insert(key.clone(), lease);
                }
                (Err(seed), _) => single.push((place, self.fly(key, seed, Want::ANY))),
            }
        }
        let singles = join_all(
            single.into_iter().map(|(place, flight)| async move { (place, flight.await) }),
        );
        let batch = async {
            match &self.many {
                Some(load) if !led.is_empty() => self.fly_many(led, leases, load).await,
                _ => Vec::new(),
            }
        };
        // The batch first: what is waited for here may wait for what it loads.
        let (batch, singles) = join(batch, singles).await;
        for (place, answer) in batch.into_iter().chain(singles) {
            answers[place] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(FlightError::NotFound))).collect()
    }

    async fn fly_many(
        &self,
        led: Vec<(usize, K)>,
        leases: HashMap<K, C::Lease>,
        load: &Arc<LoadMany<K, V, E>>,
    ) -> Vec<(usize, Result<Answer<V>, FlightError<E>>)> {
        // With leases in hand, no flight from before has one.
        let all = leases.values().all(|lease| self.source.cache.is_exclusive(lease));
        let since = all.then(Instant::now);
        let (source, policy) = (Arc::clone(&self.source), Arc::clone(&self.policy));
        let (load, leases) = (Arc::clone(load), Mutex::new(leases));
        let run = move |keys: Vec<K>, _cx| {
            let (source, policy) = (Arc::clone(&source), Arc::clone(&policy));
            let load = Arc::clone(&load);
            let mine: HashMap<_, _> = {
                let mut leases = leases.lock();
                keys.iter().filter_map(|key| leases.remove_entry(key)).collect()
            };
            async move { source.load_many(keys, mine, &*load, &policy).await }
        };
        let (places, keys): (Vec<_>, Vec<_>) = led.into_iter().unzip();
        let landed = self.flights.run_many(keys, self.call(since, None), run).await;
        places.into_iter().zip(landed.into_iter().map(|landed| landed.map(answer))).collect()
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
