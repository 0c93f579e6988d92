//! What the shared lane is about to do, and with whom, for whoever shows it to people or keeps it
//! going.

use std::convert::Infallible;
use std::sync::Arc;

use super::{Lane, SharedLane};
use crate::read::{AttemptStats, FlightSeen, PgReplica};

impl SharedLane {
    /// What looks at the clusters' databases, again and again, one by one; each with a number that
    /// is another's while there is either. They must run for the lane to share.
    ///
    /// # Cancel safety
    ///
    /// Dropping one stops looking.
    pub(crate) fn keepers(
        &self,
    ) -> impl Iterator<Item = (usize, impl Future<Output = Infallible> + use<>)> {
        self.0.lanes.iter().map(|lane| {
            let lane = Arc::clone(lane);
            (Arc::as_ptr(&lane).addr(), async move { lane.keep_known().await })
        })
    }

    /// The reads under way, at most so many of a cluster: the cluster's name, and the replicas that
    /// are being asked.
    pub(crate) fn seen(&self, most: usize) -> Vec<(String, FlightSeen, Vec<String>)> {
        let seen = self.0.lanes.iter().flat_map(|lane| {
            let replicas: Vec<_> = lane.each_replica().map(|(_, it)| (it, it.attempts())).collect();
            let seen = lane.path.seen(most).into_iter().map(move |flight| {
                let asked = replicas.iter().filter(|(_, it)| it.flights.contains(&flight.number));
                let asked = asked.map(|(replica, _)| replica.name().to_owned());
                let asked = asked.collect();
                (lane.config.name.clone(), flight, asked)
            });
            seen.collect::<Vec<_>>()
        });
        seen.collect()
    }

    /// The replicas that reads go to: cluster, shard, name, and what became of the attempts there.
    pub(crate) fn replicas(&self) -> Vec<(String, usize, String, AttemptStats)> {
        let each = self.0.lanes.iter().flat_map(|lane| {
            lane.each_replica().map(|(shard, replica)| {
                (lane.config.name.clone(), shard, replica.name().to_owned(), replica.attempts())
            })
        });
        each.collect()
    }
}

impl Lane {
    fn each_replica(&self) -> impl Iterator<Item = (usize, &PgReplica)> {
        let shards = self.replicas.iter().enumerate();
        shards.flat_map(|(shard, replicas)| replicas.iter().map(move |replica| (shard, replica)))
    }
}
