//! Tables as they are shown: typed columns, rows, and the frames that they are sent as.

use bytes::{BufMut, BytesMut};
use sortie_postgres::backend::{self, DataRow, Field};

use crate::sql::{SqlError, state};

/// What a column holds; what each is called and sent as is PostgreSQL's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Text,
    Int4,
    Int8,
    /// Whole numbers without a bound, as `PgBouncer` has its sums.
    Numeric,
}

/// A column's name, and what it holds.
pub(crate) type Column = (&'static str, Kind);

/// One value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cell {
    /// Not known.
    Null,
    Text(String),
    Number(u64),
}

/// Rows under the same columns.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Appends a row, which has a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "{:?}", self.columns);
        self.rows.push(cells.into());
    }

    /// Appends the rows as frames, in these formats: one for each column, one for all, or none.
    pub(crate) fn encode(&self, formats: &[i16], output: &mut BytesMut) {
        for cells in &self.rows {
            let mut row = DataRow::begin(output);
            for (at, (cell, (_, kind))) in cells.iter().zip(self.columns).enumerate() {
                let binary = format(formats, at) == 1;
                match cell {
                    Cell::Null => row.null(),
                    Cell::Text(text) => row.value(text.as_bytes()),
                    Cell::Number(number) if binary => row.value(&kind.binary(*number)),
                    Cell::Number(number) => row.value(number.to_string().as_bytes()),
                }
            }
            row.finish();
        }
    }
}

/// Appends the description of these columns.
pub(crate) fn describe(columns: &[Column], formats: &[i16], output: &mut BytesMut) {
    let fields = columns.iter().enumerate().map(|(at, (name, kind))| {
        let (oid, size) = kind.of_postgresql();
        let format = format(formats, at);
        Field { name, table: 0, column: 0, oid, size, modifier: -1, format }
    });
    backend::row_description(output, fields.collect::<Vec<_>>().into_iter());
}

/// Whether these formats can be had of so many columns.
///
/// # Errors
///
/// 08P01 for a wrong number of them, 22023 for one that does not exist.
pub(crate) fn check_formats(formats: &[i16], columns: usize) -> Result<(), SqlError> {
    if formats.len() > 1 && formats.len() != columns {
        let count = formats.len();
        let message =
            format!("bind message has {count} result formats but query has {columns} columns");
        return Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
    }
    match formats.iter().find(|format| !matches!(format, 0 | 1)) {
        Some(format) => {
            let message = format!("unsupported format code: {format}");
            Err(SqlError::new(state::INVALID_PARAMETER_VALUE, message))
        }
        None => Ok(()),
    }
}

fn format(formats: &[i16], at: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(at).copied().unwrap_or(0),
    }
}

impl Kind {
    /// The type's OID and size.
    fn of_postgresql(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
        }
    }

    fn binary(self, number: u64) -> Vec<u8> {
        match self {
            Self::Text => number.to_string().into_bytes(),
            Self::Int4 => i32::try_from(number).unwrap_or(i32::MAX).to_be_bytes().into(),
            Self::Int8 => i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes().into(),
            Self::Numeric => numeric(number),
        }
    }
}

/// A `numeric` as PostgreSQL sends it: digits to the base 10,000.
fn numeric(mut number: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(u16::try_from(number % 10_000).unwrap_or_default());
        number /= 10_000;
    }
    let count = u16::try_from(digits.len()).unwrap_or_default();
    let mut bytes = Vec::new();
    bytes.put_u16(count);
    // The first one's weight; then the sign, and how many digits are behind the point.
    bytes.put_u16(count.saturating_sub(1));
    bytes.put_u32(0);
    digits.iter().rev().for_each(|digit| bytes.put_u16(*digit));
    bytes
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(known: Option<T>) -> Self {
        known.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sent_as_postgresql_sends_them() {
        assert_eq!(numeric(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(numeric(42), [0, 1, 0, 0, 0, 0, 0, 0, 0, 42]);
        assert_eq!(numeric(10_000), [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(numeric(123_456_789)[8..], [0, 1, 9, 41, 26, 133]);
        assert_eq!(Kind::Int4.binary(7), [0, 0, 0, 7]);
        assert_eq!(Kind::Int8.binary(7).len(), 8);
        assert_eq!(Kind::Int4.binary(u64::MAX), i32::MAX.to_be_bytes());
    }

    #[test]
    fn formats_are_one_for_all_or_one_for_each() {
        assert_eq!((format(&[], 3), format(&[1], 3), format(&[0, 1], 1)), (0, 1, 1));
        assert!(check_formats(&[1], 7).is_ok() && check_formats(&[0, 1], 2).is_ok());
        assert_eq!(check_formats(&[0, 1], 3).unwrap_err().code, state::PROTOCOL_VIOLATION);
        assert_eq!(check_formats(&[2], 3).unwrap_err().code, state::INVALID_PARAMETER_VALUE);
    }
}
