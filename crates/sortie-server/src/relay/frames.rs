//! Client frames where they lie: their length, and the names in them, without taking them apart.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;
use sortie_postgres::FRAME_SMALL_MAX;

use super::decide::BEGIN_LEN;

/// Type byte and length field.
pub(crate) const HEADER_LEN: usize = 5;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) tag: u8,
    /// The whole frame, with its type byte.
    pub(crate) len: usize,
}

/// A Parse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parse<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) text: &'a [u8],
    /// The count of types and the types, as they were sent.
    oids: &'a [u8],
}

/// Reads the head of the frame that `bytes` begin with. `Err` with its type: the length can't be.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, u8> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    let length_max = match tag {
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => FRAME_SMALL_MAX,
        _ => 1 << 30,
    };
    if length < 4 || length as usize > length_max {
        return Err(tag);
    }
    Ok(Some(Head { tag, len: length as usize + 1 }))
}

/// A text at the beginning of `bytes`, without its terminator, and what follows it.
pub(crate) fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names are short, and statements are not.
    let (near, far) = bytes.split_at(bytes.len().min(16));
    let end = near.iter().position(|&byte| byte == 0);
    let end = end.or_else(|| Some(near.len() + memchr(0, far)?))?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Whether nothing is missing in a frame of a query, and nothing too much: PostgreSQL refuses
/// others.
pub(crate) fn is_whole(frame: &[u8]) -> bool {
    let Some(body) = frame.get(HEADER_LEN..) else { return false };
    let behind_text = |bytes| text(bytes).map(|(_, rest)| rest);
    let rest = match frame[0] {
        b'P' => return parse(frame).is_some_and(|parse| parse.is_whole()),
        b'B' => behind_text(body)
            .and_then(behind_text)
            .and_then(behind_formats)
            .and_then(behind_values)
            .and_then(behind_formats),
        b'D' | b'C' => match body.split_first() {
            Some((b'S' | b'P', name)) => behind_text(name),
            _ => None,
        },
        b'E' => behind_text(body).and_then(|rest| rest.split_first_chunk::<4>()).map(|it| it.1),
        b'Q' => behind_text(body),
        _ => Some(body),
    };
    rest.is_some_and(<[u8]>::is_empty)
}

/// What follows a list of formats.
fn behind_formats(bytes: &[u8]) -> Option<&[u8]> {
    let (count, rest) = bytes.split_first_chunk()?;
    rest.get(2 * usize::from(u16::from_be_bytes(*count))..)
}

/// What follows a list of values.
fn behind_values(bytes: &[u8]) -> Option<&[u8]> {
    let (count, rest) = bytes.split_first_chunk()?;
    (0..u16::from_be_bytes(*count)).try_fold(rest, |rest, _| {
        let (length, rest) = rest.split_first_chunk()?;
        match i32::from_be_bytes(*length) {
            -1 => Some(rest),
            length => rest.get(usize::try_from(length).ok()?..),
        }
    })
}

/// Takes a whole Parse frame apart.
pub(crate) fn parse(frame: &[u8]) -> Option<Parse<'_>> {
    let (name, rest) = text(frame.get(HEADER_LEN..)?)?;
    let (text, oids) = text(rest)?;
    Some(Parse { name, text, oids })
}

impl Parse<'_> {
    /// Whether nothing is missing in it, and nothing too much.
    pub(crate) fn is_whole(&self) -> bool {
        let count = self.oids.first_chunk().map(|count| usize::from(u16::from_be_bytes(*count)));
        count.is_some_and(|count| self.oids.len() == 2 + 4 * count)
    }

    /// The types of the first parameters.
    pub(crate) fn oids(&self) -> Vec<u32> {
        let oids = self.oids.get(2..).unwrap_or_default().chunks_exact(4);
        oids.map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]])).collect()
    }
}

/// The portal and the statement of a whole Bind frame.
pub(crate) fn bind(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = text(frame.get(HEADER_LEN..)?)?;
    let (statement, _rest) = text(rest)?;
    Some((portal, statement))
}

/// How many values a whole Bind frame has.
pub(crate) fn values(frame: &[u8]) -> Option<usize> {
    count(bound(frame)?)
}

/// How many formats of columns a whole Bind frame has: none, one for all, or one for each.
fn column_formats(frame: &[u8]) -> Option<usize> {
    let (values, mut rest) = bound(frame)?.split_first_chunk()?;
    for _ in 0..u16::from_be_bytes(*values) {
        let (len, behind) = rest.split_first_chunk()?;
        // A NULL has a length below zero, and no bytes.
        rest = behind.get(usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0)..)?;
    }
    count(rest)
}

/// A whole Bind frame from the number of its values on.
fn bound(frame: &[u8]) -> Option<&[u8]> {
    let (_portal, rest) = text(frame.get(HEADER_LEN..)?)?;
    let (_statement, rest) = text(rest)?;
    rest.get(2 + 2 * count(rest)?..)
}

fn count(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?)))
}

/// What a whole Describe or Close frame is about: `b'S'` a statement, `b'P'` a portal; its name.
pub(crate) fn target(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = frame.get(HEADER_LEN..)?.split_first()?;
    Some((kind, text(rest)?.0))
}

/// The portal of a whole Execute frame, and how many rows are wanted.
pub(crate) fn execute(frame: &[u8]) -> Option<(&[u8], i32)> {
    let (portal, rest) = text(frame.get(HEADER_LEN..)?)?;
    Some((portal, i32::from_be_bytes(*rest.first_chunk()?)))
}

/// Whether whatever columns come are told to the client: the Bind in front, all of which is there,
/// has no format for each of those that it knows, and is followed by the question for those of its
/// portal. `None` where what follows it is not there yet.
pub(crate) fn tells(input: &[u8]) -> Option<bool> {
    let portal = || {
        let bind = head(input).ok()?.filter(|bind| bind.tag == b'B')?;
        Some((bind.len, self::bind(input.get(..bind.len)?)?.0))
    };
    let Some((len, portal)) = portal() else { return Some(false) };
    let rest = &input[len..];
    match head(rest) {
        Ok(Some(describe)) if describe.tag == b'D' && describe.len <= BEGIN_LEN => {
            let is_asked = target(rest.get(..describe.len)?) == Some((b'P', portal));
            Some(is_asked && column_formats(&input[..len]).is_some_and(|count| count <= 1))
        }
        Ok(None) => None,
        _ => Some(false),
    }
}

/// Appends a Query.
pub(crate) fn query(output: &mut BytesMut, text: &[u8]) {
    frame(output, b'Q', &[text, b"\0"]);
}

/// Appends a Parse of the unnamed statement.
pub(crate) fn parse_unnamed(output: &mut BytesMut, text: &[u8]) {
    frame(output, b'P', &[b"\0", text, b"\0\0\0"]);
}

/// Appends a Parse of the unnamed statement that fails.
pub(crate) fn parse_failing(output: &mut BytesMut) {
    frame(output, b'P', &[b"\0sortie refuses the statement\0\0\0"]);
}

/// Appends a Describe of a statement.
pub(crate) fn describe(output: &mut BytesMut, name: &[u8]) {
    frame(output, b'D', &[b"S", name, b"\0"]);
}

/// Appends a Close of a statement.
pub(crate) fn close(output: &mut BytesMut, name: &[u8]) {
    frame(output, b'C', &[b"S", name, b"\0"]);
}

/// A `RowDescription`, of its body.
pub(crate) fn row_description(body: &[u8]) -> Bytes {
    let mut output = BytesMut::with_capacity(HEADER_LEN + body.len());
    frame(&mut output, b'T', &[body]);
    output.freeze()
}

fn frame(output: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    output.put_u8(tag);
    output.put_u32(u32::try_from(length + 4).expect("a frame is below 4 GiB"));
    for part in parts {
        output.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use sortie_testkit::Batch;

    use super::*;

    #[test]
    fn names_are_found_where_they_lie() {
        let batch = Batch::new().parse("a", "select $1", &[23, 0]);
        let found = parse(batch.bytes()).unwrap();
        assert_eq!(
            (found.name, found.text, found.oids()),
            (&b"a"[..], &b"select $1"[..], vec![23, 0])
        );
        assert_eq!(head(batch.bytes()), Ok(Some(Head { tag: b'P', len: batch.bytes().len() })));
        let batch = Batch::new().bind("p", "s", (0, &[Some(b"1")]), 0);
        assert_eq!(bind(batch.bytes()), Some((&b"p"[..], &b"s"[..])));
        assert_eq!(target(Batch::new().describe(b'S', "x").bytes()), Some((b'S', &b"x"[..])));
        assert_eq!(execute(Batch::new().execute_some("p", 7).bytes()), Some((&b"p"[..], 7)));
    }

    #[test]
    fn what_is_cut_is_not_read() {
        let batch = Batch::new().parse("a", "select 1", &[]);
        for end in 0..batch.bytes().len() - 2 {
            assert_eq!(parse(&batch.bytes()[..end]), None);
        }
        assert_eq!(head(b"Q\0\0\0"), Ok(None));
        assert_eq!(head(b"Q\0\0\0\x03"), Err(b'Q'));
        assert_eq!(head(b"Q\xff\0\0\0"), Err(b'Q'));
    }

    #[test]
    fn what_has_less_or_more_than_its_fields_is_not_whole() {
        let batch = Batch::new;
        for whole in [
            batch().query("select 1"),
            batch().parse("a", "select $1", &[23]),
            batch().bind("p", "s", (1, &[Some(b"1"), None]), 1),
            batch().describe(b'S', "x"),
            batch().close(b'P', ""),
            batch().execute_some("p", 7),
            batch().sync(),
            batch().flush(),
        ] {
            let whole = whole.bytes();
            assert!(is_whole(whole), "{whole:?}");
            assert!(!is_whole(&whole[..whole.len() - 1]), "{whole:?}");
            assert!(!is_whole(&[whole, b"\0"].concat()), "{whole:?}");
        }
        assert!(!is_whole(batch().raw(b'D', b"X\0").bytes()));
    }

    #[test]
    fn what_is_said_is_a_frame() {
        let mut output = BytesMut::new();
        query(&mut output, b"DISCARD ALL");
        assert_eq!(&output[..], Batch::new().query("DISCARD ALL").bytes());
        output.clear();
        close(&mut output, b"a");
        assert_eq!(&output[..], Batch::new().close(b'S', "a").bytes());
    }
}
