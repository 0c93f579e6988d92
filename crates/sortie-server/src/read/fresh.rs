//! How fresh an answer must be, and how fresh it is.
//!
//! A reader may have a *floor* on each shard: a place in the shard's log that its answer must have
//! reached. Where a shard's rows are read from several servers, or somebody has a floor, a read is
//! fenced around: its *mark* says between which places of the log lies what it has read.
//!
//! # Invariants
//!
//! 1. A reader gets no answer whose marks have not reached its floors.
//! 2. What many share is read without anybody's floors, which are as many as there are readers:
//!    whoever finds the answer too old reads on, with those who have the same floors.

use std::sync::Arc;
use std::time::Duration;

use sortie::{Call, FlightCx, FlightError, HedgeError, Join, ShardId};
use tokio::time::{Instant, sleep};

use super::Reply;
use super::key::ReadKey;
use super::path::{Inner, Landing};
use super::source::Source;
use crate::sql::SqlError;

/// How long after a first look, and at most, it is looked again whether a server has got so far.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(2);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(50);

/// Between which places of its log a server has read an answer; what is not known is nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// Everything up to here is in it.
    pub(crate) from: Option<u64>,
    /// Nothing behind here is in it.
    pub(crate) until: Option<u64>,
}

/// Up to which places of the shards' logs everything must be in an answer. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Floors(Option<Arc<[u64]>>);

impl Floors {
    /// The floor on a shard, 0 where there is none.
    pub(crate) fn of(&self, shard: usize) -> u64 {
        self.0.as_ref().and_then(|floors| floors.get(shard)).copied().unwrap_or(0)
    }

    /// Whether there is none on any shard.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Raises the floor on a shard to this place, if it is lower.
    pub(crate) fn raise(&mut self, shard: usize, place: u64) {
        if self.of(shard) < place {
            self.set(shard, place);
        }
    }

    /// Takes the floor on a shard away.
    pub(crate) fn clear(&mut self, shard: usize) {
        if self.of(shard) > 0 {
            self.set(shard, 0);
        }
    }

    fn set(&mut self, shard: usize, place: u64) {
        let mut floors = self.0.as_deref().unwrap_or_default().to_vec();
        floors.resize(floors.len().max(shard + 1), 0);
        floors[shard] = place;
        self.0 = floors.iter().any(|place| *place > 0).then(|| floors.into());
    }

    /// Whether marks have reached them, as far as the marks' shards go.
    pub(super) fn admit(&self, marks: &[(usize, Mark)]) -> bool {
        let reached = |(shard, mark): &(usize, Mark)| match self.of(*shard) {
            0 => true,
            floor => mark.from.is_some_and(|from| from >= floor),
        };
        marks.iter().all(reached)
    }
}

/// What a reader wants of an answer, besides what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// When it stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Which loads will do.
    pub(crate) join: Join,
    pub(crate) floors: Floors,
}

impl Default for Wish {
    fn default() -> Self {
        Self { deadline: None, join: Join::Fresh, floors: Floors::default() }
    }
}

/// What a load is asked for on behalf of those who share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    /// An answer that has not reached these is none.
    pub(super) floors: Floors,
    /// Somebody wants to know where it was read.
    pub(super) is_marked: bool,
}

/// An answer, and how fresh it is.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    pub(crate) reply: Arc<Reply>,
    /// Of each shard that was asked.
    pub(crate) marks: Arc<[(usize, Mark)]>,
    /// When its load had ended: whatever begins later is newer.
    pub(crate) ended: Instant,
}

impl<S: Source> Inner<S> {
    /// Joins or begins the flight of `key`, and goes on until the answer is as fresh as wished, or
    /// no server has got so far in time.
    pub(super) async fn fly<F, L>(
        &self,
        key: ReadKey,
        wish: &Wish,
        load: L,
    ) -> Result<Landing, FlightError<SqlError>>
    where
        F: Future<Output = Result<Landing, SqlError>> + Send + 'static,
        L: Fn(FlightCx, Demand) -> F + Clone + Send + Sync + 'static,
    {
        let call = wish.deadline.map_or_else(Call::new, |deadline| Call::new().deadline(deadline));
        let is_marked = !wish.floors.is_none();
        let again = is_marked.then(|| (key.clone(), load.clone()));
        let shared = move |cx| load(cx, Demand { floors: Floors::default(), is_marked });
        let landing = self.flights.run_with(key, call.join(wish.join), shared).await?.value;
        let is_too_old = match &landing {
            Landing::Whole(landed) => !wish.floors.admit(&landed.marks),
            // Whoever takes it looks at its mark.
            Landing::TooBig(_) | Landing::Behind => false,
        };
        let Some((mut key, load)) = again.filter(|_| is_too_old) else { return Ok(landing) };
        key.floors = wish.floors.clone();
        let patience = Instant::now() + self.behind_max;
        let patience = wish.deadline.map_or(patience, |deadline| deadline.min(patience));
        let mut pause = LOOK_AGAIN_MIN;
        loop {
            let (load, floors) = (load.clone(), wish.floors.clone());
            let own = move |cx| load(cx, Demand { floors: floors.clone(), is_marked });
            let landing = self.flights.run_with(key.clone(), call.join(Join::Fresh), own).await?;
            let is_behind = matches!(landing.value, Landing::Behind);
            if !is_behind || Instant::now() + pause >= patience {
                return Ok(landing.value);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    /// What a server of this shard is asked for besides: the floor, and whether its place is to be
    /// known. One server alone only ever goes on.
    pub(super) fn fence(&self, shard: ShardId, demand: &Demand) -> Fence {
        let floor = demand.floors.of(shard.index() as usize);
        Fence { floor, is_wanted: demand.is_marked || self.cluster.replicas(shard).len() > 1 }
    }
}

/// What one server is asked for besides its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fence {
    /// The place that it must have reached, or 0.
    pub(super) floor: u64,
    /// Whether it is asked for its place.
    pub(super) is_wanted: bool,
}

/// Whether a shard's read failed also because a server had not got far enough: it may later.
pub(super) fn is_behind<S: Source>(error: &HedgeError<S::Error>) -> bool {
    error.attempts().iter().any(|attempt| attempt.failure.error().is_some_and(S::is_behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_only_raised_and_admits_what_has_reached_it() {
        let mut floors = Floors::default();
        let mark = |from| Mark { from, until: None };
        assert!(floors.is_none() && floors.admit(&[(0, mark(None))]));
        floors.raise(1, 20);
        floors.raise(1, 10);
        assert_eq!((floors.of(0), floors.of(1), floors.of(2)), (0, 20, 0));
        assert!(floors.admit(&[(0, mark(None)), (1, mark(Some(20)))]));
        assert!(!floors.admit(&[(0, mark(Some(30))), (1, mark(Some(19)))]));
        // A server that does not say where it is has reached nothing.
        assert!(!floors.admit(&[(1, mark(None))]));
        floors.clear(1);
        assert_eq!(floors, Floors::default());
    }
}
