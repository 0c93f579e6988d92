//! One-dimensional arrays, for `= ANY`: read from text and from the binary format.

use crate::sql::decode;
use crate::sql::error::{SqlError, state};
use crate::sql::types::Element;
use crate::sql::value::Datum;

/// Elements of one array, or values of one IN list.
pub(super) const LIST_ITEMS_MAX: usize = 10_000;

/// Reads `{1,NULL,"a b"}`.
///
/// # Errors
///
/// 22P02 for what is no array, and as for its elements; 0A000 for more than one dimension.
pub(super) fn parse(text: &str, element: Element) -> Result<Datum, SqlError> {
    let malformed = |detail: &str| {
        let message = format!("malformed array literal: \"{text}\"");
        SqlError::new(state::INVALID_TEXT_REPRESENTATION, message).detail(detail)
    };
    let trimmed = text.trim_ascii();
    if trimmed.starts_with('[') {
        return Err(SqlError::unsupported("array literals with bounds are not supported"));
    }
    let Some(mut rest) = trimmed.strip_prefix('{') else {
        return Err(malformed("Array value must start with \"{\" or dimension information."));
    };
    let mut items = Vec::new();
    rest = rest.trim_ascii_start();
    if let Some(after) = rest.strip_prefix('}') {
        return match after.trim_ascii() {
            "" => Ok(Datum::Array([].into())),
            _ => Err(malformed("Junk after closing right brace.")),
        };
    }
    loop {
        if rest.starts_with('{') {
            let reason = "arrays of more than one dimension are not supported";
            return Err(SqlError::unsupported(reason));
        }
        let (item, after) = item(rest).ok_or_else(|| malformed("Unexpected end of input."))?;
        items.push(match item {
            Item::Null => Datum::Null,
            Item::Empty => return Err(malformed("Unexpected array element.")),
            Item::Value(text) => Datum::parse(&text, element.ty())?,
        });
        check_length(items.len())?;
        rest = match after.as_bytes() {
            [b',', ..] => after[1..].trim_ascii_start(),
            [b'}', ..] if after[1..].trim_ascii().is_empty() => break,
            [b'}', ..] => return Err(malformed("Junk after closing right brace.")),
            [] => return Err(malformed("Unexpected end of input.")),
            _ => return Err(malformed("Unexpected array element.")),
        };
    }
    Ok(Datum::Array(items.into()))
}

/// Reads the binary format: dimensions, flags, element type, then each element with its length.
///
/// # Errors
///
/// 22P03 for wrong bytes, 42804 for another element type, 0A000 for more than one dimension.
pub(super) fn from_binary(bytes: &[u8], element: Element) -> Result<Datum, SqlError> {
    let wrong = || SqlError::new(state::INVALID_BINARY_REPRESENTATION, "incorrect binary array");
    let mut rest = bytes;
    let number = |rest: &mut &[u8]| {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        *rest = tail;
        Ok::<i32, SqlError>(i32::from_be_bytes(*head))
    };
    let (dimensions, flags, oid) =
        (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?.cast_unsigned());
    if !matches!(flags, 0 | 1) {
        return Err(wrong());
    }
    if oid != element.ty().oid() {
        let message = format!(
            "binary data has array element type {oid} instead of expected {}",
            element.ty().oid()
        );
        return Err(SqlError::new(state::DATATYPE_MISMATCH, message));
    }
    match dimensions {
        0 => return if rest.is_empty() { Ok(Datum::Array([].into())) } else { Err(wrong()) },
        1 => {}
        _ => {
            let reason = "arrays of more than one dimension are not supported";
            return Err(SqlError::unsupported(reason));
        }
    }
    let count = usize::try_from(number(&mut rest)?).map_err(|_negative| wrong())?;
    let _lower_bound = number(&mut rest)?;
    check_length(count)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number(&mut rest)?;
        if length == -1 {
            items.push(Datum::Null);
            continue;
        }
        let length = usize::try_from(length).map_err(|_negative| wrong())?;
        let (value, tail) = rest.split_at_checked(length).ok_or_else(wrong)?;
        items.push(decode::binary(value, element.ty())?);
        rest = tail;
    }
    if rest.is_empty() { Ok(Datum::Array(items.into())) } else { Err(wrong()) }
}

/// Refuses a list that is too long.
///
/// # Errors
///
/// 54000.
pub(super) fn check_length(items: usize) -> Result<(), SqlError> {
    if items <= LIST_ITEMS_MAX {
        return Ok(());
    }
    let message = format!("a list has at most {LIST_ITEMS_MAX} items");
    Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message))
}

enum Item {
    Null,
    Empty,
    Value(String),
}

/// One element and what follows it, blanks left out; `None` if the text ends in it.
fn item(text: &str) -> Option<(Item, &str)> {
    if let Some(inner) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = inner.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => return Some((Item::Value(value), inner[at + 1..].trim_ascii_start())),
                (_, '\\') => value.push(characters.next()?.1),
                (_, other) => value.push(other),
            }
        }
    }
    let mut value = String::new();
    let (mut escaped, mut kept) = (false, 0);
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, ',' | '}' | '{' | '"') => {
                // Blanks at the end don't count, unless a backslash protects them.
                value.truncate(kept.max(value.trim_ascii_end().len()));
                let item = match value.as_str() {
                    "" if !escaped => Item::Empty,
                    text if !escaped && text.eq_ignore_ascii_case("null") => Item::Null,
                    _ => Item::Value(value),
                };
                return Some((item, &text[at..]));
            }
            (_, '\\') => {
                value.push(characters.next()?.1);
                (escaped, kept) = (true, value.len());
            }
            (_, other) => value.push(other),
        }
    }
}
