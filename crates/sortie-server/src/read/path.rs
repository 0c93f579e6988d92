//! The way of a read: key, flight, scatter, hedged reads, merge.

use std::sync::Arc;
use std::time::Duration;

use sortie::{
    Call, Cluster, FlightStats, Hedge, HedgeLedger, Join, ReplicaSet, Scatter, ScatterLedger,
    ScatterStats, ShardId, ShardMap, SingleFlight,
};
use sortie_sqlite::{Replica, Value};
use tokio::time::Instant;

use super::key::ReadKey;
use super::{Reply, Who, error, merge};
use crate::sql::{BoundRead, Keys, SqlError, result_formats};

/// How reads are made.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `hedge` | 70 ms | silence of a replica after which another is asked; `None` is never |
/// | `soft_age` | 5 s | age at which a flight takes no more company and gets a successor |
/// | `flight_max` | 60 s | how long a flight may last |
/// | `rows_max` | 250,000 | rows of one answer, and of one shard's part of it |
/// | `bytes_max` | 64 MiB | bytes of one answer |
#[derive(Clone, Debug)]
pub(crate) struct ReadConfig {
    pub(crate) hedge: Option<Duration>,
    pub(crate) soft_age: Duration,
    pub(crate) flight_max: Duration,
    pub(crate) rows_max: u64,
    pub(crate) bytes_max: usize,
}

/// The way of a read: key, flight, scatter, hedge, merge. Cheap to clone.
///
/// Joins are `Fresh`: a read shares only a load that begins after it arrived, so sharing never
/// makes an answer older than asking alone would.
#[derive(Clone)]
pub(crate) struct ReadPath(Arc<Inner>);

struct Inner {
    flights: SingleFlight<ReadKey, Arc<Reply>, SqlError>,
    cluster: Cluster<Replica>,
    legs: ScatterLedger,
    flight_max: Duration,
    rows_max: u64,
    bytes_max: usize,
}

/// One shard's part of a read.
struct Leg {
    shard: ShardId,
    sql: Arc<str>,
    params: Arc<[Value]>,
}

impl ReadPath {
    /// A path to these shards, each with its replicas, rows spread by PostgreSQL's hash.
    ///
    /// # Panics
    ///
    /// Panics without a shard.
    pub(crate) fn new(shards: &[Vec<Replica>], config: &ReadConfig) -> Self {
        let map = ShardMap::pg_hash(u32::try_from(shards.len()).expect("shards are few"));
        let replicas = shards.iter().map(|replicas| {
            ReplicaSet::new(replicas.iter().cloned()).label(|replica| replica.label().to_owned())
        });
        let hedge = config.hedge.map_or_else(Hedge::off, Hedge::after);
        let flights = SingleFlight::builder()
            .join(Join::Fresh)
            .soft_age(config.soft_age)
            .flight_max(config.flight_max)
            .build();
        Self(Arc::new(Inner {
            flights,
            cluster: Cluster::new(map, replicas, hedge),
            legs: ScatterLedger::default(),
            flight_max: config.flight_max,
            rows_max: config.rows_max,
            bytes_max: config.bytes_max,
        }))
    }

    /// Reads what `bound` asks for, sharing the work with everybody who asks the same.
    ///
    /// `formats` are the result formats as in a Bind message; `deadline` is this caller's own.
    ///
    /// # Errors
    ///
    /// 08P01 and 22023 for wrong formats, 57014 past the deadline; what the shards or the flight
    /// failed with, naming the shard: [`error`] has the codes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the flight, which goes on for those who still wait. When the
    /// last one leaves, its attempts are dropped, which cancels them on their replicas.
    pub(crate) async fn read(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> Result<Arc<Reply>, SqlError> {
        let binary: Arc<[bool]> = result_formats(formats, bound.columns().len())?.into();
        let shards = self.0.route(bound);
        if shards.is_empty() || bound.limit() == Some(0) {
            return self.0.merged(bound, Vec::new(), &binary).map(Arc::new);
        }
        let key = ReadKey {
            who: who.clone(),
            identity: bound.identity().clone(),
            binary: Arc::clone(&binary),
            shards: Arc::clone(&shards),
        };
        let load = {
            let (path, bound) = (Arc::clone(&self.0), bound.clone());
            move |_flight| {
                let (path, bound) = (Arc::clone(&path), bound.clone());
                path.fetch(bound, Arc::clone(&shards), Arc::clone(&binary))
            }
        };
        let call = deadline.map_or_else(Call::new, |deadline| Call::new().deadline(deadline));
        match self.0.flights.run_with(key, call, load).await {
            Ok(landed) => Ok(landed.value),
            Err(failed) => Err(error::flight(&failed, deadline, self.0.flight_max)),
        }
    }

    /// What became of the reads' flights.
    pub(crate) fn flights(&self) -> FlightStats {
        self.0.flights.stats()
    }

    /// What became of the attempts.
    pub(crate) fn hedges(&self) -> HedgeLedger {
        self.0.cluster.hedge().ledger()
    }

    /// What became of the shards' parts.
    pub(crate) fn legs(&self) -> ScatterStats {
        self.0.legs.stats()
    }
}

impl Inner {
    /// The shards that may have rows of the result, in order.
    fn route(&self, bound: &BoundRead) -> Arc<[ShardId]> {
        match bound.keys() {
            Keys::All => self.cluster.shards().collect(),
            Keys::Only(keys) => {
                let mut shards: Vec<ShardId> =
                    keys.into_iter().map(|key| self.cluster.shard_of(key)).collect();
                shards.sort_unstable();
                shards.dedup();
                shards.into()
            }
        }
    }

    /// One load: asks the shards and merges what they say. It owns all it uses, because a flight
    /// outlives whoever began it.
    async fn fetch(
        self: Arc<Self>,
        bound: BoundRead,
        shards: Arc<[ShardId]>,
        binary: Arc<[bool]>,
    ) -> Result<Arc<Reply>, SqlError> {
        let legs = shards.iter().map(|shard| self.leg(&bound, *shard));
        let asked = Scatter::over(legs).label(|leg| leg.shard).ledger(&self.legs).run(|leg| {
            let Leg { shard, sql, params } = leg;
            self.cluster.read_shard(shard, move |replica: Replica| {
                replica.query(Arc::clone(&sql), Arc::clone(&params))
            })
        });
        let answers = asked.await.map_err(error::scatter)?;
        let answers = answers.into_iter().map(|answer| answer.rows).collect();
        self.merged(&bound, answers, &binary).map(Arc::new)
    }

    fn leg(&self, bound: &BoundRead, shard: ShardId) -> Leg {
        // One row more than may be, to tell a full answer from one that is too large.
        let rows = self.rows_max.saturating_add(1);
        let query = bound.query(&|key| self.cluster.shard_of(key) == shard, rows);
        Leg { shard, sql: query.sql.into(), params: query.params.into() }
    }

    fn merged(
        &self,
        bound: &BoundRead,
        answers: Vec<Vec<Vec<Value>>>,
        binary: &[bool],
    ) -> Result<Reply, SqlError> {
        let limits = merge::Limits { rows_max: self.rows_max, bytes_max: self.bytes_max };
        merge::merge(bound, answers, binary, &limits)
    }
}

impl std::fmt::Debug for ReadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadPath").finish_non_exhaustive()
    }
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            hedge: Some(Duration::from_millis(70)),
            soft_age: Duration::from_secs(5),
            flight_max: Duration::from_secs(60),
            rows_max: 250_000,
            bytes_max: 64 << 20,
        }
    }
}
