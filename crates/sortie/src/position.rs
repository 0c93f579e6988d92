//! Positions: how much of each shard's history an answer contains.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::ShardId;

/// Up to where each shard's history had been replayed when an answer was read.
///
/// Opaque: it is only ever compared, and only with a position of the same history. Cheap to clone.
///
/// # Examples
///
/// ```
/// use sortie::{Position, ShardId, WalPoint};
///
/// let at = |lsn| {
///     Position::of([(ShardId::new(0), WalPoint { system: 7_301, timeline: 1, lsn })])
/// };
/// assert_eq!(at(200).reached(&at(100)), Ok(true));
/// assert_eq!(at(100).reached(&at(200)), Ok(false));
///
/// let promoted = WalPoint { system: 7_301, timeline: 2, lsn: 900 };
/// let after_failover = Position::of([(ShardId::new(0), promoted)]);
/// assert!(after_failover.reached(&at(100)).is_err()); // Nobody can say; so nobody guesses.
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// Sorted by shard, each shard once. One word wide: it travels with every cached value.
    points: Arc<Vec<(ShardId, WalPoint)>>,
}

/// A point in one shard's history, as PostgreSQL names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "these three are what names a point, no more")]
pub struct WalPoint {
    /// The system identifier: which cluster of PostgreSQL wrote the history.
    pub system: u64,
    /// The timeline: which branch of it. Each promotion begins a new one.
    pub timeline: u32,
    /// The log sequence number: the byte on that branch.
    pub lsn: u64,
}

/// Two positions can't be compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PositionError {
    /// They name different systems for this shard.
    Systems(ShardId),
    /// They name different timelines of this shard.
    Timelines(ShardId),
    /// The position says nothing about this shard.
    Unknown(ShardId),
}

impl Position {
    /// Creates the position that these points name together. Of a shard named twice the last
    /// point counts.
    pub fn of(points: impl IntoIterator<Item = (ShardId, WalPoint)>) -> Self {
        let sorted: BTreeMap<_, _> = points.into_iter().collect();
        Self { points: Arc::new(sorted.into_iter().collect()) }
    }

    /// Says whether an answer read at this position contains everything up to `floor`. It does not
    /// as soon as one shard is known to be behind, whatever the others are.
    ///
    /// # Errors
    ///
    /// [`PositionError`] when no shard is known to be behind, and one of `floor` is missing here or
    /// its history is another one.
    pub fn reached(&self, floor: &Self) -> Result<bool, PositionError> {
        let mut unknown = None;
        for &(shard, floor) in &*floor.points {
            let here = self.point(shard).ok_or(PositionError::Unknown(shard));
            match here.and_then(|here| here.comparable(floor, shard).map(|()| here)) {
                Ok(here) if here.lsn < floor.lsn => return Ok(false),
                Ok(_) => {}
                Err(why) => unknown = unknown.or(Some(why)),
            }
        }
        unknown.map_or(Ok(true), Err)
    }

    /// The points that this position names, in the order of their shards: for a cache that keeps
    /// positions outside this process.
    pub fn points(&self) -> impl Iterator<Item = (ShardId, WalPoint)> {
        self.points.iter().copied()
    }

    /// The floor above both: of each shard the later point. A shard whose points can't be
    /// compared keeps the one of `newer`, and the flag says that there is such a shard.
    pub fn raised(&self, newer: &Self) -> (Self, bool) {
        let mut points: BTreeMap<_, _> = self.points.iter().copied().collect();
        let mut broken = false;
        for &(shard, point) in &*newer.points {
            let highest = points.entry(shard).or_insert(point);
            match highest.comparable(point, shard) {
                Ok(()) => highest.lsn = highest.lsn.max(point.lsn),
                Err(_other_history) => {
                    broken = true;
                    *highest = point;
                }
            }
        }
        (Self::of(points), broken)
    }

    fn point(&self, shard: ShardId) -> Option<WalPoint> {
        let place = self.points.binary_search_by_key(&shard, |&(shard, _)| shard).ok()?;
        Some(self.points[place].1)
    }
}

impl WalPoint {
    fn comparable(self, other: Self, shard: ShardId) -> Result<(), PositionError> {
        if self.system != other.system {
            return Err(PositionError::Systems(shard));
        }
        if self.timeline != other.timeline {
            return Err(PositionError::Timelines(shard));
        }
        Ok(())
    }
}

impl StdError for PositionError {}

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shard, what) = match self {
            Self::Systems(shard) => (shard, "the positions are of different systems"),
            Self::Timelines(shard) => (shard, "the positions are of different timelines"),
            Self::Unknown(shard) => (shard, "the position says nothing about it"),
        };
        write!(f, "shard {}: {what}", shard.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(points: &[(u32, u32, u64)]) -> Position {
        let named =
            |&(shard, timeline, lsn)| (ShardId::new(shard), WalPoint { system: 1, timeline, lsn });
        Position::of(points.iter().map(named))
    }

    #[test]
    fn every_shard_of_the_floor_must_be_reached() {
        let floor = at(&[(0, 1, 10), (2, 1, 20)]);
        assert_eq!(at(&[(0, 1, 10), (1, 1, 0), (2, 1, 20)]).reached(&floor), Ok(true));
        assert_eq!(at(&[(0, 1, 11), (2, 1, 19)]).reached(&floor), Ok(false));
        assert_eq!(at(&[]).reached(&at(&[])), Ok(true));
    }

    #[test]
    fn what_can_not_be_compared_is_an_error() {
        let (zero, two) = (ShardId::new(0), ShardId::new(2));
        let floor = at(&[(0, 1, 10), (2, 1, 20)]);
        assert_eq!(at(&[(0, 1, 99)]).reached(&floor), Err(PositionError::Unknown(two)));
        let promoted = at(&[(0, 2, 99), (2, 1, 99)]);
        assert_eq!(promoted.reached(&floor), Err(PositionError::Timelines(zero)));
        let elsewhere = Position::of([(zero, WalPoint { system: 2, timeline: 1, lsn: 99 })]);
        assert_eq!(elsewhere.reached(&floor), Err(PositionError::Systems(zero)));
    }

    #[test]
    fn one_shard_that_is_behind_outweighs_those_that_can_not_be_compared() {
        let floor = at(&[(0, 1, 10), (1, 1, 20), (2, 1, 30)]);
        assert_eq!(at(&[(0, 1, 5)]).reached(&floor), Ok(false));
        assert_eq!(at(&[(2, 1, 29)]).reached(&floor), Ok(false));
        assert_eq!(at(&[(0, 2, 99), (1, 1, 19), (2, 1, 30)]).reached(&floor), Ok(false));
        let unknown = Err(PositionError::Unknown(ShardId::new(1)));
        assert_eq!(at(&[(0, 1, 10)]).reached(&floor), unknown);
    }

    #[test]
    fn a_raised_floor_is_above_both_unless_a_history_changed() {
        let low = at(&[(0, 1, 10), (1, 1, 5)]);
        let high = at(&[(0, 1, 7), (2, 1, 9)]);
        let both = at(&[(0, 1, 10), (1, 1, 5), (2, 1, 9)]);
        assert_eq!(low.raised(&high), (both, false));
        let promoted = at(&[(0, 2, 1)]);
        assert_eq!(low.raised(&promoted), (at(&[(0, 2, 1), (1, 1, 5)]), true));
    }
}
