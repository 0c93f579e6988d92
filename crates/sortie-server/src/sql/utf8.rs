//! Text from outside: UTF-8 without the NUL that PostgreSQL's texts can't hold.

use crate::sql::error::{SqlError, state};

/// Reads text, in whichever way it came.
///
/// # Errors
///
/// 22021 with the bytes that PostgreSQL shows: as many as the first of them announces.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    let (valid, text) = match std::str::from_utf8(bytes) {
        Ok(text) => (bytes.len(), text),
        Err(error) => (error.valid_up_to(), ""),
    };
    let end = bytes[..valid].iter().position(|byte| *byte == 0).unwrap_or(valid);
    let bad = &bytes[end..];
    let Some(first) = bad.first() else { return Ok(text) };
    let length = match first.leading_ones() {
        length @ 2..=4 => length as usize,
        _ => 1,
    };
    let shown: Vec<_> = bad.iter().take(length).map(|byte| format!("0x{byte:02x}")).collect();
    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
    Err(SqlError::new(state::CHARACTER_NOT_IN_REPERTOIRE, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 says to these bytes, in a statement and as a parameter.
    #[test]
    fn bad_bytes_are_shown_as_postgresql_shows_them() {
        for (bytes, shown) in [
            (&b"a\xff"[..], "0xff"),
            (b"a\xc3(", "0xc3 0x28"),
            (b"a\xe2(\xa1b", "0xe2 0x28 0xa1"),
            (b"a\xe2", "0xe2"),
            (b"\x80", "0x80"),
            (b"a\0b", "0x00"),
            (b"a\0\xff", "0x00"),
            (b"\xff\0", "0xff"),
        ] {
            let error = utf8(bytes).unwrap_err();
            let message = format!("invalid byte sequence for encoding \"UTF8\": {shown}");
            assert_eq!((error.code, error.message), ("22021", message));
        }
        assert_eq!(utf8("Zo\u{eb}".as_bytes()), Ok("Zo\u{eb}"));
        assert_eq!(utf8(b""), Ok(""));
    }
}
