//! Constants and parameter values: read, cast, compared, written.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::sql::decimal::Decimal;
use crate::sql::error::{SqlError, state};
use crate::sql::types::Type;

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

impl Datum {
    /// Reads PostgreSQL's text format.
    ///
    /// # Errors
    ///
    /// 22P02 for what is no value of the type, 22003 for a number beyond it.
    pub(crate) fn parse(text: &str, ty: Type) -> Result<Self, SqlError> {
        match ty {
            Type::Int2 | Type::Int4 | Type::Int8 => integer(text, ty),
            Type::Numeric => Decimal::parse(text).map(Self::Numeric),
            Type::Text | Type::Varchar | Type::Name => Ok(Self::Text(text.into())),
            Type::Array(element) => super::array::parse(text, element),
            Type::Bool | Type::Other { .. } => {
                let reason = format!("a string can't stand for {} here", ty.name());
                Err(SqlError::unsupported(reason))
            }
        }
    }

    /// Casts as PostgreSQL's explicit casts do, between numbers and texts.
    ///
    /// # Errors
    ///
    /// 22003 and 22P02 for values that the target can't have.
    pub(crate) fn cast(self, to: Type) -> Result<Self, SqlError> {
        match (self, to) {
            (Self::Int(value), Type::Int2 | Type::Int4 | Type::Int8) => {
                ranged(i128::from(value), to)
            }
            (Self::Int(value), Type::Numeric) => {
                Ok(Self::Numeric(Decimal::from_i128(value.into())))
            }
            (Self::Numeric(value), Type::Int2 | Type::Int4 | Type::Int8) => match value.round() {
                Some(value) => ranged(value, to),
                None => Err(out_of_range(to)),
            },
            (Self::Int(value), Type::Text | Type::Varchar) => {
                Ok(Self::Text(value.to_string().into()))
            }
            (Self::Numeric(value), Type::Text | Type::Varchar) => {
                Ok(Self::Text(value.to_string().into()))
            }
            (Self::Text(value), to) => Self::parse(&value, to),
            (value, _) => Ok(value),
        }
    }

    /// The other sign, for `-` in front of a number of this type.
    ///
    /// # Errors
    ///
    /// 22003 where the type has no such number.
    pub(crate) fn negated(self, ty: Type) -> Result<Self, SqlError> {
        match self {
            Self::Int(value) => ranged(-i128::from(value), ty),
            Self::Numeric(value) => Ok(Self::Numeric(value.negated())),
            other => Ok(other),
        }
    }

    /// Compares two numbers, or two texts by their bytes; `None` if one is NULL.
    ///
    /// # Panics
    ///
    /// Panics if the types can't be compared: statements are typed before.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => None,
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (a, b) => Some(a.decimal().cmp(&b.decimal())),
        }
    }

    /// Appends the value in a result format (0 text, 1 binary); false for NULL.
    ///
    /// # Panics
    ///
    /// Panics for an array: no result column has one.
    pub(crate) fn encode(&self, ty: Type, binary: bool, output: &mut Vec<u8>) -> bool {
        match self {
            Self::Null => return false,
            Self::Bool(value) if binary => output.push(u8::from(*value)),
            Self::Bool(value) => output.push(if *value { b't' } else { b'f' }),
            Self::Int(value) if binary => {
                let size = usize::try_from(ty.size()).expect("integers have a size");
                output.extend(&value.to_be_bytes()[8 - size..]);
            }
            Self::Int(value) => output.extend(value.to_string().bytes()),
            Self::Numeric(value) if binary => output.extend(value.to_binary()),
            Self::Numeric(value) => output.extend(value.to_string().bytes()),
            Self::Text(value) => output.extend(value.bytes()),
            Self::Array(_) => unreachable!("no result column is an array"),
        }
        true
    }

    fn decimal(&self) -> Decimal {
        match self {
            Self::Int(value) => Decimal::from_i128((*value).into()),
            Self::Numeric(value) => value.clone(),
            _ => unreachable!("only numbers are compared with numbers"),
        }
    }
}

/// What a number constant is: `integer` if it fits, else `bigint`, else `numeric`.
///
/// # Errors
///
/// 22003 beyond `numeric`.
pub(crate) fn number(text: &str) -> Result<(Datum, Type), SqlError> {
    match text.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => Ok((Datum::Int(value), Type::Int4)),
        Ok(value) => Ok((Datum::Int(value), Type::Int8)),
        Err(_) => Ok((Datum::Numeric(Decimal::parse(text)?), Type::Numeric)),
    }
}

/// Reads an integer as `int8in` and its kin do: blanks around it, a sign, digits.
fn integer(text: &str, ty: Type) -> Result<Datum, SqlError> {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("invalid input syntax for type {}: \"{text}\"", ty.name());
        return Err(SqlError::new(state::INVALID_TEXT_REPRESENTATION, message));
    }
    let (min, max) = bounds(ty);
    match trimmed.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(Datum::Int(value)),
        _ => {
            let message = format!("value \"{text}\" is out of range for type {}", ty.name());
            Err(SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, message))
        }
    }
}

fn ranged(value: i128, ty: Type) -> Result<Datum, SqlError> {
    let (min, max) = bounds(ty);
    match i64::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(Datum::Int(value)),
        _ => Err(out_of_range(ty)),
    }
}

fn out_of_range(ty: Type) -> SqlError {
    SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("{} out of range", ty.name()))
}

fn bounds(ty: Type) -> (i64, i64) {
    match ty {
        Type::Int2 => (i16::MIN.into(), i16::MAX.into()),
        Type::Int4 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

#[cfg(test)]
mod tests;
