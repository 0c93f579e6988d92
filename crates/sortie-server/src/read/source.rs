//! Where rows come from: replicas, whatever kind of server holds them.

use std::cmp::Ordering;

use bytes::Bytes;
use sortie::{Classify, HedgeError};

use super::Who;
use super::fresh::{Fence, Mark};
use crate::sql::{BoundRead, SqlError};

/// A handle of one replica, and what is peculiar to its kind.
pub(crate) trait Source: Clone + Send + Sync + 'static {
    /// What one shard is asked.
    type Query: Clone + Send + Sync + 'static;
    /// What a replica says.
    type Answer: Send + 'static;
    /// Why a replica says nothing.
    type Error: Send + 'static;
    /// What an attempt's outcome means.
    type Class: Classify<Self::Answer, Self::Error> + Clone + Send + Sync + 'static;

    /// Returns what tells answers from failures.
    fn class() -> Self::Class;

    /// The replica's name in errors and metrics.
    fn label(&self) -> String;

    /// What a shard that owns these keys is asked for its part of a read.
    fn query(wanted: &Wanted<'_>, fence: Fence, owns: &dyn Fn(i64) -> bool) -> Self::Query;

    /// Between which places of the shard's log an answer was read; where nobody asks, or knows,
    /// nothing.
    fn mark(_answer: &Self::Answer) -> Mark {
        Mark::default()
    }

    /// Whether a replica says nothing because it has not got as far as it must.
    fn is_behind(_error: &Self::Error) -> bool {
        false
    }

    /// Asks this replica.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future calls the attempt back: the replica stops working on it.
    fn ask(
        self,
        query: Self::Query,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;

    /// Takes a shard's answer apart, as far as merging needs it.
    ///
    /// # Errors
    ///
    /// XX000 for values that are not of the column's type.
    fn part(answer: Self::Answer, wanted: &Wanted<'_>) -> Result<Part, SqlError>;

    /// Why no replica of a shard answered.
    fn failed(error: HedgeError<Self::Error>) -> SqlError;
}

/// A read, as those see it who ask for its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) who: &'a Who,
    pub(crate) bound: &'a BoundRead,
    /// True for each column that is sent in the binary format.
    pub(crate) binary: &'a [bool],
    /// Whose parts they are: a flight's number, or 0.
    pub(crate) flight: u64,
    /// Rows that a shard may have at most.
    pub(crate) rows_max: u64,
    /// Bytes that a shard's part may have at most.
    pub(crate) bytes_max: usize,
}

/// One shard's part of a read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Rows(Rows),
    /// One cell for each aggregate of the result.
    Aggregates(Vec<Cell>),
}

/// Rows as they are sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    /// `DataRow` frames, one after the other.
    pub(crate) frames: Bytes,
    /// How many.
    pub(crate) count: u64,
    /// The values that ORDER BY looks at, row after row; empty where nothing is to be sorted.
    pub(crate) keys: Vec<Cell>,
}

/// One value of a row, decoded.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Cell {
    Null,
    Int(i128),
    /// Ordered by its bytes.
    Text(Bytes),
}

impl Wanted<'_> {
    /// The items of the result that its rows are ordered by, and which of them fall.
    pub(crate) fn order(&self) -> Vec<(usize, bool)> {
        use crate::sql::Item;
        let items = self.bound.items();
        // Every row has the same constant.
        let varies = |item: usize| matches!(items[item], Item::Column(_));
        let keys = self.bound.order().iter().filter(|key| varies(key.item));
        keys.map(|key| (key.item, key.descending)).collect()
    }
}

/// Compares two rows' keys; `falling` says which of them fall.
pub(super) fn compare(a: &[Cell], b: &[Cell], falling: &[bool]) -> Ordering {
    let keys = a.iter().zip(b).zip(falling);
    keys.fold(Ordering::Equal, |ordering, ((a, b), falling)| {
        ordering.then_with(|| if *falling { b.cmp(a) } else { a.cmp(b) })
    })
}

/// A shard broke its word; nothing is made of what it said.
pub(super) fn wrong(what: &str) -> SqlError {
    SqlError::new(crate::sql::state::INTERNAL_ERROR, format!("a shard answered with {what}"))
}
