//! The typed form of a statement: everything that can be said to a shard, and nothing else.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::sql::catalog::Table;
use crate::sql::error::SqlError;
use crate::sql::local::ConstItem;
use crate::sql::types::{Column, Type};
use crate::sql::value::Datum;

/// A value that does not depend on a row: a constant, or a parameter through casts.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Const(Datum),
    Param {
        index: usize,
        casts: Vec<Type>,
    },
    /// `ARRAY[…]`.
    Array(Vec<Scalar>),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// A column, by its place in the table.
    Column(usize),
    Scalar(Scalar),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A condition, in SQL's three-valued logic.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Const(Option<bool>),
    Compare { left: Side, op: Op, right: Side },
    In { side: Side, list: Vec<Scalar> },
    Any { side: Side, array: Scalar },
    IsNull(Side),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

/// One column of a result.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Column(usize),
    Scalar(Scalar),
    Aggregate(Aggregate),
}

/// An aggregate; the number is the column's place in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Aggregate {
    /// `count(*)`, and the count of a column that is never NULL.
    Count,
    /// The count of a column that may be NULL.
    CountOf(usize),
    /// `count(NULL)`.
    CountNothing,
    Sum(usize),
    Min(usize),
    Max(usize),
}

/// One key of ORDER BY: an item of the result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OrderKey {
    pub(crate) item: usize,
    pub(crate) descending: bool,
}

/// LIMIT and OFFSET, both `bigint`.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) limit: Option<Scalar>,
    pub(super) offset: Option<Scalar>,
}

/// A read from a table.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) table: Arc<Table>,
    /// The client named the table with its schema.
    pub(super) qualified: bool,
    pub(super) items: Vec<Item>,
    pub(super) filter: Expr,
    pub(super) order: Vec<OrderKey>,
    pub(super) window: Window,
}

/// A `SELECT` without `FROM`.
#[derive(Clone, Debug)]
pub(super) struct ConstSelect {
    pub(super) items: Vec<ConstSource>,
    pub(super) filter: Expr,
    pub(super) window: Window,
}

/// One column of it.
#[derive(Clone, Debug)]
pub(super) enum ConstSource {
    Scalar(Scalar),
    Session(ConstItem),
}

/// What a statement turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Read(Arc<Select>),
    Const(Arc<ConstSelect>),
}

/// A statement after analysis.
#[derive(Clone, Debug)]
pub(super) struct Analyzed {
    pub(super) body: Body,
    pub(super) columns: Vec<Column>,
    pub(super) params: Vec<Type>,
}

impl Scalar {
    /// The value, given those of the parameters.
    ///
    /// # Errors
    ///
    /// 22003 and 22P02 from casts.
    pub(super) fn value(&self, params: &[Datum]) -> Result<Datum, SqlError> {
        match self {
            Self::Const(value) => Ok(value.clone()),
            Self::Param { index, casts } => {
                casts.iter().try_fold(params[*index].clone(), |value, to| value.cast(*to))
            }
            Self::Array(items) => {
                let items = items.iter().map(|item| item.value(params));
                Ok(Datum::Array(items.collect::<Result<_, _>>()?))
            }
        }
    }
}

impl Op {
    /// With the sides exchanged.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
        }
    }

    /// Whether it holds between two values that compare like this.
    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }

    /// As SQL writes it.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}
