//! Frontend frames, written here from the protocol's description and not with the code under
//! test, so that both would have to be wrong in the same way.

use bytes::{BufMut, Bytes, BytesMut};

/// Frontend frames to send in one piece.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: BytesMut,
    ready: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, taken out.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// How many `ReadyForQuery` these frames cause: one for each Query, Sync and `FunctionCall`,
    /// unless the session skips to a Sync.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// These frames and then those of `next`.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        self.bytes.put_slice(&next.bytes);
        self.ready += next.ready;
        self
    }

    /// Parse, Bind, Describe and Execute without names and without Sync: parameters and results
    /// are text.
    #[must_use]
    pub fn statement(self, text: &str, values: &[Option<&[u8]>]) -> Self {
        self.parse("", text, &[]).bind("", "", (0, values), 0).describe(b'P', "").execute("")
    }

    /// Query.
    #[must_use]
    pub fn query(self, text: &str) -> Self {
        self.frame(b'Q', |body| string(body, text))
    }

    /// Parse.
    #[must_use]
    pub fn parse(self, statement: &str, text: &str, types: &[u32]) -> Self {
        self.frame(b'P', |body| {
            string(body, statement);
            string(body, text);
            count(body, types.len());
            for oid in types {
                body.put_u32(*oid);
            }
        })
    }

    /// Bind, with every parameter in `format` (0 text, 1 binary) and every result column in
    /// `results`.
    #[must_use]
    pub fn bind(
        self,
        portal: &str,
        statement: &str,
        (format, values): (i16, &[Option<&[u8]>]),
        results: i16,
    ) -> Self {
        self.frame(b'B', |body| {
            string(body, portal);
            string(body, statement);
            body.put_i16(1);
            body.put_i16(format);
            count(body, values.len());
            for value in values {
                match value {
                    None => body.put_i32(-1),
                    Some(value) => {
                        body.put_i32(i32::try_from(value.len()).expect("a short value"));
                        body.put_slice(value);
                    }
                }
            }
            body.put_i16(1);
            body.put_i16(results);
        })
    }

    /// Describe: `b'S'` a statement, `b'P'` a portal.
    #[must_use]
    pub fn describe(self, target: u8, name: &str) -> Self {
        self.frame(b'D', |body| {
            body.put_u8(target);
            string(body, name);
        })
    }

    /// Execute, all rows.
    #[must_use]
    pub fn execute(self, portal: &str) -> Self {
        self.execute_some(portal, 0)
    }

    /// Execute, at most `rows_max` rows.
    #[must_use]
    pub fn execute_some(self, portal: &str, rows_max: i32) -> Self {
        self.frame(b'E', |body| {
            string(body, portal);
            body.put_i32(rows_max);
        })
    }

    /// Close: `b'S'` a statement, `b'P'` a portal.
    #[must_use]
    pub fn close(self, target: u8, name: &str) -> Self {
        self.frame(b'C', |body| {
            body.put_u8(target);
            string(body, name);
        })
    }

    /// Flush.
    #[must_use]
    pub fn flush(self) -> Self {
        self.frame(b'H', |_| {})
    }

    /// Sync.
    #[must_use]
    pub fn sync(self) -> Self {
        self.frame(b'S', |_| {})
    }

    /// `CopyData`.
    #[must_use]
    pub fn copy_data(self, data: &[u8]) -> Self {
        self.raw(b'd', data)
    }

    /// `CopyDone`.
    #[must_use]
    pub fn copy_done(self) -> Self {
        self.raw(b'c', &[])
    }

    /// `CopyFail`.
    #[must_use]
    pub fn copy_fail(self, reason: &str) -> Self {
        self.frame(b'f', |body| string(body, reason))
    }

    /// `FunctionCall`, with arguments and result in `format`.
    #[must_use]
    pub fn call(self, function: u32, format: i16, arguments: &[&[u8]]) -> Self {
        self.frame(b'F', |body| {
            body.put_u32(function);
            body.put_i16(1);
            body.put_i16(format);
            count(body, arguments.len());
            for argument in arguments {
                body.put_i32(i32::try_from(argument.len()).expect("a short value"));
                body.put_slice(argument);
            }
            body.put_i16(format);
        })
    }

    /// Terminate.
    #[must_use]
    pub fn terminate(self) -> Self {
        self.raw(b'X', &[])
    }

    /// A frame of any type with any body.
    #[must_use]
    pub fn raw(self, tag: u8, body: &[u8]) -> Self {
        self.frame(tag, |into| into.put_slice(body))
    }

    /// Bytes that need not be a frame.
    #[must_use]
    pub fn bare(mut self, bytes: &[u8]) -> Self {
        self.bytes.put_slice(bytes);
        self
    }

    fn frame(mut self, tag: u8, write: impl FnOnce(&mut BytesMut)) -> Self {
        self.ready += usize::from(matches!(tag, b'Q' | b'S' | b'F'));
        let mut body = BytesMut::new();
        write(&mut body);
        self.bytes.put_u8(tag);
        self.bytes.put_u32(u32::try_from(body.len() + 4).expect("a short frame"));
        self.bytes.put_slice(&body);
        self
    }
}

fn string(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

fn count(body: &mut BytesMut, items: usize) {
    body.put_i16(i16::try_from(items).expect("a short list"));
}
