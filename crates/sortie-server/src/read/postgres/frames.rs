//! Batches for a server: one statement by the extended protocol, with its values.

use bytes::{BufMut, Bytes, BytesMut};

use crate::sql::Query;

/// A statement's values and formats, as in a Bind message.
pub(super) struct Values<'a> {
    pub(super) formats: &'a [i16],
    pub(super) params: &'a [Option<Bytes>],
    pub(super) results: &'a [i16],
    /// How many rows are wanted at most; 0 means all.
    pub(super) rows_max: u32,
}

impl Values<'_> {
    /// Bytes that they take, about.
    fn len(&self) -> usize {
        let value = |value: &Option<Bytes>| 4 + value.as_ref().map_or(0, Bytes::len);
        self.params.iter().map(value).sum()
    }
}

/// Parses, binds, describes if `described`, and executes a statement without a name.
pub(super) fn batch(text: &str, oids: &[u32], values: &Values<'_>, described: bool) -> Bytes {
    let mut output = BytesMut::with_capacity(64 + text.len() + 4 * oids.len() + values.len());
    parse(&mut output, "", text, oids);
    bind(&mut output, "", values);
    // A session that gets the connection later must not find the statement.
    close(&mut output, "");
    execute(&mut output, values, described);
    output.freeze()
}

/// Prepares a statement under a name, after another one was closed, and runs it described.
pub(super) fn preparing(
    name: &str,
    (text, oids): (&str, &[u32]),
    gone: Option<&str>,
    values: &Values<'_>,
) -> Bytes {
    let length = 128 + 2 * name.len() + text.len() + 4 * oids.len() + values.len();
    let mut output = BytesMut::with_capacity(length);
    if let Some(gone) = gone {
        close(&mut output, gone);
    }
    parse(&mut output, name, text, oids);
    bind(&mut output, name, values);
    execute(&mut output, values, true);
    output.freeze()
}

/// Runs a statement that is prepared, described.
pub(super) fn prepared(name: &str, values: &Values<'_>) -> Bytes {
    let mut output = BytesMut::with_capacity(64 + name.len() + values.len());
    bind(&mut output, name, values);
    execute(&mut output, values, true);
    output.freeze()
}

/// Prepares and describes a statement without a name.
pub(super) fn described(text: &str, oids: &[u32]) -> Bytes {
    let mut output = BytesMut::with_capacity(64 + text.len() + 4 * oids.len());
    parse(&mut output, "", text, oids);
    output.put_slice(b"D\0\0\0\x06S\0");
    // A session that gets the connection later must not find the statement.
    close(&mut output, "");
    output.put_slice(b"S\0\0\0\x04");
    output.freeze()
}

/// What one of several shards is asked; true for each column that is wanted in binary.
pub(super) fn of_shard(query: &Query, binary: &[bool]) -> Bytes {
    let oids: Vec<u32> = query.params.iter().map(|(ty, _)| ty.oid()).collect();
    let mut scratch = Vec::new();
    let values = query.params.iter().map(|(ty, value)| {
        scratch.clear();
        let filled = value.encode(*ty, false, &mut scratch);
        filled.then(|| Bytes::copy_from_slice(&scratch))
    });
    let values: Vec<Option<Bytes>> = values.collect();
    let results: Vec<i16> = binary.iter().map(|binary| i16::from(*binary)).collect();
    batch(
        &query.sql,
        &oids,
        &Values { formats: &[], params: &values, results: &results, rows_max: 0 },
        false,
    )
}

fn parse(output: &mut BytesMut, name: &str, text: &str, oids: &[u32]) {
    frame(output, b'P', |body| {
        body.put_slice(name.as_bytes());
        body.put_u8(0);
        body.put_slice(text.as_bytes());
        body.put_u8(0);
        body.put_u16(count(oids.len()));
        for oid in oids {
            body.put_u32(*oid);
        }
    });
}

fn bind(output: &mut BytesMut, name: &str, values: &Values<'_>) {
    frame(output, b'B', |body| {
        body.put_u8(0);
        body.put_slice(name.as_bytes());
        body.put_u8(0);
        formats(body, values.formats);
        body.put_u16(count(values.params.len()));
        for value in values.params {
            match value {
                None => body.put_i32(-1),
                Some(value) => {
                    body.put_u32(u32::try_from(value.len()).expect("a message is below 4 GiB"));
                    body.put_slice(value);
                }
            }
        }
        formats(body, values.results);
    });
}

fn close(output: &mut BytesMut, name: &str) {
    frame(output, b'C', |body| {
        body.put_u8(b'S');
        body.put_slice(name.as_bytes());
        body.put_u8(0);
    });
}

fn execute(output: &mut BytesMut, values: &Values<'_>, described: bool) {
    if described {
        output.put_slice(b"D\0\0\0\x06P\0");
    }
    output.put_slice(b"E\0\0\0\x09\0");
    output.put_u32(values.rows_max);
    output.put_slice(b"S\0\0\0\x04");
}

fn formats(body: &mut BytesMut, formats: &[i16]) {
    body.put_u16(count(formats.len()));
    for format in formats {
        body.put_i16(*format);
    }
}

fn count(length: usize) -> u16 {
    u16::try_from(length).expect("the protocol counts them in 16 bits")
}

fn frame(output: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = output.len();
    output.put_slice(&[tag, 0, 0, 0, 0]);
    body(output);
    let length = u32::try_from(output.len() - start - 1).expect("a message is below 4 GiB");
    output[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}
