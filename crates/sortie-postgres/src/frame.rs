//! Cuts a client's stream into frames.

use bytes::{Buf, Bytes, BytesMut};

use crate::ProtocolError;

/// Body and length field of the frame types that PostgreSQL calls small, in bytes: all but
/// queries, Parse, Bind, function calls, copy data and passwords (`PQ_SMALL_MESSAGE_LIMIT`).
pub const FRAME_SMALL_MAX: usize = 10_000;

/// Type byte and length field.
const HEADER_LEN: usize = 5;

/// A complete frame from a client, not taken apart yet.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// The type byte, for example `b'Q'`.
    pub tag: u8,
    /// The body, without the length field: a slice of the read buffer.
    pub body: Bytes,
}

impl Frame {
    /// Takes the next frame off `buffer`, or returns `None` when more bytes are needed.
    ///
    /// `frame_max` limits a frame without its type byte, in bytes. `buffer` is untouched unless
    /// a frame is returned. The type and the length are judged as soon as they are there, so
    /// `buffer` need never hold more than `frame_max` + 1 bytes of an accepted frame.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::FrameType`] and [`ProtocolError::FrameLength`]. The stream is lost: say
    /// so to the client and close the connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie_postgres::{Frame, ProtocolError};
    ///
    /// let mut input = bytes::BytesMut::from(&b"S\0\0\0\x04S\0"[..]);
    /// let sync = Frame::decode(&mut input, 64)?.expect("one frame is complete");
    /// assert_eq!((sync.tag, sync.body.len()), (b'S', 0));
    /// assert_eq!(Frame::decode(&mut input, 64)?, None); // Half of another one is left.
    /// assert_eq!(&input[..], b"S\0");
    ///
    /// let mut absurd = bytes::BytesMut::from(&b"Q\xff\xff\xff\xff"[..]);
    /// assert_eq!(Frame::decode(&mut absurd, 64), Err(ProtocolError::FrameLength));
    /// # Ok::<(), ProtocolError>(())
    /// ```
    pub fn decode(buffer: &mut BytesMut, frame_max: usize) -> Result<Option<Self>, ProtocolError> {
        let Some(&tag) = buffer.first() else { return Ok(None) };
        let length_max = length_max(tag, frame_max)?;
        let Some(mut field) = buffer.get(1..HEADER_LEN) else { return Ok(None) };
        let length = usize::try_from(field.get_i32())
            .ok()
            .filter(|length| (4..=length_max.max(4)).contains(length))
            .ok_or(ProtocolError::FrameLength)?;
        if buffer.len() < length + 1 {
            return Ok(None);
        }
        let mut body = buffer.split_to(length + 1).freeze();
        body.advance(HEADER_LEN);
        Ok(Some(Self { tag, body }))
    }
}

fn length_max(tag: u8, frame_max: usize) -> Result<usize, ProtocolError> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' | b'p' => Ok(frame_max),
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => Ok(frame_max.min(FRAME_SMALL_MAX)),
        _ => Err(ProtocolError::FrameType(tag)),
    }
}
