//! What is in flight at one moment, for whoever shows it to people.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::SingleFlight;
use crate::singleflight::call::FlightId;
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::flight::Flight;
use crate::singleflight::party::Party;
use crate::singleflight::table::Table;
use crate::singleflight::traffic::Traffic;

/// One flight, as it was when somebody looked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FlightView<K> {
    /// What it loads.
    pub key: K,
    /// Which one it is.
    pub flight: FlightId,
    /// How long ago it was launched.
    pub age: Duration,
    /// Callers who wait for it.
    pub waiters: usize,
    /// Callers who wait for the next load of this key, which begins when this one has ended.
    pub waiting_for_next: usize,
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Returns the flights that are under way, at most so many, in no order that means anything.
    ///
    /// Each was so at one moment; not all of them at the same one. Keys are cloned while a part of
    /// the registry is locked: calls that need that part wait as long.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights: SingleFlight<&str, u64, ()> = SingleFlight::new();
    /// let looked = flights.clone();
    /// let loaded = flights.run("balance", move || {
    ///     let looked = looked.clone();
    ///     async move { Ok(looked.flights(10).len() as u64) }
    /// });
    /// assert_eq!(loaded.await.unwrap(), 1);
    /// assert!(flights.flights(10).is_empty());
    /// # }
    /// ```
    pub fn flights(&self, most: usize) -> Vec<FlightView<K>> {
        self.table.flights(most)
    }
}

impl<K: Clone, V, E> Table<K, V, E> {
    fn flights(self: &Arc<Self>, most: usize) -> Vec<FlightView<K>> {
        let (mut views, now) = (Vec::new(), Instant::now());
        for shard in self.shards() {
            let shard = shard.lock();
            for entry in &shard.entries {
                if views.len() >= most {
                    return views;
                }
                entry.view(now, &mut views);
            }
        }
        views.truncate(most);
        views
    }
}

impl<K: Clone, V, E> Entry<K, V, E> {
    fn view(&self, now: Instant, views: &mut Vec<FlightView<K>>) {
        let mut add = |id: u64, began: Instant, waiters: usize, waiting_for_next: usize| {
            let age = now.saturating_duration_since(began);
            let (key, flight) = (self.key.clone(), FlightId(id));
            views.push(FlightView { key, flight, age, waiters, waiting_for_next });
        };
        match &self.state {
            State::Light { id, began, .. } => add(*id, began.unwrap_or(now), 1, 0),
            State::Full(traffic) => {
                let newest = traffic.flights().last().map(|flight| flight.id);
                for flight in traffic.flights() {
                    let next = if newest == Some(flight.id) { traffic.waiting() } else { 0 };
                    add(flight.id, flight.began, flight.waiters(), next);
                }
            }
        }
    }
}

impl<V, E> Traffic<V, E> {
    fn waiting(&self) -> usize {
        self.waiting.iter().flat_map(|it| it.parties()).map(Party::taken).sum()
    }
}

impl<V, E> Flight<V, E> {
    fn waiters(&self) -> usize {
        usize::from(self.inline) + self.parties().map(Party::taken).sum::<usize>()
    }
}
