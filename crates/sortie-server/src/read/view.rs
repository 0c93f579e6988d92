//! The reads under way, for whoever shows them to people.

use std::sync::Arc;
use std::time::Duration;

use super::ReadPath;
use super::key::Shape;
use super::source::Source;

/// One flight of a read.
#[derive(Clone, Debug)]
pub(crate) struct FlightSeen {
    /// Its number among those of its cluster.
    pub(crate) number: u64,
    pub(crate) user: Arc<str>,
    pub(crate) text: Arc<str>,
    /// By which words it is asked: `simple`, `extended`, `describe`, or the endpoint's
    /// own (`merged`).
    pub(crate) protocol: &'static str,
    pub(crate) shards: Vec<u32>,
    pub(crate) age: Duration,
    /// Readers who wait for it, and those who wait for the one after it.
    pub(crate) waiters: usize,
    pub(crate) waiting_for_next: usize,
}

impl<S: Source> ReadPath<S> {
    /// The flights under way, at most so many, the oldest first.
    pub(crate) fn seen(&self, most: usize) -> Vec<FlightSeen> {
        let flights = self.0.flights.flights(most).into_iter().map(|seen| {
            let key = seen.key;
            FlightSeen {
                number: seen.flight.number(),
                user: key.who.user,
                text: key.identity.text,
                protocol: match key.shape {
                    Shape::Merged => "merged",
                    Shape::Simple => "simple",
                    Shape::Extended { .. } => "extended",
                    Shape::Described => "describe",
                },
                shards: key.shards.iter().map(|shard| shard.index()).collect(),
                age: seen.age,
                waiters: seen.waiters,
                waiting_for_next: seen.waiting_for_next,
            }
        });
        let mut flights: Vec<_> = flights.collect();
        flights.sort_by_key(|flight| std::cmp::Reverse(flight.age));
        flights
    }
}
