//! What stays when a lane is made anew: what is known of the databases, as far as it holds, and
//! what became of reads on paths that are no longer taken: counters never go back.

use std::sync::{Arc, Mutex, PoisonError};

use sortie::FlightStats;

use super::lane::SharedLane;
use crate::config::ClusterConfig;
use crate::read::{PgReplica, ReadPath, ReadStats};

/// Paths that may still have flights. One more, and the oldest is counted as it stands.
const PATHS_MAX: usize = 64;

/// The paths that nobody takes any more.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<Paths>);

#[derive(Debug, Default)]
struct Paths {
    ended: ReadStats,
    ending: Vec<ReadPath<PgReplica>>,
}

impl SharedLane {
    /// Goes on counting what became of reads on the lane that this one has taken the place of.
    pub(crate) fn follow(&self, before: &Self) {
        for lane in &before.0.lanes {
            if !self.0.lanes.iter().any(|known| Arc::ptr_eq(known, lane)) {
                self.0.past.add(lane.path.clone());
            }
        }
    }
}

impl Past {
    /// Nobody takes this path from now on; reads that are under way end there.
    pub(super) fn add(&self, path: ReadPath<PgReplica>) {
        self.with(|paths| {
            paths.ending.push(path);
            paths.settle();
            if paths.ending.len() > PATHS_MAX {
                let oldest = paths.ending.remove(0);
                paths.end(&settled(oldest.stats()));
            }
        });
    }

    /// What became of all reads on them.
    pub(super) fn read(&self) -> ReadStats {
        self.with(|paths| {
            paths.settle();
            let ending = paths.ending.iter().map(ReadPath::stats);
            ending.chain([paths.ended.clone()]).sum()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Paths) -> T) -> T {
        // Nothing in here panics between two changes that belong together.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Paths {
    /// Lets go of paths on which nothing is under way: with them their servers go.
    fn settle(&mut self) {
        let ending = std::mem::take(&mut self.ending);
        for path in ending {
            let stats = path.stats();
            if is_over(&stats) {
                self.end(&stats);
            } else {
                self.ending.push(path);
            }
        }
    }

    fn end(&mut self, stats: &ReadStats) {
        self.ended = [std::mem::take(&mut self.ended), stats.clone()].into_iter().sum();
    }
}

/// Whether what is known of a cluster's databases holds for another configuration: of the same
/// tables, with a server at least that each shard has kept.
pub(super) fn is_still_known(before: &ClusterConfig, now: &ClusterConfig) -> bool {
    let (were, are) = (&before.shards, &now.shards);
    let keeps = were.iter().zip(are).all(|(were, are)| {
        were.servers().any(|server| are.servers().any(|kept| kept.info == server.info))
    });
    keeps && were.len() == are.len() && before.tables == now.tables
}

fn is_over(stats: &ReadStats) -> bool {
    let ReadStats { flights, descriptions, hedges, legs } = stats;
    let is_over = |flights: &FlightStats| {
        flights.in_flight_flights == 0
            && flights.in_flight_waiters == 0
            && flights.in_flight_bytes == 0
    };
    is_over(flights)
        && is_over(descriptions)
        && hedges.in_flight() == 0
        && hedges.requests_in_flight() == 0
        && legs.in_flight == 0
}

/// Without what is under way: nobody would ever count it down.
fn settled(mut stats: ReadStats) -> ReadStats {
    let ReadStats { flights, legs, .. } = &mut stats;
    (flights.in_flight_flights, flights.in_flight_waiters, flights.in_flight_bytes) = (0, 0, 0);
    legs.in_flight = 0;
    stats
}
