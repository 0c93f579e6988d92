//! A condition after binding: only columns, integers and texts are left.
//!
//! Everything that no row can change is worked out here, in three-valued logic: comparisons of
//! constants, of integers with other numbers, with NULL. No column is ever NULL, so a comparison
//! of a column with a number that is no integer has one answer for all rows.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::sql::error::SqlError;
use crate::sql::ir::{Expr, Op, Scalar, Side};
use crate::sql::value::Datum;

/// A condition on the rows of one table; columns by their place in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Filter {
    /// True, false or NULL for every row.
    Const(Option<bool>),
    /// The value is an integer or a text, as the column is.
    Compare {
        column: usize,
        op: Op,
        value: Datum,
    },
    Columns {
        left: usize,
        op: Op,
        right: usize,
    },
    /// At least one value; in order, each once.
    In {
        column: usize,
        values: Vec<Datum>,
    },
    Not(Box<Filter>),
    And(Vec<Filter>),
    Or(Vec<Filter>),
}

/// Which values of the shard key a row can have that a filter lets through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    All,
    Only(BTreeSet<i64>),
}

impl Filter {
    /// Binds a condition to the values of the parameters.
    ///
    /// # Errors
    ///
    /// 22003 and 22P02 from casts of parameters.
    pub(super) fn bind(expr: &Expr, params: &[Datum]) -> Result<Self, SqlError> {
        let all = |terms: &[Expr]| {
            terms.iter().map(|term| Self::bind(term, params)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match expr {
            Expr::Const(value) => Self::Const(*value),
            Expr::Compare { left, op, right } => compare(left, *op, right, params)?,
            Expr::In { side, list } => {
                let values =
                    list.iter().map(|item| item.value(params)).collect::<Result<_, _>>()?;
                member(side, values, params)?
            }
            Expr::Any { side, array } => match array.value(params)? {
                Datum::Array(values) => member(side, values.to_vec(), params)?,
                _ => Self::Const(None),
            },
            Expr::IsNull(Side::Column(_)) => Self::Const(Some(false)),
            Expr::IsNull(Side::Scalar(scalar)) => {
                Self::Const(Some(scalar.value(params)? == Datum::Null))
            }
            Expr::Not(inner) => match Self::bind(inner, params)? {
                Self::Const(value) => Self::Const(value.map(|value| !value)),
                inner => Self::Not(Box::new(inner)),
            },
            Expr::And(terms) => junction(all(terms)?, true),
            Expr::Or(terms) => junction(all(terms)?, false),
        })
    }

    /// The keys of the rows that may pass; more than there are, never fewer.
    pub(crate) fn keys(&self, key: usize) -> Keys {
        match self {
            Self::Const(Some(false) | None) => Keys::Only(BTreeSet::new()),
            Self::Compare { column, op: Op::Eq, value: Datum::Int(value) } if *column == key => {
                Keys::Only(BTreeSet::from([*value]))
            }
            Self::In { column, values } if *column == key => {
                let integer = |value: &Datum| match value {
                    Datum::Int(value) => Some(*value),
                    _ => None,
                };
                values.iter().map(integer).collect::<Option<_>>().map_or(Keys::All, Keys::Only)
            }
            Self::Const(Some(true))
            | Self::Compare { .. }
            | Self::Columns { .. }
            | Self::In { .. }
            | Self::Not(_) => Keys::All,
            Self::And(terms) => {
                terms.iter().fold(Keys::All, |keys, term| match (keys, term.keys(key)) {
                    (Keys::All, keys) | (keys, Keys::All) => keys,
                    (Keys::Only(a), Keys::Only(b)) => Keys::Only(&a & &b),
                })
            }
            Self::Or(terms) => {
                terms.iter().fold(Keys::Only(BTreeSet::new()), |keys, term| {
                    match (keys, term.keys(key)) {
                        (Keys::Only(mut a), Keys::Only(b)) => {
                            a.extend(b);
                            Keys::Only(a)
                        }
                        _ => Keys::All,
                    }
                })
            }
        }
    }

    /// How many values a statement with this condition carries.
    pub(crate) fn values(&self) -> usize {
        match self {
            Self::Const(_) | Self::Columns { .. } => 0,
            Self::Compare { .. } => 1,
            Self::In { values, .. } => values.len(),
            Self::Not(inner) => inner.values(),
            Self::And(terms) | Self::Or(terms) => terms.iter().map(Self::values).sum(),
        }
    }

    /// The same condition for the rows of one shard, which have no keys but those it owns.
    #[must_use]
    pub(crate) fn owned(&self, key: usize, owns: &dyn Fn(i64) -> bool) -> Self {
        let owned = |value: &Datum| !matches!(value, Datum::Int(value) if !owns(*value));
        let all = |terms: &[Self]| terms.iter().map(|term| term.owned(key, owns)).collect();
        match self {
            Self::Compare { column, op: Op::Eq, value } if *column == key && !owned(value) => {
                Self::Const(Some(false))
            }
            Self::In { column, values } if *column == key => {
                list(*column, values.iter().filter(|value| owned(value)).cloned().collect())
            }
            Self::Not(inner) => match inner.owned(key, owns) {
                Self::Const(value) => Self::Const(value.map(|value| !value)),
                inner => Self::Not(Box::new(inner)),
            },
            Self::And(terms) => junction(all(terms), true),
            Self::Or(terms) => junction(all(terms), false),
            other => other.clone(),
        }
    }
}

fn compare(left: &Side, op: Op, right: &Side, params: &[Datum]) -> Result<Filter, SqlError> {
    Ok(match (left, right) {
        (Side::Column(left), Side::Column(right)) => {
            Filter::Columns { left: *left, op, right: *right }
        }
        (Side::Column(column), Side::Scalar(scalar)) => against(*column, op, scalar.value(params)?),
        (Side::Scalar(scalar), Side::Column(column)) => {
            against(*column, op.flipped(), scalar.value(params)?)
        }
        (Side::Scalar(left), Side::Scalar(right)) => {
            let ordering = left.value(params)?.compare(&right.value(params)?);
            Filter::Const(ordering.map(|ordering| op.holds(ordering)))
        }
    })
}

/// A column against a constant of a comparable type.
fn against(column: usize, op: Op, value: Datum) -> Filter {
    let decimal = match value {
        Datum::Null => return Filter::Const(None),
        Datum::Numeric(decimal) => decimal,
        value => return Filter::Compare { column, op, value },
    };
    // An integer column against any number: the integers below it decide.
    let (floor, exact) = decimal.floor();
    let op = match (op, exact) {
        (Op::Eq | Op::Ne, false) => return Filter::Const(Some(op == Op::Ne)),
        (Op::Lt, false) => Op::Le,
        (Op::Ge, false) => Op::Gt,
        (op, _) => op,
    };
    if let Ok(value) = i64::try_from(floor) {
        return Filter::Compare { column, op, value: Datum::Int(value) };
    }
    // All integers of the column are on the same side of it.
    let side = if floor > 0 { Ordering::Less } else { Ordering::Greater };
    Filter::Const(Some(op.holds(side)))
}

/// `side IN (values)`: true if one is equal, else NULL if one is NULL, else false.
fn member(side: &Side, values: Vec<Datum>, params: &[Datum]) -> Result<Filter, SqlError> {
    let null = values.contains(&Datum::Null);
    let otherwise = Filter::Const(if null { None } else { Some(false) });
    let column = match side {
        Side::Column(column) => *column,
        Side::Scalar(scalar) => {
            let value = scalar.value(params)?;
            if values.is_empty() {
                return Ok(otherwise);
            }
            if value == Datum::Null {
                return Ok(Filter::Const(None));
            }
            let found = values.iter().any(|item| value.compare(item) == Some(Ordering::Equal));
            return Ok(if found { Filter::Const(Some(true)) } else { otherwise });
        }
    };
    let equal = values.into_iter().filter_map(|value| match against(column, Op::Eq, value) {
        Filter::Compare { value, .. } => Some(value),
        _ => None,
    });
    Ok(junction(vec![list(column, equal.collect()), otherwise], false))
}

/// The simplest form of `column IN (values)`; none of them is NULL.
fn list(column: usize, mut values: Vec<Datum>) -> Filter {
    values.sort_by(|a, b| a.compare(b).expect("values of one type, none of them NULL"));
    values.dedup();
    match values.len() {
        0 => Filter::Const(Some(false)),
        1 => Filter::Compare { column, op: Op::Eq, value: values.remove(0) },
        _ => Filter::In { column, values },
    }
}

/// AND (`all`) or OR, without the terms that can't matter.
fn junction(terms: Vec<Filter>, all: bool) -> Filter {
    let decided = Filter::Const(Some(!all));
    if terms.contains(&decided) {
        return decided;
    }
    let mut left: Vec<Filter> = Vec::new();
    for term in terms {
        let neutral = term == Filter::Const(Some(all));
        let repeated = term == Filter::Const(None) && left.contains(&term);
        if !neutral && !repeated {
            left.push(term);
        }
    }
    match left.len() {
        0 => Filter::Const(Some(all)),
        1 => left.remove(0),
        _ if all => Filter::And(left),
        _ => Filter::Or(left),
    }
}

/// What a value of LIMIT or OFFSET says: `None` where it is NULL.
///
/// # Errors
///
/// `negative`, for a number below zero; those of casts.
pub(super) fn row_count(
    scalar: Option<&Scalar>,
    params: &[Datum],
    negative: (&'static str, &'static str),
) -> Result<Option<u64>, SqlError> {
    match scalar.map(|scalar| scalar.value(params)).transpose()? {
        Some(Datum::Int(value)) => {
            let (code, clause) = negative;
            let count = u64::try_from(value)
                .map_err(|_negative| SqlError::new(code, format!("{clause} must not be negative")));
            count.map(Some)
        }
        _ => Ok(None),
    }
}
