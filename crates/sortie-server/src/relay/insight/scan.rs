//! Texts seen from afar: fast, and without understanding them.
//!
//! What is only reported is told apart here, not what is shared: two texts that look the same may
//! not be the same in every case, and nobody's answer depends on it.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::LazyLock;

use hashbrown::DefaultHashBuilder;
use memchr::{memchr, memchr2, memmem};

static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// What a byte may be a part of.
static PARTS: [u8; 256] = parts();
const BLANK: u8 = 1;
const NAME: u8 = 2;
const NAME_GOES_ON: u8 = 4;
const NUMBER_GOES_ON: u8 = 8;

/// A text in two numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::relay) struct Scan {
    /// Of all but blanks and comments.
    pub(in crate::relay) exact: u64,
    /// Of all but these and constants.
    pub(in crate::relay) shape: u64,
}

/// What texts have in common that differ in their constants and comments alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    shape: u64,
    /// It ends within a list.
    is_open: bool,
}

/// What else there is to such a text.
pub(super) struct Constants(<DefaultHashBuilder as BuildHasher>::Hasher);

/// What is in a place where such texts differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hole {
    Comment,
    Constant,
    /// A constant that goes on with a list.
    Listed,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Piece {
    Code,
    Comma,
    Constant,
    Blank,
}

impl Frame {
    /// The numbers of a text with these constants.
    pub(super) fn with(self, constants: &Constants) -> Scan {
        let exact = mix(&[self.shape, self.is_open.into(), constants.0.finish()], &[]);
        Scan { exact, shape: self.shape }
    }
}

impl Constants {
    pub(super) fn none() -> Self {
        Self(HASHER.build_hasher())
    }

    /// One more.
    pub(super) fn take(&mut self, hole: Hole, constant: &[u8]) {
        self.0.write(constant);
        self.0.write_u8(hole as u8);
    }
}

impl Hole {
    /// How long what is in such a place is, if it is there.
    pub(super) fn fits(self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Comment => Some(comment(rest)).filter(|len| *len > 0),
            Self::Constant | Self::Listed => constant(rest),
        }
    }
}

/// Reads a text, and tells where others may differ that have the same frame.
pub(super) fn read(text: &[u8], mut hole: impl FnMut(Hole, Range<usize>)) -> (Frame, Scan) {
    let mut shape = HASHER.build_hasher();
    let (mut constants, mut list) = (Constants::none(), List::default());
    walk(text, |piece, at| {
        let part = &text[at.clone()];
        if piece == Piece::Constant {
            let is = if list.comma { Hole::Listed } else { Hole::Constant };
            constants.take(is, part);
            hole(is, at);
        } else if piece == Piece::Blank && matches!(part[0], b'-' | b'/') {
            hole(Hole::Comment, at);
        }
        list.take(piece, part, |part| {
            shape.write(part);
            shape.write_u8(0);
        });
    });
    let frame = Frame { shape: shape.finish(), is_open: list.comma };
    (frame, frame.with(&constants))
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
    walk(text, |piece, at| {
        if piece == Piece::Blank {
            blank = !shown.is_empty();
            return;
        }
        let mut space = std::mem::take(&mut blank);
        list.take(piece, &text[at], |part| {
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
    fn take<'a>(&mut self, piece: Piece, part: &'a [u8], mut out: impl FnMut(&'a [u8])) {
        match piece {
            Piece::Blank => {}
            Piece::Constant if self.comma => self.comma = false,
            Piece::Constant => {
                self.within = true;
                out(b"?");
            }
            Piece::Comma if self.within && !self.comma => self.comma = true,
            Piece::Comma | Piece::Code => {
                if std::mem::take(&mut self.comma) {
                    out(b",");
                }
                self.within = false;
                out(part);
            }
        }
    }
}

/// Cuts a text into its pieces, in one pass.
fn walk(text: &[u8], mut take: impl FnMut(Piece, Range<usize>)) {
    let (mut at, mut from) = (0, 0);
    while at < text.len() {
        let (piece, len) = piece(&text[at..]);
        let end = at + len;
        if piece != Piece::Code {
            if from < at {
                take(Piece::Code, from..at);
            }
            take(piece, at..end);
            from = end;
        }
        at = end;
    }
    if from < at {
        take(Piece::Code, from..at);
    }
}

/// What is in front, and how long it is; of code a part.
fn piece(rest: &[u8]) -> (Piece, usize) {
    let parts = PARTS[usize::from(rest[0])];
    if parts & NAME != 0 {
        let len = 1 + run(&rest[1..], NAME_GOES_ON);
        let begins_constant = len == 1 && rest.get(1) == Some(&b'\'');
        let constant = if begins_constant { constant(rest) } else { None };
        return constant.map_or((Piece::Code, len), |len| (Piece::Constant, len));
    }
    if parts & BLANK != 0 {
        return (Piece::Blank, 1 + run(&rest[1..], BLANK));
    }
    match rest[0] {
        b',' => (Piece::Comma, 1),
        b'"' => (Piece::Code, closed(rest, 1, b'"', false)),
        b'-' | b'/' => match comment(rest) {
            0 => (Piece::Code, 1),
            len => (Piece::Blank, len),
        },
        b'\'' | b'0'..=b'9' | b'.' | b'$' => match constant(rest) {
            Some(len) => (Piece::Constant, len),
            None if rest[0] == b'$' => {
                (Piece::Code, 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count())
            }
            None => (Piece::Code, 1),
        },
        _ => (Piece::Code, 1),
    }
}

/// How long the comment here is, if there is one.
fn comment(rest: &[u8]) -> usize {
    if rest.starts_with(b"--") {
        return memchr(b'\n', rest).unwrap_or(rest.len());
    }
    if !rest.starts_with(b"/*") || rest.starts_with(b"/*+") {
        return 0;
    }
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(found) = rest.get(at..).and_then(|rest| memchr2(b'*', b'/', rest)) {
        at += found;
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
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => Some(run(rest, NUMBER_GOES_ON)),
        [b'$', next, ..] if *next == b'$' || PARTS[usize::from(*next)] & NAME != 0 => {
            dollar_quoted(rest)
        }
        _ => None,
    }
}

/// How long what is in dollar quotes here is, if it is.
fn dollar_quoted(rest: &[u8]) -> Option<usize> {
    let tag = 1 + memchr(b'$', &rest[1..])?;
    let (tag, behind) = rest.split_at(tag + 1);
    if run(&tag[1..], NAME_GOES_ON) < tag.len() - 1 {
        return None;
    }
    let end = memmem::find(behind, tag);
    Some(end.map_or(rest.len(), |end| end + 2 * tag.len()))
}

/// How long what is quoted here is; quotes that are written twice, or (`escapes`) behind a
/// backslash, are inside.
fn closed(rest: &[u8], from: usize, quote: u8, escapes: bool) -> usize {
    let escape = if escapes { b'\\' } else { quote };
    let mut at = from;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr2(quote, escape, rest)) {
        at += found;
        if rest[at] == quote && rest.get(at + 1) != Some(&quote) {
            return at + 1;
        }
        at += 2;
    }
    rest.len()
}

/// How many bytes here may be parts of this.
fn run(rest: &[u8], part: u8) -> usize {
    rest.iter().take_while(|byte| PARTS[usize::from(**byte)] & part != 0).count()
}

const fn parts() -> [u8; 256] {
    let (mut parts, mut byte) = ([0; 256], 0_u8);
    loop {
        let (is_letter, is_digit) = (byte.is_ascii_alphabetic(), byte.is_ascii_digit());
        let is_name = is_letter || byte == b'_' || byte >= 0x80;
        let mut of = 0;
        if byte.is_ascii_whitespace() {
            of |= BLANK;
        }
        if is_name {
            of |= NAME;
        }
        if is_name || is_digit || byte == b'$' {
            of |= NAME_GOES_ON;
        }
        if is_letter || is_digit || byte == b'.' || byte == b'_' {
            of |= NUMBER_GOES_ON;
        }
        parts[byte as usize] = of;
        if byte == u8::MAX {
            return parts;
        }
        byte += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &[u8]) -> Scan {
        read(text, |_hole, _at| {}).1
    }

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
