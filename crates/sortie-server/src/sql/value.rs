//! Constants and parameter values.

use std::sync::Arc;

use crate::sql::decimal::Decimal;

/// A value of one of the served types; which one is known where it is used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Numeric(Decimal),
    Text(Arc<str>),
    Array(Arc<[Datum]>),
}
