//! What goes into a statement and what comes out.

/// A parameter, or one column of a row.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A 64-bit integer: `user_id`, `balance`, a count, a sum.
    Int(i64),
    /// Text: `name`.
    Text(String),
}

/// The whole answer to one statement.
///
/// It is bounded by the table, which has as many rows as the cluster was created with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rows {
    /// Rows in the statement's order, each with one value per column.
    pub rows: Vec<Vec<Value>>,
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}
