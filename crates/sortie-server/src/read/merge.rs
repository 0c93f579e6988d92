//! Rows of several shards as one answer, exactly as one server with all rows would give it.
//!
//! Rows are concatenated in shard order, or merged by ORDER BY (ties in shard order), and LIMIT
//! and OFFSET are applied once, here. Aggregates become one row: counts and sums add up (a sum
//! has 128 bits; no cluster has the rows to leave those), the least and the greatest are picked;
//! over no rows a count is 0 and everything else NULL.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::DataRow;
use sortie_sqlite::Value;

use super::Reply;
use crate::sql::{
    Aggregate, BoundRead, Datum, Decimal, Item, OrderKey, SUM_LOW_BITS, Scalar, SqlError, Type,
    state,
};

/// Bounds of one answer.
pub(super) struct Limits {
    pub(super) rows_max: u64,
    pub(super) bytes_max: usize,
}

/// A shard's rows.
type Rows = Vec<Vec<Value>>;

/// Merges the shards' rows, in shard order, and encodes them.
///
/// # Errors
///
/// 54000 for an answer past the limits, XX000 for values that are not of the column's type.
pub(super) fn merge(
    bound: &BoundRead,
    answers: Vec<Rows>,
    binary: &[bool],
    limits: &Limits,
) -> Result<Reply, SqlError> {
    let skip = usize::try_from(bound.offset()).unwrap_or(usize::MAX);
    let take =
        bound.limit().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut writer = Writer {
        bound,
        binary,
        bytes_max: limits.bytes_max,
        output: BytesMut::new(),
        scratch: Vec::new(),
        count: 0,
    };
    if bound.is_aggregate() {
        if skip == 0 && take > 0 {
            writer.aggregates(&answers)?;
        }
        return Ok(writer.finish());
    }
    let fits = |count: usize| u64::try_from(count).is_ok_and(|count| count <= limits.rows_max);
    let gathered: usize = answers.iter().map(Vec::len).sum();
    if !answers.iter().all(|rows| fits(rows.len()))
        || !fits(gathered.saturating_sub(skip).min(take))
    {
        let message = format!("the result has more than {} rows", limits.rows_max);
        let error = SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message);
        return Err(error.hint("Ask for fewer rows, for example with LIMIT."));
    }
    let alone = answers.len() == 1;
    let mut rows: Rows = answers.into_iter().flatten().collect();
    if !alone {
        sort(&mut rows, bound.items(), bound.order());
    }
    for row in rows.iter().skip(skip).take(take) {
        writer.row(row)?;
    }
    Ok(writer.finish())
}

/// Merges the shards' rows, each sorted: a stable sort finds the runs and merges them, and leaves
/// equal rows in shard order.
fn sort(rows: &mut Rows, items: &[Item], order: &[OrderKey]) {
    let place = |key: &OrderKey| match items[key.item] {
        Item::Column(_) => Some((cell(items, key.item), key.descending)),
        // Every row has the same constant.
        Item::Scalar(_) | Item::Aggregate(_) => None,
    };
    let keys: Vec<(usize, bool)> = order.iter().filter_map(place).collect();
    if keys.is_empty() {
        return;
    }
    rows.sort_by(|a, b| {
        keys.iter().fold(Ordering::Equal, |ordering, (cell, descending)| {
            ordering.then_with(|| {
                let ordering = a[*cell].cmp(&b[*cell]);
                if *descending { ordering.reverse() } else { ordering }
            })
        })
    });
}

/// The first cell that an item has in a shard's row: a sum has two, a constant none.
fn cell(items: &[Item], item: usize) -> usize {
    let cells = |item: &Item| match item {
        Item::Scalar(_) => 0,
        Item::Aggregate(Aggregate::Sum(_)) => 2,
        Item::Column(_) | Item::Aggregate(_) => 1,
    };
    items[..item].iter().map(cells).sum()
}

struct Writer<'a> {
    bound: &'a BoundRead,
    binary: &'a [bool],
    bytes_max: usize,
    output: BytesMut,
    scratch: Vec<u8>,
    count: u64,
}

impl Writer<'_> {
    fn row(&mut self, row: &[Value]) -> Result<(), SqlError> {
        let mut cells = row.iter();
        let columns = self.bound.columns().iter().zip(self.binary);
        let mut frame = DataRow::begin(&mut self.output);
        for (item, (column, binary)) in self.bound.items().iter().zip(columns) {
            let filled = if let Item::Scalar(Scalar::Const(value)) = item {
                value.encode(column.ty, *binary, &mut self.scratch)
            } else {
                let value = cells.next().ok_or_else(|| wrong("too few columns"))?;
                encode(value, column.ty, *binary, &mut self.scratch)?
            };
            fill(&mut frame, filled, &mut self.scratch);
        }
        frame.finish();
        self.ended()
    }

    fn aggregates(&mut self, answers: &[Rows]) -> Result<(), SqlError> {
        let items = self.bound.items();
        let value = |(at, item): (usize, &Item)| match item {
            Item::Scalar(Scalar::Const(value)) => Ok(value.clone()),
            Item::Aggregate(aggregate) => combined(*aggregate, answers, cell(items, at)),
            Item::Scalar(_) | Item::Column(_) => Err(wrong("a column among aggregates")),
        };
        let values: Vec<Datum> = items.iter().enumerate().map(value).collect::<Result<_, _>>()?;
        let columns = self.bound.columns().iter().zip(self.binary);
        let mut frame = DataRow::begin(&mut self.output);
        for (value, (column, binary)) in values.iter().zip(columns) {
            let filled = value.encode(column.ty, *binary, &mut self.scratch);
            fill(&mut frame, filled, &mut self.scratch);
        }
        frame.finish();
        self.ended()
    }

    fn ended(&mut self) -> Result<(), SqlError> {
        self.count += 1;
        if self.output.len() <= self.bytes_max {
            return Ok(());
        }
        let message = format!("the result has more than {} bytes", self.bytes_max);
        let error = SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message);
        Err(error.hint("Ask for fewer rows, for example with LIMIT."))
    }

    /// The frames, copied to their exact size: what waits for slow readers holds nothing more.
    fn finish(self) -> Reply {
        Reply { rows: Bytes::copy_from_slice(&self.output), count: self.count }
    }
}

/// One aggregate over the shards' rows, of which each has one.
fn combined(aggregate: Aggregate, answers: &[Rows], cell: usize) -> Result<Datum, SqlError> {
    let cells = |cell: usize| {
        answers.iter().map(move |rows| {
            let row = rows.first().ok_or_else(|| wrong("no row of aggregates"))?;
            row.get(cell).ok_or_else(|| wrong("too few columns"))
        })
    };
    let total = |cell: usize| {
        cells(cell).try_fold(None, |total, value| match value? {
            Value::Null => Ok(total),
            Value::Int(value) => Ok(Some(total.unwrap_or(0) + i128::from(*value))),
            _ => Err(wrong("a sum that is no integer")),
        })
    };
    Ok(match aggregate {
        Aggregate::CountNothing => Datum::Int(0),
        Aggregate::Count => {
            let total = total(cell)?.unwrap_or(0);
            Datum::Int(i64::try_from(total).map_err(|_wide| wrong("too many rows"))?)
        }
        Aggregate::Sum(_) => match (total(cell)?, total(cell + 1)?) {
            (Some(high), Some(low)) => {
                Datum::Numeric(Decimal::from_i128((high << SUM_LOW_BITS) + low))
            }
            _ => Datum::Null,
        },
        Aggregate::Min(_) | Aggregate::Max(_) => {
            let mut found: Option<&Value> = None;
            for value in cells(cell) {
                let value = value?;
                let better = |found: &Value| match aggregate {
                    Aggregate::Min(_) => value < found,
                    _ => value > found,
                };
                if *value != Value::Null && found.is_none_or(better) {
                    found = Some(value);
                }
            }
            match found {
                None | Some(Value::Null) => Datum::Null,
                Some(Value::Int(value)) => Datum::Int(*value),
                Some(Value::Text(text)) => Datum::Text(text.as_str().into()),
                Some(_) => return Err(wrong("a value of no known type")),
            }
        }
    })
}

/// Moves an encoded value, or NULL, into a row.
fn fill(frame: &mut DataRow<'_>, filled: bool, scratch: &mut Vec<u8>) {
    if filled {
        frame.value(scratch);
    } else {
        frame.null();
    }
    scratch.clear();
}

/// Appends a shard's value in a result format; false for NULL.
fn encode(value: &Value, ty: Type, binary: bool, output: &mut Vec<u8>) -> Result<bool, SqlError> {
    match (value, ty) {
        (Value::Null, _) => Ok(false),
        (Value::Int(value), Type::Int8) => Ok(Datum::Int(*value).encode(ty, binary, output)),
        (Value::Text(text), Type::Text) => {
            output.extend(text.as_bytes());
            Ok(true)
        }
        _ => Err(wrong(&format!("a value that is no {}", ty.name()))),
    }
}

/// A shard broke its word; nothing is made of what it said.
fn wrong(what: &str) -> SqlError {
    SqlError::new(state::INTERNAL_ERROR, format!("a shard answered with {what}"))
}
