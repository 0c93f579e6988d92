//! Parts of several shards as one answer, exactly as one server with all rows would give it.
//!
//! Rows are passed on as they came: concatenated in shard order, or merged by ORDER BY (ties in
//! shard order), and LIMIT and OFFSET are applied once, here. Aggregates become one row: counts
//! and sums add up (a sum has 128 bits; no cluster has the rows to leave those), the least and the
//! greatest are picked; over no rows a count is 0 and everything else NULL.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use sortie_postgres::backend::DataRow;

use super::Reply;
use super::source::{Cell, Part, Rows, Wanted, compare, wrong};
use crate::sql::{Aggregate, Datum, Decimal, Item, Scalar, SqlError, Type, state};

/// Bounds of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) rows_max: u64,
    pub(super) bytes_max: usize,
}

/// Merges the shards' parts, in shard order.
///
/// # Errors
///
/// 54000 for an answer past the limits, 22003 for a sum past its type, XX000 for parts that are
/// not what was asked for.
pub(super) fn merge(
    wanted: &Wanted<'_>,
    parts: Vec<Part>,
    limits: Limits,
) -> Result<Reply, SqlError> {
    let bound = wanted.bound;
    let skip = bound.offset();
    let take = bound.limit().unwrap_or(u64::MAX);
    let reply = if bound.is_aggregate() {
        if skip > 0 || take == 0 {
            return Ok(Reply::default());
        }
        let cells = parts.into_iter().map(|part| match part {
            Part::Aggregates(cells) => Ok(cells),
            Part::Rows(_) => Err(wrong("rows in place of aggregates")),
        });
        aggregates(wanted, &cells.collect::<Result<Vec<_>, _>>()?)?
    } else {
        let rows = parts.into_iter().map(|part| match part {
            Part::Rows(rows) => Ok(rows),
            Part::Aggregates(_) => Err(wrong("aggregates in place of rows")),
        });
        let rows: Vec<Rows> = rows.collect::<Result<_, _>>()?;
        let gathered: u64 = rows.iter().map(|rows| rows.count).sum();
        if rows.iter().any(|rows| rows.count > limits.rows_max)
            || gathered.saturating_sub(skip).min(take) > limits.rows_max
        {
            return Err(too_large(&format!("{} rows", limits.rows_max)));
        }
        let falling: Vec<bool> = wanted.order().into_iter().map(|(_, falling)| falling).collect();
        if falling.is_empty() || rows.len() < 2 {
            concatenated(&rows, skip, take)
        } else {
            sorted(&rows, &falling, skip, take)?
        }
    };
    if reply.rows.len() > limits.bytes_max {
        return Err(too_large(&format!("{} bytes", limits.bytes_max)));
    }
    Ok(reply)
}

/// The error of an answer past a limit.
pub(super) fn too_large(limit: &str) -> SqlError {
    let message = format!("the result has more than {limit}");
    let error = SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message);
    error.hint("Ask for fewer rows, for example with LIMIT.")
}

/// The rows of all shards, in shard order, without the first `skip`.
fn concatenated(parts: &[Rows], mut skip: u64, mut take: u64) -> Reply {
    let mut slices: Vec<Bytes> = Vec::new();
    let mut count = 0;
    for part in parts {
        let skipped = skip.min(part.count);
        let taken = take.min(part.count - skipped);
        (skip, take, count) = (skip - skipped, take - taken, count + taken);
        if taken > 0 {
            let start = length_of(&part.frames, skipped);
            let length = if skipped + taken == part.count {
                part.frames.len() - start
            } else {
                length_of(&part.frames[start..], taken)
            };
            slices.push(part.frames.slice(start..start + length));
        }
    }
    // To its exact size, unless it is one whole part: what waits for slow readers pins no more.
    let rows = match slices.as_slice() {
        [only] if parts.iter().any(|part| part.frames.len() == only.len()) => only.clone(),
        slices => {
            let mut rows = BytesMut::with_capacity(slices.iter().map(Bytes::len).sum());
            for slice in slices {
                rows.extend_from_slice(slice);
            }
            rows.freeze()
        }
    };
    Reply { rows, count, ..Reply::default() }
}

/// The shards' rows, each sorted, as one: a stable sort finds the runs and merges them, and leaves
/// equal rows in shard order.
fn sorted(parts: &[Rows], falling: &[bool], skip: u64, take: u64) -> Result<Reply, SqlError> {
    let mut rows: Vec<(&Rows, Range<usize>, &[Cell])> = Vec::new();
    for part in parts {
        let mut keys = part.keys.chunks_exact(falling.len());
        for range in ranges(&part.frames) {
            let keys = keys.next().ok_or_else(|| wrong("too few keys"))?;
            rows.push((part, range, keys));
        }
    }
    rows.sort_by(|(_, _, a), (_, _, b)| compare(a, b, falling));
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let take = usize::try_from(take).unwrap_or(usize::MAX);
    let kept = || rows.iter().skip(skip).take(take);
    let mut frames = BytesMut::with_capacity(kept().map(|(_, range, _)| range.len()).sum());
    let mut count = 0;
    for (part, range, _) in kept() {
        frames.extend_from_slice(&part.frames[range.clone()]);
        count += 1;
    }
    Ok(Reply { rows: frames.freeze(), count, ..Reply::default() })
}

/// Where each frame is.
pub(super) fn ranges(frames: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut field = frames.get(at + 1..at + 5)?;
        let start = at;
        at += 1 + field.get_u32() as usize;
        Some(start..at)
    })
}

/// Bytes of the first `count` frames.
pub(super) fn length_of(frames: &[u8], count: u64) -> usize {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    ranges(frames).take(count).last().map_or(0, |last| last.end)
}

/// One row of aggregates over all shards.
fn aggregates(wanted: &Wanted<'_>, answers: &[Vec<Cell>]) -> Result<Reply, SqlError> {
    let mut output = BytesMut::new();
    let mut scratch = Vec::new();
    let mut cell = 0;
    let columns = wanted.bound.columns().iter().zip(wanted.binary);
    let mut frame = DataRow::begin(&mut output);
    for (item, (column, binary)) in wanted.bound.items().iter().zip(columns) {
        let value = match item {
            Item::Scalar(Scalar::Const(value)) => value.clone(),
            Item::Aggregate(aggregate) => {
                cell += 1;
                combined(*aggregate, column.ty, answers, cell - 1)?
            }
            Item::Scalar(_) | Item::Column(_) => return Err(wrong("a column among aggregates")),
        };
        if value.encode(column.ty, *binary, &mut scratch) {
            frame.value(&scratch);
        } else {
            frame.null();
        }
        scratch.clear();
    }
    frame.finish();
    Ok(Reply { rows: Bytes::copy_from_slice(&output), count: 1, ..Reply::default() })
}

/// One aggregate over the shards' rows, of which each has one.
fn combined(
    aggregate: Aggregate,
    ty: Type,
    answers: &[Vec<Cell>],
    cell: usize,
) -> Result<Datum, SqlError> {
    let cells = || {
        let cell = |cells: &'_ Vec<Cell>| cells.get(cell).cloned();
        answers.iter().map(move |cells| cell(cells).ok_or_else(|| wrong("too few columns")))
    };
    let total = || {
        cells().try_fold(None, |total, value| match value? {
            Cell::Null => Ok(total),
            Cell::Int(value) => Ok(Some(total.unwrap_or(0) + value)),
            Cell::Text(_) => Err(wrong("a sum that is no integer")),
        })
    };
    Ok(match aggregate {
        Aggregate::CountNothing => Datum::Int(0),
        Aggregate::Count | Aggregate::CountOf(_) => integer(total()?.unwrap_or(0), Type::Int8)?,
        Aggregate::Sum(_) => match total()? {
            None => Datum::Null,
            Some(total) if ty == Type::Numeric => Datum::Numeric(Decimal::from_i128(total)),
            Some(total) => integer(total, ty)?,
        },
        Aggregate::Min(_) | Aggregate::Max(_) => {
            let mut found: Option<Cell> = None;
            for value in cells() {
                let value = value?;
                let better = |found: &Cell| match aggregate {
                    Aggregate::Min(_) => value < *found,
                    _ => value > *found,
                };
                if value != Cell::Null && found.as_ref().is_none_or(better) {
                    found = Some(value);
                }
            }
            match found {
                None | Some(Cell::Null) => Datum::Null,
                Some(Cell::Int(value)) => integer(value, ty)?,
                Some(Cell::Text(text)) => Datum::Text(crate::sql::utf8(&text)?.into()),
            }
        }
    })
}

fn integer(value: i128, ty: Type) -> Result<Datum, SqlError> {
    let value = i64::try_from(value).map(Datum::Int);
    value.map_err(|_wide| {
        let message = format!("{} out of range", ty.name());
        SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, message)
    })
}
