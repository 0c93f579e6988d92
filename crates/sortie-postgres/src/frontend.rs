//! The messages of a client, after the startup phase.

use bytes::{BufMut, Bytes, BytesMut};

use crate::cursor::Cursor;
use crate::{Frame, ProtocolError};

/// A message from a client. Texts are in the client's encoding, without their terminators.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Frontend {
    /// `Q`: run the statements of a text.
    Query {
        /// The statements.
        text: Bytes,
    },
    /// `P`: prepare a statement.
    Parse {
        /// The statement's name; empty is the unnamed one.
        statement: Bytes,
        /// The SQL.
        text: Bytes,
        /// The types of the first parameters; 0 leaves a type to the server.
        oids: Vec<u32>,
    },
    /// `B`: make a portal from a statement.
    Bind(Bind),
    /// `D`: describe a statement or a portal.
    Describe {
        /// Which of the two.
        target: Target,
        /// Its name.
        name: Bytes,
    },
    /// `E`: run a portal.
    Execute {
        /// The portal's name.
        portal: Bytes,
        /// How many rows to send before suspending; zero or less means all of them.
        rows_max: i32,
    },
    /// `C`: forget a statement or a portal.
    Close {
        /// Which of the two.
        target: Target,
        /// Its name.
        name: Bytes,
    },
    /// `H`: send what has been answered so far.
    Flush,
    /// `S`: end the batch, and with it an implicit transaction.
    Sync,
    /// `X`: end the session.
    Terminate,
    /// `p`: an answer to an authentication request.
    Password(Bytes),
    /// `d`: a piece of copied data.
    CopyData(Bytes),
    /// `c`: all data was copied.
    CopyDone,
    /// `f`: the client gives up copying.
    CopyFail {
        /// Why, in the client's words.
        reason: Bytes,
    },
    /// `F`: call a function by its number. The body is not taken apart: the interface is obsolete.
    FunctionCall(Bytes),
}

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// A portal to be made: the parameters of a statement.
///
/// Each list of formats has PostgreSQL's three shapes: empty (all text), one for all, or one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the protocol's version 3 fixes the fields")]
pub struct Bind {
    /// The portal's name; empty is the unnamed one.
    pub portal: Bytes,
    /// The statement's name.
    pub statement: Bytes,
    /// The formats of the parameters: 0 text, 1 binary.
    pub formats: Vec<i16>,
    /// The parameters; `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// The formats of the result's columns.
    pub result_formats: Vec<i16>,
}

impl Frame {
    /// Takes the body apart.
    ///
    /// # Errors
    ///
    /// The body is not what its type promises. Only this frame is lost: a server reports the
    /// error, skips to the next Sync if the frame belonged to the extended protocol, and goes on.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie_postgres::{Frame, Frontend, Target};
    ///
    /// let mut input = bytes::BytesMut::from(&b"C\0\0\0\x08Sby\0"[..]);
    /// let frame = Frame::decode(&mut input, 64)?.expect("the frame is complete");
    /// let name = bytes::Bytes::from_static(b"by");
    /// assert_eq!(frame.message()?, Frontend::Close { target: Target::Statement, name });
    /// # Ok::<(), sortie_postgres::ProtocolError>(())
    /// ```
    pub fn message(self) -> Result<Frontend, ProtocolError> {
        let mut body = Cursor::new(self.body);
        let message = match self.tag {
            b'Q' => Frontend::Query { text: body.text()? },
            b'P' => parse(&mut body)?,
            b'B' => Frontend::Bind(bind(&mut body)?),
            b'D' => {
                let target = Target::decode(body.u8()?, ProtocolError::DescribeTarget)?;
                Frontend::Describe { target, name: body.text()? }
            }
            b'C' => {
                let target = Target::decode(body.u8()?, ProtocolError::CloseTarget)?;
                Frontend::Close { target, name: body.text()? }
            }
            b'E' => Frontend::Execute { portal: body.text()?, rows_max: body.i32()? },
            b'H' => Frontend::Flush,
            b'S' => Frontend::Sync,
            b'X' => Frontend::Terminate,
            b'c' => Frontend::CopyDone,
            b'f' => Frontend::CopyFail { reason: body.text()? },
            b'd' => return Ok(Frontend::CopyData(body.rest())),
            b'p' => return Ok(Frontend::Password(body.rest())),
            b'F' => return Ok(Frontend::FunctionCall(body.rest())),
            tag => return Err(ProtocolError::FrameType(tag)),
        };
        body.end()?;
        Ok(message)
    }
}

impl Frontend {
    /// Appends this message to `buffer`, as a client sends it.
    ///
    /// # Panics
    ///
    /// Panics if a list has more than 65,535 items, or the frame is 2 GiB long or longer: no
    /// frame can say so.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut output = bytes::BytesMut::new();
    /// sortie_postgres::Frontend::Sync.encode(&mut output);
    /// assert_eq!(&output[..], b"S\0\0\0\x04");
    /// ```
    pub fn encode(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_u8(self.tag());
        buffer.put_i32(0);
        match self {
            Self::Query { text } | Self::CopyFail { reason: text } => put_text(buffer, text),
            Self::Parse { statement, text, oids } => {
                put_text(buffer, statement);
                put_text(buffer, text);
                put_count(buffer, oids.len());
                for &oid in oids {
                    buffer.put_u32(oid);
                }
            }
            Self::Bind(bind) => bind.encode(buffer),
            Self::Describe { target, name } | Self::Close { target, name } => {
                buffer.put_u8(match target {
                    Target::Statement => b'S',
                    Target::Portal => b'P',
                });
                put_text(buffer, name);
            }
            Self::Execute { portal, rows_max } => {
                put_text(buffer, portal);
                buffer.put_i32(*rows_max);
            }
            Self::Password(body) | Self::CopyData(body) | Self::FunctionCall(body) => {
                buffer.put_slice(body);
            }
            Self::Flush | Self::Sync | Self::Terminate | Self::CopyDone => {}
        }
        let length = i32::try_from(buffer.len() - start - 1).expect("a frame is below 2 GiB");
        buffer[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Query { .. } => b'Q',
            Self::Parse { .. } => b'P',
            Self::Bind(_) => b'B',
            Self::Describe { .. } => b'D',
            Self::Execute { .. } => b'E',
            Self::Close { .. } => b'C',
            Self::Flush => b'H',
            Self::Sync => b'S',
            Self::Terminate => b'X',
            Self::Password(_) => b'p',
            Self::CopyData(_) => b'd',
            Self::CopyDone => b'c',
            Self::CopyFail { .. } => b'f',
            Self::FunctionCall(_) => b'F',
        }
    }
}

impl Target {
    fn decode(byte: u8, wrong: fn(u8) -> ProtocolError) -> Result<Self, ProtocolError> {
        match byte {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            byte => Err(wrong(byte)),
        }
    }
}

impl Bind {
    fn encode(&self, buffer: &mut BytesMut) {
        put_text(buffer, &self.portal);
        put_text(buffer, &self.statement);
        put_formats(buffer, &self.formats);
        put_count(buffer, self.values.len());
        for value in &self.values {
            let Some(value) = value else {
                buffer.put_i32(-1);
                continue;
            };
            buffer.put_i32(i32::try_from(value.len()).expect("a value is below 2 GiB"));
            buffer.put_slice(value);
        }
        put_formats(buffer, &self.result_formats);
    }
}

fn parse(body: &mut Cursor) -> Result<Frontend, ProtocolError> {
    let (statement, text) = (body.text()?, body.text()?);
    let count = body.count(4)?;
    let oids = (0..count).map(|_| body.u32()).collect::<Result<_, _>>()?;
    Ok(Frontend::Parse { statement, text, oids })
}

fn bind(body: &mut Cursor) -> Result<Bind, ProtocolError> {
    let (portal, statement) = (body.text()?, body.text()?);
    let formats = formats(body)?;
    let count = body.count(4)?;
    let values = (0..count).map(|_| value(body)).collect::<Result<_, _>>()?;
    Ok(Bind { portal, statement, formats, values, result_formats: self::formats(body)? })
}

fn formats(body: &mut Cursor) -> Result<Vec<i16>, ProtocolError> {
    let count = body.count(2)?;
    (0..count).map(|_| body.u16().map(u16::cast_signed)).collect()
}

/// PostgreSQL takes -1 for NULL and every other negative length for a broken message.
fn value(body: &mut Cursor) -> Result<Option<Bytes>, ProtocolError> {
    match body.i32()? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_negative| ProtocolError::Short)?;
            body.bytes(length).map(Some)
        }
    }
}

fn put_text(buffer: &mut BytesMut, text: &[u8]) {
    buffer.put_slice(text);
    buffer.put_u8(0);
}

fn put_count(buffer: &mut BytesMut, count: usize) {
    buffer.put_u16(u16::try_from(count).expect("a list has at most 65,535 items"));
}

fn put_formats(buffer: &mut BytesMut, formats: &[i16]) {
    put_count(buffer, formats.len());
    for &format in formats {
        buffer.put_i16(format);
    }
}
