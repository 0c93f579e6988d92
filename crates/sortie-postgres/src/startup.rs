//! The packets that open a connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ProtocolError;
use crate::cursor::Cursor;

/// The longest startup packet without its length field, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_MAX: usize = 10_000;

/// The longest secret of a `CancelRequest`, in bytes. Protocol 3.0 has 4; 3.2 allows so many.
pub const SECRET_MAX: usize = 256;

// Request codes: a major version 1234 that no protocol has, and a number of the request.
const CANCEL: u32 = request(5678);
const TLS: u32 = request(5679);
const GSS: u32 = request(5680);

/// A packet of the startup phase.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Startup {
    /// The client wants a session.
    Session {
        /// The minor version of protocol 3 that the client asks for: 0, or 2 since PostgreSQL 18.
        minor: u16,
        /// Names and values in the client's order; the values are in no declared encoding.
        parameters: Vec<(Bytes, Bytes)>,
    },
    /// The client asks whether TLS is spoken. The answer is one byte, not a frame.
    Tls,
    /// The client asks whether GSSAPI encryption is spoken. The answer is one byte, not a frame.
    Gss,
    /// The client of another session wants that session's statement cancelled. No answer.
    Cancel {
        /// The session's process number, from its `BackendKeyData`.
        process: i32,
        /// The session's secret, from its `BackendKeyData`.
        secret: Bytes,
    },
}

impl Startup {
    /// Takes the next startup packet off `buffer`, or returns `None` when more bytes are needed.
    ///
    /// `buffer` is untouched unless a packet is returned, and need never hold more than
    /// [`STARTUP_MAX`] + 4 bytes.
    ///
    /// # Errors
    ///
    /// The lengths, the layout or the version are wrong. The connection is of no further use.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie_postgres::Startup;
    ///
    /// let packet = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";
    /// let mut input = bytes::BytesMut::from(&packet[..]);
    /// let Some(Startup::Session { minor, parameters }) = Startup::decode(&mut input)? else {
    ///     panic!("the packet is complete and asks for a session")
    /// };
    /// assert_eq!((minor, &parameters[0].0[..]), (0, &b"user"[..]));
    /// assert_eq!(&parameters[0].1[..], b"alice");
    /// # Ok::<(), sortie_postgres::ProtocolError>(())
    /// ```
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let Some(mut field) = buffer.get(..4) else { return Ok(None) };
        let length = usize::try_from(field.get_i32())
            .ok()
            .filter(|length| (8..=STARTUP_MAX + 4).contains(length))
            .ok_or(ProtocolError::StartupLength)?;
        if buffer.len() < length {
            return Ok(None);
        }
        let mut packet = Cursor::new(buffer.split_to(length).freeze());
        packet.bytes(4)?;
        let code = packet.u32()?;
        match code {
            TLS => packet.end().map(|()| Self::Tls),
            GSS => packet.end().map(|()| Self::Gss),
            CANCEL => cancel(packet),
            _ => session(code, packet),
        }
        .map(Some)
    }

    /// Appends this packet to `buffer`, as a client sends it.
    ///
    /// # Panics
    ///
    /// Panics if the packet is longer than its length field can say.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_i32(0);
        match self {
            Self::Tls => buffer.put_u32(TLS),
            Self::Gss => buffer.put_u32(GSS),
            Self::Cancel { process, secret } => {
                buffer.put_u32(CANCEL);
                buffer.put_i32(*process);
                buffer.put_slice(secret);
            }
            Self::Session { minor, parameters } => {
                buffer.put_u16(3);
                buffer.put_u16(*minor);
                for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
                    buffer.put_slice(text);
                    buffer.put_u8(0);
                }
                buffer.put_u8(0);
            }
        }
        let length = i32::try_from(buffer.len() - start).expect("a packet is shorter than 2 GiB");
        buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn cancel(mut packet: Cursor) -> Result<Startup, ProtocolError> {
    let process = packet.i32().map_err(|_short| ProtocolError::CancelLength)?;
    let secret = packet.rest();
    if secret.is_empty() || secret.len() > SECRET_MAX {
        return Err(ProtocolError::CancelLength);
    }
    Ok(Startup::Cancel { process, secret })
}

fn session(code: u32, mut packet: Cursor) -> Result<Startup, ProtocolError> {
    let [high, low, minor_high, minor_low] = code.to_be_bytes();
    let major = u16::from_be_bytes([high, low]);
    let minor = u16::from_be_bytes([minor_high, minor_low]);
    if major != 3 {
        return Err(ProtocolError::Version { major, minor });
    }
    let mut parameters = Vec::new();
    loop {
        let name = packet.text().map_err(|_text| ProtocolError::StartupLayout)?;
        if name.is_empty() {
            break;
        }
        let value = packet.text().map_err(|_text| ProtocolError::StartupLayout)?;
        parameters.push((name, value));
    }
    packet.end().map_err(|_trailing| ProtocolError::StartupLayout)?;
    Ok(Startup::Session { minor, parameters })
}

const fn request(number: u32) -> u32 {
    (1234 << 16) | number
}
