//! A server's rows, taken apart as far as merging needs them.

use bytes::{Buf, Bytes};

use super::super::merge::ranges;
use super::super::source::{Cell, Part, Rows, Wanted, wrong};
use crate::sql::{Item, SqlError, Type};

/// Makes a shard's part of its `DataRow` frames.
///
/// # Errors
///
/// XX000 for values that are not of the column's type.
pub(super) fn part(frames: Bytes, count: u64, wanted: &Wanted<'_>) -> Result<Part, SqlError> {
    let columns = wanted.bound.columns();
    if wanted.bound.is_aggregate() {
        let range = ranges(&frames).next().ok_or_else(|| wrong("no row of aggregates"))?;
        let mut values = values(frames.slice(range))?.into_iter();
        let mut cells = Vec::new();
        for (item, column) in wanted.bound.items().iter().zip(columns) {
            if let Item::Aggregate(_) = item {
                let value = values.next().ok_or_else(|| wrong("too few columns"))?;
                cells.push(cell(value, column.ty, false)?);
            }
        }
        return Ok(Part::Aggregates(cells));
    }
    let order = wanted.order();
    let mut keys = Vec::new();
    if !order.is_empty() {
        for range in ranges(&frames) {
            let values = values(frames.slice(range))?;
            for (item, _) in &order {
                let value = values.get(*item).cloned().ok_or_else(|| wrong("too few columns"))?;
                keys.push(cell(value, columns[*item].ty, wanted.binary[*item])?);
            }
        }
    }
    Ok(Part::Rows(Rows { frames, count, keys }))
}

/// The values of all rows; `None` is NULL.
///
/// # Errors
///
/// XX000 for a row that ends early.
pub(crate) fn values_of_rows(frames: &Bytes) -> Result<Vec<Vec<Option<Bytes>>>, SqlError> {
    ranges(frames).map(|range| values(frames.slice(range))).collect()
}

/// The values of one row; `None` is NULL.
fn values(mut frame: Bytes) -> Result<Vec<Option<Bytes>>, SqlError> {
    let short = || wrong("a row that ends early");
    if frame.len() < 7 {
        return Err(short());
    }
    frame.advance(5);
    let count = frame.get_u16();
    let mut values = Vec::with_capacity(count.into());
    for _ in 0..count {
        if frame.len() < 4 {
            return Err(short());
        }
        let Ok(length) = usize::try_from(frame.get_i32()) else {
            values.push(None);
            continue;
        };
        if frame.len() < length {
            return Err(short());
        }
        values.push(Some(frame.split_to(length)));
    }
    Ok(values)
}

fn cell(value: Option<Bytes>, ty: Type, binary: bool) -> Result<Cell, SqlError> {
    let Some(value) = value else { return Ok(Cell::Null) };
    match ty {
        Type::Text | Type::Varchar => Ok(Cell::Text(value)),
        Type::Int2 | Type::Int4 | Type::Int8 if binary => {
            let number = match value.len() {
                2 => i64::from((&value[..]).get_i16()),
                4 => i64::from((&value[..]).get_i32()),
                8 => (&value[..]).get_i64(),
                _ => return Err(wrong("an integer of an unknown size")),
            };
            Ok(Cell::Int(number.into()))
        }
        Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric => {
            let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            number.map(Cell::Int).ok_or_else(|| wrong("a number that is no integer"))
        }
        _ => Err(wrong("a value of a type that is not compared")),
    }
}
