//! What a read's result is made of: all that merging the shards' answers needs to know.

use crate::sql::value::Datum;

/// The result's outputs, and which of the merged rows are wanted in which order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) outputs: Vec<Output>,
    pub(crate) order: Vec<OrderKey>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: u64,
}

/// One column of the result. All but constants are, in this order, the columns of a shard's rows.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// A value per row.
    Column,
    /// The same in every row; no shard is asked for it.
    Constant(Datum),
    /// A number of rows.
    Count,
    /// A sum of integers.
    Sum,
    Min,
    Max,
}

/// One key of ORDER BY.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OrderKey {
    /// The output it orders by.
    pub(crate) item: usize,
    pub(crate) descending: bool,
}

impl Output {
    /// Whether a shard says one value for all its rows.
    pub(crate) fn is_aggregate(&self) -> bool {
        matches!(self, Self::Count | Self::Sum | Self::Min | Self::Max)
    }
}
