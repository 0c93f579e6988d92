//! The messages of a server, appended to an output buffer.
//!
//! Every function appends one whole frame. Texts must not contain a zero byte, which would end
//! them early; what follows a zero byte is left out. Nothing here fails: an output that can't be
//! said in the protocol is a bug of the caller and panics, as the functions concerned state.

use bytes::{BufMut, BytesMut};

/// Where a session stands between two batches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// In no transaction.
    Idle,
    /// In a transaction.
    Transaction,
    /// In a transaction that has failed: only its end is accepted.
    Failed,
}

/// A column of a `RowDescription`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the protocol's version 3 fixes the fields")]
pub struct Field<'a> {
    /// The column's name in the result.
    pub name: &'a str,
    /// The table's OID, or 0.
    pub table: u32,
    /// The column's number in that table, or 0.
    pub column: i16,
    /// The type's OID.
    pub oid: u32,
    /// The type's size in bytes; negative for types of varying size.
    pub size: i16,
    /// The type's modifier, or -1.
    pub modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// How grave a report is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing failed, but it may surprise.
    Warning,
    /// For the reader's information.
    Notice,
}

/// The fields of an `ErrorResponse` or a `NoticeResponse`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it field by field")]
pub struct Report<'a> {
    /// Fields `S` and `V`.
    pub severity: Severity,
    /// Field `C`: the SQLSTATE, five characters.
    pub code: &'a str,
    /// Field `M`.
    pub message: &'a str,
    /// Field `D`.
    pub detail: Option<&'a str>,
    /// Field `H`.
    pub hint: Option<&'a str>,
    /// Field `P`: a character of the statement, counted from 1.
    pub position: Option<usize>,
}

/// A `DataRow` frame under construction. Until [`DataRow::finish`] the output is not a frame.
///
/// # Examples
///
/// ```
/// use sortie_postgres::backend::DataRow;
///
/// let mut output = bytes::BytesMut::new();
/// let mut row = DataRow::begin(&mut output);
/// row.value(b"42");
/// row.null();
/// row.finish();
/// assert_eq!(&output[..], b"D\0\0\0\x10\0\x02\0\0\0\x0242\xff\xff\xff\xff");
/// ```
#[derive(Debug)]
#[must_use = "a row that is not finished is not a frame"]
pub struct DataRow<'a> {
    output: &'a mut BytesMut,
    start: usize,
    count: u16,
}

impl<'a> DataRow<'a> {
    /// Begins a row at the end of `output`.
    pub fn begin(output: &'a mut BytesMut) -> Self {
        let start = output.len();
        output.put_slice(&[b'D', 0, 0, 0, 0, 0, 0]);
        Self { output, start, count: 0 }
    }

    /// Appends NULL.
    ///
    /// # Panics
    ///
    /// Panics on the 65,536th column.
    pub fn null(&mut self) {
        self.next();
        self.output.put_i32(-1);
    }

    /// Appends a value in the format that the row's description announced.
    ///
    /// # Panics
    ///
    /// Panics on the 65,536th column, and on a value of 2 GiB or more.
    pub fn value(&mut self, value: &[u8]) {
        self.next();
        self.output.put_i32(length(value.len()));
        self.output.put_slice(value);
    }

    /// Ends the row.
    ///
    /// # Panics
    ///
    /// Panics if the row is 2 GiB long or longer.
    pub fn finish(self) {
        self.output[self.start + 5..self.start + 7].copy_from_slice(&self.count.to_be_bytes());
        close(self.output, self.start);
    }

    fn next(&mut self) {
        self.count = self.count.checked_add(1).expect("a row has at most 65,535 columns");
    }
}

/// `R`: the session is authenticated.
pub fn authentication_ok(output: &mut BytesMut) {
    frame(output, b'R', |body| body.put_i32(0));
}

/// `R`: the client is to prove who it is by one of these SASL mechanisms, the best one first.
pub fn authentication_sasl(output: &mut BytesMut, mechanisms: &[&str]) {
    frame(output, b'R', |body| {
        body.put_i32(10);
        for mechanism in mechanisms {
            put_text(body, mechanism);
        }
        body.put_u8(0);
    });
}

/// `R`: a SASL login goes on with this.
pub fn authentication_sasl_continue(output: &mut BytesMut, message: &[u8]) {
    frame(output, b'R', |body| {
        body.put_i32(11);
        body.put_slice(message);
    });
}

/// `R`: a SASL login has succeeded, and this proves us to the client.
pub fn authentication_sasl_final(output: &mut BytesMut, message: &[u8]) {
    frame(output, b'R', |body| {
        body.put_i32(12);
        body.put_slice(message);
    });
}

/// `S`: a parameter's value, at the start and whenever it changes.
pub fn parameter_status(output: &mut BytesMut, name: &str, value: &str) {
    frame(output, b'S', |body| {
        put_text(body, name);
        put_text(body, value);
    });
}

/// `K`: what a `CancelRequest` for this session must name.
pub fn backend_key_data(output: &mut BytesMut, process: i32, secret: &[u8]) {
    frame(output, b'K', |body| {
        body.put_i32(process);
        body.put_slice(secret);
    });
}

/// `v`: the newest minor version of protocol 3 that is spoken, and the client's options that are
/// not known.
///
/// # Panics
///
/// Panics on 2^31 options or more.
pub fn negotiate_protocol_version(output: &mut BytesMut, minor: u16, unknown: &[&str]) {
    frame(output, b'v', |body| {
        // The manual speaks of the minor version alone; servers send, and libpq compares, the
        // whole version number.
        body.put_u16(3);
        body.put_u16(minor);
        body.put_i32(length(unknown.len()));
        for name in unknown {
            put_text(body, name);
        }
    });
}

/// `Z`: the session awaits the next batch.
pub fn ready_for_query(output: &mut BytesMut, status: Status) {
    frame(output, b'Z', |body| {
        body.put_u8(match status {
            Status::Idle => b'I',
            Status::Transaction => b'T',
            Status::Failed => b'E',
        });
    });
}

/// `T`: the columns of the rows that follow.
///
/// # Panics
///
/// Panics on more than 65,535 fields.
pub fn row_description<'a>(
    output: &mut BytesMut,
    fields: impl ExactSizeIterator<Item = Field<'a>>,
) {
    frame(output, b'T', |body| {
        body.put_u16(count(fields.len()));
        for field in fields {
            put_text(body, field.name);
            body.put_u32(field.table);
            body.put_i16(field.column);
            body.put_u32(field.oid);
            body.put_i16(field.size);
            body.put_i32(field.modifier);
            body.put_i16(field.format);
        }
    });
}

/// `t`: the types of a statement's parameters.
///
/// # Panics
///
/// Panics on more than 65,535 parameters.
pub fn parameter_description(output: &mut BytesMut, oids: impl ExactSizeIterator<Item = u32>) {
    frame(output, b't', |body| {
        body.put_u16(count(oids.len()));
        oids.for_each(|oid| body.put_u32(oid));
    });
}

/// `C`: a statement is done, for example `SELECT 3`.
pub fn command_complete(output: &mut BytesMut, tag: &str) {
    frame(output, b'C', |body| put_text(body, tag));
}

/// `I`: the statement was empty; sent in place of a `CommandComplete`.
pub fn empty_query_response(output: &mut BytesMut) {
    frame(output, b'I', |_body| {});
}

/// `1`: a Parse is done.
pub fn parse_complete(output: &mut BytesMut) {
    frame(output, b'1', |_body| {});
}

/// `2`: a Bind is done.
pub fn bind_complete(output: &mut BytesMut) {
    frame(output, b'2', |_body| {});
}

/// `3`: a Close is done.
pub fn close_complete(output: &mut BytesMut) {
    frame(output, b'3', |_body| {});
}

/// `n`: what was described returns no rows.
pub fn no_data(output: &mut BytesMut) {
    frame(output, b'n', |_body| {});
}

/// `s`: an Execute has sent as many rows as it was allowed to; the portal has more.
pub fn portal_suspended(output: &mut BytesMut) {
    frame(output, b's', |_body| {});
}

/// `E`: something failed.
pub fn error_response(output: &mut BytesMut, report: &Report<'_>) {
    frame(output, b'E', |body| report.put(body));
}

/// `N`: something to know.
pub fn notice_response(output: &mut BytesMut, report: &Report<'_>) {
    frame(output, b'N', |body| report.put(body));
}

impl Report<'_> {
    fn put(&self, body: &mut BytesMut) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
        };
        let position = self.position.map(|position| position.to_string());
        let fields = [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(self.code)),
            (b'M', Some(self.message)),
            (b'D', self.detail),
            (b'H', self.hint),
            (b'P', position.as_deref()),
        ];
        for (kind, text) in fields {
            if let Some(text) = text {
                body.put_u8(kind);
                put_text(body, text);
            }
        }
        body.put_u8(0);
    }
}

fn frame(output: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = output.len();
    output.put_slice(&[tag, 0, 0, 0, 0]);
    body(output);
    close(output, start);
}

/// Writes the length of the frame that begins at `start` and ends here.
fn close(output: &mut BytesMut, start: usize) {
    let length = length(output.len() - start - 1);
    output[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("what is sent is below 2 GiB")
}

fn count(count: usize) -> u16 {
    u16::try_from(count).expect("a list has at most 65,535 items")
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    body.put_u8(0);
}
