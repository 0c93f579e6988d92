//! The way of a read: key, flight, scatter, hedged reads, merge.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sortie::{
    Cluster, FlightCx, FlightStats, Hedge, HedgeLedger, Join, ReplicaSet, Scatter, ScatterLedger,
    ScatterStats, ShardId, ShardMap, SingleFlight,
};
use tokio::time::Instant;

use super::fresh::{Demand, Floors, Landed, Wish, is_behind};
use super::key::{ReadKey, Shape};
use super::postgres::Offer;
use super::source::{Part, Source, Wanted};
use super::too_big::TooBig;
use super::{Description, ReadStats, Reply, Who, error, merge};
use crate::budget::Budget;
use crate::sql::{BoundRead, Keys, SqlError, result_formats};

/// What answers may take together until those who share them have taken them. A choice: some of
/// the largest, and thousands of ordinary ones. Past it whoever comes reads alone.
const SHARED_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(256 << 20).expect("not zero");

/// How reads are made.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `hedge` | 70 ms | silence of a replica after which another is asked; `None` is never |
/// | `soft_age` | 5 s | age at which a flight takes no more company and gets a successor |
/// | `flight_max` | 60 s | how long a flight may last |
/// | `rows_max` | 250,000 | rows of one answer, and of one shard's part of it |
/// | `behind_max` | 5 s | how long is waited for a replica that has got as far as a reader wants |
/// | `bytes_max` | 64 MiB | bytes of one answer |
/// | `share_max` | 1 MiB | bytes of one shard's answer that is passed on as it comes |
/// | `budget` | 256 MiB | what answers wait in, with all else that waits in the process |
#[derive(Clone, Debug)]
pub(crate) struct ReadConfig {
    pub(crate) hedge: Option<Duration>,
    pub(crate) soft_age: Duration,
    pub(crate) flight_max: Duration,
    pub(crate) behind_max: Duration,
    pub(crate) rows_max: u64,
    pub(crate) bytes_max: usize,
    pub(crate) share_max: usize,
    pub(crate) budget: Budget,
}

/// The way of a read: key, flight, scatter, hedge, merge. Cheap to clone.
///
/// Joins are `Fresh` unless a reader wishes otherwise: a read shares only a load that begins after
/// it arrived, so sharing never makes an answer older than asking alone would.
pub(crate) struct ReadPath<S: Source>(pub(super) Arc<Inner<S>>);

pub(super) struct Inner<S: Source> {
    pub(super) flights: SingleFlight<ReadKey, Landing, SqlError>,
    /// Those that find out what statements take and give.
    pub(super) descriptions: SingleFlight<ReadKey, Arc<Description>, SqlError>,
    pub(super) cluster: Cluster<S, S::Class>,
    legs: ScatterLedger,
    pub(super) flight_max: Duration,
    pub(super) behind_max: Duration,
    pub(super) too_big: TooBig,
    pub(super) share_max: usize,
    pub(super) budget: Budget,
    rows_max: u64,
    bytes_max: usize,
}

/// What a flight lands with.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    Whole(Landed),
    /// Too large to be shared: one of those who waited has it, the others read for themselves.
    TooBig(Offer),
    /// No server has got as far as is wished.
    Behind,
}

impl Landing {
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(Landed { reply, .. }) => reply.head.len() + reply.rows.len(),
            Self::TooBig(_) | Self::Behind => 0,
        }
    }
}

/// One shard's part of a read.
struct Leg<Q> {
    shard: ShardId,
    query: Q,
}

impl<S: Source> ReadPath<S> {
    /// A path to these shards, each with its replicas, rows spread by PostgreSQL's hash.
    ///
    /// # Panics
    ///
    /// Panics without a shard.
    pub(crate) fn new(shards: &[Vec<S>], config: &ReadConfig) -> Self {
        let map = ShardMap::pg_hash(u32::try_from(shards.len()).expect("shards are few"));
        let replicas =
            shards.iter().map(|replicas| ReplicaSet::new(replicas.iter().cloned()).label(S::label));
        let hedge = config.hedge.map_or_else(Hedge::off, Hedge::after).classify(S::class());
        let flights = SingleFlight::builder()
            .join(Join::Fresh)
            .soft_age(config.soft_age)
            .flight_max(config.flight_max)
            .boarding(true)
            .shared_bytes_max(SHARED_BYTES_MAX, Landing::bytes)
            .build();
        let descriptions = SingleFlight::builder()
            .join(Join::Fresh)
            .soft_age(config.soft_age)
            .flight_max(config.flight_max)
            .boarding(true)
            .build();
        Self(Arc::new(Inner {
            flights,
            descriptions,
            cluster: Cluster::new(map, replicas, hedge),
            legs: ScatterLedger::default(),
            flight_max: config.flight_max,
            behind_max: config.behind_max,
            too_big: TooBig::default(),
            share_max: config.share_max,
            budget: config.budget.clone(),
            rows_max: config.rows_max,
            bytes_max: config.bytes_max,
        }))
    }

    /// As [`ReadPath::read_at`], of a load that begins after the call, from any replica;
    /// `deadline` is this caller's own.
    ///
    /// # Errors
    ///
    /// As [`ReadPath::read_at`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReadPath::read_at`].
    pub(crate) async fn read(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> Result<Arc<Reply>, SqlError> {
        let wish = Wish { deadline, ..Wish::default() };
        let landed = self.read_at(who, bound, formats, &wish).await?;
        Ok(landed.expect("there is no floor").reply)
    }

    /// Reads what `bound` asks for, sharing the work with everybody who asks the same. `None` is an
    /// answer that no replicas have that have got as far as wished.
    ///
    /// `formats` are the result formats as in a Bind message.
    ///
    /// # Errors
    ///
    /// 08P01 and 22023 for wrong formats, 57014 past the deadline; what the shards or the flight
    /// failed with, naming the shard: [`error`] and the source have the codes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the flight, which goes on for those who still wait. When the
    /// last one leaves, its attempts are dropped, which cancels them on their replicas.
    pub(crate) async fn read_at(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        wish: &Wish,
    ) -> Result<Option<Landed>, SqlError> {
        let binary: Arc<[bool]> = result_formats(formats, bound.columns().len())?.into();
        let shards = self.0.route(bound);
        if shards.is_empty() || bound.limit() == Some(0) {
            let wanted = self.0.wanted((who, bound, &binary), 0);
            let reply = Arc::new(Inner::<S>::merged(&wanted, Vec::new())?);
            return Ok(Some(Landed { reply, marks: Arc::default(), ended: Instant::now() }));
        }
        let key = ReadKey {
            who: who.clone(),
            identity: bound.identity().clone(),
            binary: Arc::clone(&binary),
            shape: Shape::Merged,
            shards: Arc::clone(&shards),
            floors: Floors::default(),
        };
        let load = {
            let (path, who, bound) = (Arc::clone(&self.0), who.clone(), bound.clone());
            move |flight: FlightCx, demand| {
                let (path, who, bound) = (Arc::clone(&path), who.clone(), bound.clone());
                let number = flight.flight().number();
                let asked = (Arc::clone(&shards), Arc::clone(&binary), number);
                path.fetch((who, bound), demand, asked)
            }
        };
        let flown = self.0.fly(key, wish, load).await;
        match flown.map_err(|failed| error::flight(&failed, wish.deadline, self.0.flight_max))? {
            Landing::Whole(landed) => Ok(Some(landed)),
            Landing::Behind => Ok(None),
            Landing::TooBig(_) => unreachable!("a merged read lands whole"),
        }
    }

    /// What became of the reads.
    pub(crate) fn stats(&self) -> ReadStats {
        ReadStats {
            flights: self.flights(),
            descriptions: self.0.descriptions.stats(),
            hedges: self.hedges(),
            legs: self.legs(),
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

impl<S: Source> Inner<S> {
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
        (who, bound): (Who, BoundRead),
        demand: Demand,
        (shards, binary, flight): (Arc<[ShardId]>, Arc<[bool]>, u64),
    ) -> Result<Landing, SqlError> {
        let mut wanted = self.wanted((&who, &bound, &binary), flight);
        // It is held as a whole, whatever its length: only a small one has room.
        wanted.bytes_max = self.budget.whole_max(self.bytes_max);
        let has_room = wanted.bytes_max == self.bytes_max;
        let told = |error| if has_room { error } else { error::without_room(error) };
        let leg = |shard: &ShardId| {
            let shard = *shard;
            let fence = self.fence(shard, &demand);
            let owns = |key: i64| self.cluster.shard_of(key) == shard;
            Leg { shard, query: S::query(&wanted, fence, &owns) }
        };
        let legs: Vec<_> = shards.iter().map(leg).collect();
        let asked = Scatter::over(legs).label(|leg| leg.shard).ledger(&self.legs).run(|leg| {
            let Leg { shard, query } = leg;
            self.cluster.read_shard(shard, move |replica: S| replica.ask(query.clone()))
        });
        let answers = match asked.await {
            Ok(answers) => answers,
            Err(failed) if error::is_of_leg(&failed, is_behind::<S>) => return Ok(Landing::Behind),
            Err(failed) => return Err(error::scatter::<S, _>(failed)),
        };
        let ended = Instant::now();
        let place = |shard: &ShardId| shard.index() as usize;
        let marks = shards.iter().map(place).zip(answers.iter().map(S::mark)).collect();
        let parts = answers.into_iter().map(|answer| S::part(answer, &wanted));
        let parts = parts.collect::<Result<Vec<_>, _>>().map_err(told)?;
        let mut reply = Self::merged(&wanted, parts).map_err(told)?;
        reply.rows = self.budget.counted(reply.rows);
        let reply = Arc::new(reply);
        Ok(Landing::Whole(Landed { reply, marks, ended }))
    }

    fn wanted<'a>(
        &self,
        (who, bound, binary): (&'a Who, &'a BoundRead, &'a [bool]),
        flight: u64,
    ) -> Wanted<'a> {
        Wanted { who, bound, binary, flight, rows_max: self.rows_max, bytes_max: self.bytes_max }
    }

    fn merged(wanted: &Wanted<'_>, parts: Vec<Part>) -> Result<Reply, SqlError> {
        let limits = merge::Limits { rows_max: wanted.rows_max, bytes_max: wanted.bytes_max };
        merge::merge(wanted, parts, limits)
    }
}

impl<S: Source> Clone for ReadPath<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> std::fmt::Debug for ReadPath<S> {
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
            behind_max: Duration::from_secs(5),
            rows_max: 250_000,
            bytes_max: 64 << 20,
            share_max: 1 << 20,
            budget: Budget::default(),
        }
    }
}
