//! Parameter values as a Bind message carries them.

use bytes::Bytes;

use crate::sql::array;
use crate::sql::decimal::Decimal;
use crate::sql::error::{SqlError, state};
use crate::sql::types::Type;
use crate::sql::utf8::utf8;
use crate::sql::value::Datum;

/// Reads the values of a statement's parameters.
///
/// # Errors
///
/// 08P01 for wrong counts, 22P03 for wrong bytes, 22P02, 22003 and 22021 as for constants.
pub(super) fn values(
    types: &[Type],
    formats: &[i16],
    values: &[Option<Bytes>],
) -> Result<Vec<Datum>, SqlError> {
    if values.len() != types.len() {
        let message = format!(
            "bind message supplies {} parameters, but prepared statement requires {}",
            values.len(),
            types.len()
        );
        return Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
    }
    if formats.len() > 1 && formats.len() != values.len() {
        let message = format!(
            "bind message has {} parameter formats but {} parameters",
            formats.len(),
            values.len()
        );
        return Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
    }
    let value = |(at, (ty, value)): (usize, (&Type, &Option<Bytes>))| {
        let format = formats.get(if formats.len() == 1 { 0 } else { at }).copied().unwrap_or(0);
        match (value, format) {
            (None, 0 | 1) => Ok(Datum::Null),
            (Some(bytes), 0) => Datum::parse(utf8(bytes)?, *ty),
            (Some(bytes), 1) => binary(bytes, *ty).map_err(|error| match error.code {
                state::INVALID_BINARY_REPRESENTATION => incorrect(at),
                _ => error,
            }),
            _ => Err(unknown_format(format)),
        }
    };
    types.iter().zip(values).enumerate().map(value).collect()
}

/// One flag per column: true for binary. Formats are none, one for all, or one each.
///
/// # Errors
///
/// 08P01 for a wrong count, 22023 for a format that is neither text nor binary.
pub(crate) fn result_formats(formats: &[i16], columns: usize) -> Result<Vec<bool>, SqlError> {
    if formats.len() > 1 && formats.len() != columns {
        let message = format!(
            "bind message has {} result formats but query has {columns} columns",
            formats.len()
        );
        return Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
    }
    if let Some(format) = formats.iter().find(|format| !matches!(format, 0 | 1)) {
        return Err(unknown_format(*format));
    }
    let format = |at: usize| formats.get(if formats.len() == 1 { 0 } else { at }) == Some(&1);
    Ok((0..columns).map(format).collect())
}

/// Reads one value of the binary format.
pub(super) fn binary(bytes: &[u8], ty: Type) -> Result<Datum, SqlError> {
    let wrong = || SqlError::new(state::INVALID_BINARY_REPRESENTATION, "incorrect binary data");
    match ty {
        Type::Int2 => {
            bytes.try_into().map(|bytes| Datum::Int(i16::from_be_bytes(bytes).into())).ok()
        }
        Type::Int4 => {
            bytes.try_into().map(|bytes| Datum::Int(i32::from_be_bytes(bytes).into())).ok()
        }
        Type::Int8 => bytes.try_into().map(|bytes| Datum::Int(i64::from_be_bytes(bytes))).ok(),
        Type::Numeric => Some(Datum::Numeric(Decimal::from_binary(bytes)?)),
        Type::Text | Type::Varchar | Type::Name => Some(Datum::Text(utf8(bytes)?.into())),
        Type::Array(element) => Some(array::from_binary(bytes, element)?),
        Type::Bool => match bytes {
            [value @ (0 | 1)] => Some(Datum::Bool(*value == 1)),
            _ => None,
        },
        Type::Other { .. } => None,
    }
    .ok_or_else(wrong)
}

fn incorrect(at: usize) -> SqlError {
    let message = format!("incorrect binary data format in bind parameter {}", at + 1);
    SqlError::new(state::INVALID_BINARY_REPRESENTATION, message)
}

fn unknown_format(format: i16) -> SqlError {
    let message = format!("unsupported format code: {format}");
    SqlError::new(state::INVALID_PARAMETER_VALUE, message)
}
