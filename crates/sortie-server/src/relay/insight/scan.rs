//! Texts seen from afar: fast, and without understanding them.
//!
//! What is only reported is told apart here, not what is shared: two texts that look the same may
//! not be the same in every case, and nobody's answer depends on it.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::DefaultHashBuilder;

static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// A text in two numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::relay) struct Scan {
    /// Of all but blanks and comments.
    pub(in crate::relay) exact: u64,
    /// Of all but these and constants.
    pub(in crate::relay) shape: u64,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Piece<'a> {
    Code(&'a [u8]),
    Constant(&'a [u8]),
    Blank,
}

/// Reads a text.
pub(in crate::relay) fn scan(text: &[u8]) -> Scan {
    let (mut exact, mut shape) = (HASHER.build_hasher(), HASHER.build_hasher());
    let mut list = List::default();
    walk(text, |piece| {
        match piece {
            Piece::Code(bytes) | Piece::Constant(bytes) => {
                exact.write(bytes);
                exact.write_u8(0);
            }
            Piece::Blank => {}
        }
        list.take(piece, |part| {
            shape.write(part);
            shape.write_u8(0);
        });
    });
    Scan { exact: exact.finish(), shape: shape.finish() }
}

/// One number of several, and of bytes.
pub(in crate::relay) fn mix(numbers: &[u64], bytes: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    for number in numbers {
        hasher.write_u64(*number);
    }
    hasher.write(bytes);
    hasher.finish()
}

/// The text as it is shown: without comments, a `?` for each constant, and for a list of them.
pub(in crate::relay) fn written(text: &[u8], bytes_max: usize) -> String {
    let mut shown: Vec<u8> = Vec::new();
    let (mut list, mut blank) = (List::default(), false);
    walk(text, |piece| {
        if piece == Piece::Blank {
            blank = !shown.is_empty();
            return;
        }
        let mut space = std::mem::take(&mut blank);
        list.take(piece, |part| {
            if part != b"," && std::mem::take(&mut space) {
                shown.push(b' ');
            }
            if shown.len() <= bytes_max {
                shown.extend_from_slice(part);
            }
        });
    });
    while matches!(shown.last(), Some(b';' | b' ')) {
        shown.pop();
    }
    let is_long = shown.len() > bytes_max;
    shown.truncate(bytes_max);
    let mut text = String::from_utf8_lossy(&shown).into_owned();
    if is_long {
        text.push('…');
    }
    text
}

/// Takes a list of constants for one.
#[derive(Debug, Default)]
struct List {
    within: bool,
    comma: bool,
}

impl List {
    fn take<'a>(&mut self, piece: Piece<'a>, mut out: impl FnMut(&'a [u8])) {
        match piece {
            Piece::Blank => {}
            Piece::Constant(_) if self.comma => self.comma = false,
            Piece::Constant(_) => {
                self.within = true;
                out(b"?");
            }
            Piece::Code(b",") if self.within && !self.comma => self.comma = true,
            Piece::Code(code) => {
                if std::mem::take(&mut self.comma) {
                    out(b",");
                }
                self.within = false;
                out(code);
            }
        }
    }
}

/// Cuts a text into its pieces.
fn walk<'a>(text: &'a [u8], mut take: impl FnMut(Piece<'a>)) {
    let (mut at, mut from) = (0, 0);
    // Code since `from` comes before what is found.
    let mut found = |from: &mut usize, at: usize, end: usize, piece: Option<Piece<'a>>| {
        if *from < at {
            take(Piece::Code(&text[*from..at]));
        }
        *from = end;
        if let Some(piece) = piece {
            take(piece);
        }
    };
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let blank = blank(rest);
        if blank > 0 {
            found(&mut from, at, at + blank, Some(Piece::Blank));
            at += blank;
            continue;
        }
        if let Some(len) = constant(rest) {
            let constant = Piece::Constant(&text[at..at + len]);
            found(&mut from, at, at + len, Some(constant));
            at += len;
            continue;
        }
        let len = match byte {
            b'"' => closed(rest, 1, b'"', false),
            b'$' => 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
            byte if is_name(byte) => rest.iter().take_while(|byte| is_in_name(**byte)).count(),
            _ => 1,
        };
        if byte == b',' {
            // Apart, so that lists are seen.
            found(&mut from, at, at, None);
            found(&mut from, at + 1, at + 1, None);
        }
        at += len;
    }
    found(&mut from, text.len(), text.len(), None);
}

/// How long the whitespace or the comment here is.
fn blank(rest: &[u8]) -> usize {
    if rest[0].is_ascii_whitespace() {
        return rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
    if rest.starts_with(b"--") {
        return rest.iter().take_while(|byte| **byte != b'\n').count();
    }
    if !rest.starts_with(b"/*") || rest.starts_with(b"/*+") {
        return 0;
    }
    let (mut depth, mut at) = (0_u32, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// How long the constant here is, if there is one.
fn constant(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\'', ..] => Some(closed(rest, 1, b'\'', false)),
        [b'e' | b'E', b'\'', ..] => Some(closed(rest, 2, b'\'', true)),
        [b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', ..] => Some(closed(rest, 2, b'\'', false)),
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => {
            let is_in = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
            Some(rest.iter().take_while(is_in).count())
        }
        [b'$', next, ..] if *next == b'$' || is_name(*next) => {
            let tag = 1 + rest[1..].iter().position(|byte| *byte == b'$')?;
            let (tag, behind) = rest.split_at(tag + 1);
            let is_tag = tag[1..tag.len() - 1].iter().all(|byte| is_in_name(*byte));
            if !is_tag {
                return None;
            }
            let end = behind.windows(tag.len()).position(|window| window == tag);
            Some(end.map_or(rest.len(), |end| end + 2 * tag.len()))
        }
        _ => None,
    }
}

/// How long what is quoted here is; quotes that are written twice, or (`escapes`) behind a
/// backslash, are inside.
fn closed(rest: &[u8], from: usize, quote: u8, escapes: bool) -> usize {
    let mut at = from;
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            (b'\\', _) if escapes => at += 2,
            (byte, Some(next)) if byte == quote && *next == quote => at += 2,
            (byte, _) if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_in_name(byte: u8) -> bool {
    is_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        written(text.as_bytes(), 1_000)
    }

    #[test]
    fn constants_comments_and_blanks_are_not_shown() {
        for (text, expected) in [
            ("SELECT 1", "SELECT ?"),
            ("select  *\n from t1 where a=42 -- x", "select * from t1 where a=?"),
            ("SELECT 'it''s' , E'a\\'b', B'01' /* a /* b */ c */ FROM t;", "SELECT ? FROM t"),
            ("SELECT * FROM t WHERE a IN (1,2, 3)", "SELECT * FROM t WHERE a IN (?)"),
            ("SELECT a, 1, b FROM t", "SELECT a, ?, b FROM t"),
            ("SELECT $1, \"a 1\", $$x 1$$, $q$ $$ $q$", "SELECT $1, \"a 1\", ?"),
            ("/*traceparent='1'*/ SELECT 1.5e3", "SELECT ?"),
            ("SELECT é, t2.a FROM t2", "SELECT é, t2.a FROM t2"),
            ("SELECT 'open", "SELECT ?"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(written(b"SELECT aaaa", 8), "SELECT a…");
    }

    #[test]
    fn what_differs_in_comments_or_constants_alone_has_one_shape() {
        let [a, b, c, d] = [
            "SELECT a FROM t WHERE b = 1",
            "SELECT a  FROM t WHERE b = 1 /* x */",
            "SELECT a FROM t WHERE b = 2",
            "SELECT a FROM u WHERE b = 1",
        ]
        .map(|text| scan(text.as_bytes()));
        assert_eq!(a, b);
        assert!(a.shape == c.shape && a.exact != c.exact);
        assert!(a.shape != d.shape && a.exact != d.exact);
        assert_ne!(scan(b"SELECT ab").exact, scan(b"SELECT a b").exact);
    }

    #[test]
    fn any_bytes_can_be_read() {
        let texts: [&[u8]; 6] = [b"$", b"$$", b"$a", b"/*", b"\"", b"E'\\"];
        for text in texts {
            scan(text);
            written(text, 10);
        }
        for byte in 0..=255 {
            scan(&[byte, b'\'', byte, b'$', byte]);
        }
    }
}
