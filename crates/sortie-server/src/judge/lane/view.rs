//! What the shared lane is about to do, and with whom, for whoever shows it to people.

use super::{Lane, SharedLane};
use crate::read::{AttemptStats, FlightSeen, PgReplica};

impl SharedLane {
    /// The reads under way, at most so many of a cluster: the cluster's name, and the replicas that
    /// are being asked.
    pub(crate) fn seen(&self, most: usize) -> Vec<(String, FlightSeen, Vec<String>)> {
        let seen = self.0.iter().flat_map(|lane| {
            let replicas: Vec<_> = lane.each_replica().map(|(_, it)| (it, it.attempts())).collect();
            let seen = lane.path.seen(most).into_iter().map(move |flight| {
                let asked = replicas.iter().filter(|(_, it)| it.flights.contains(&flight.number));
                let asked = asked.map(|(replica, _)| replica.name().to_owned());
                let asked = asked.collect();
                (lane.name.clone(), flight, asked)
            });
            seen.collect::<Vec<_>>()
        });
        seen.collect()
    }

    /// The replicas that reads go to: cluster, shard, name, and what became of the attempts there.
    pub(crate) fn replicas(&self) -> Vec<(String, usize, String, AttemptStats)> {
        let each = self.0.iter().flat_map(|lane| {
            lane.each_replica().map(|(shard, replica)| {
                (lane.name.clone(), shard, replica.name().to_owned(), replica.attempts())
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
