//! Walks over a server's frames without keeping them.
//!
//! Sans-IO: the bytes stay in the caller's buffer, untouched and uncopied; what comes out are
//! [`Event`]s that say where the frames lie. It knows the layout of a frame and which types and
//! lengths a server may send, and nothing of what a reply means.
//!
//! # Invariants
//!
//! 1. The events of a chunk tile it: each byte belongs to exactly one, in order.
//! 2. However a stream is cut into chunks, the frames that end are the same.
//! 3. Of a frame that lies in several chunks the body is kept only if somebody may want to read
//!    it, and only up to [`CARRIED_MAX`] bytes. Rows and copy data are never kept.

use std::error::Error;
use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::backend::Status;
use crate::walk::{HEADER_LEN, Piece, Walk};

/// The longest body that is put together when it comes in several chunks, in bytes.
pub const CARRIED_MAX: usize = 64 * 1024;

/// The longest frame of a server, in bytes: PostgreSQL refuses to build a longer one.
const FRAME_MAX: usize = 1 << 30;

/// The longest body of a `BackendKeyData`, with some room above 256 bytes of secret.
const KEY_MAX: usize = 1024;

/// Follows a server's stream from frame to frame.
///
/// # Examples
///
/// ```
/// use sortie_postgres::Scanner;
/// use sortie_postgres::backend::{self, Status};
///
/// let mut buffer = bytes::BytesMut::new();
/// backend::command_complete(&mut buffer, "SELECT 0");
/// backend::ready_for_query(&mut buffer, Status::Idle);
///
/// let (mut scanner, mut events) = (Scanner::new(), Vec::new());
/// scanner.scan(&buffer, 0, &mut events)?;
/// assert_eq!(events[0].body(&buffer), Some(&b"SELECT 0\0"[..]));
/// assert_eq!(events[1].status(&buffer), Some(Status::Idle));
/// # Ok::<(), sortie_postgres::StreamError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    walk: Walk,
    carried: BytesMut,
}

/// One frame of a chunk, or the part of it that lies in the chunk; or a run of rows.
///
/// Complete `DataRow` or `CopyData` frames that follow one another are told in one event.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The type byte, for example `b'Z'`.
    pub tag: u8,
    /// Where in the caller's buffer it begins.
    pub start: usize,
    /// Where in the caller's buffer it ends.
    pub end: usize,
    /// How many frames end in it: 0 or 1, or more in a run of rows.
    pub frames: u32,
    /// Its frame began in an earlier chunk, so that `start` is not at a type byte.
    pub resumed: bool,
    /// The body, if it was put together from several chunks.
    carried: Option<Bytes>,
}

/// Why bytes from a server are not the protocol. The stream is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StreamError {
    /// The type byte of a frame is none that a server may send.
    FrameType(u8),
    /// A frame of this type can't have this length.
    FrameLength {
        /// The frame's type byte.
        tag: u8,
        /// The value of its length field.
        length: i32,
    },
    /// A `ReadyForQuery` has a status that does not exist.
    Status(u8),
    /// The body of a frame of this type can't be taken apart.
    Layout(u8),
    /// A frame of this type has no place in the reply.
    Unexpected(u8),
}

impl Scanner {
    /// Creates a scanner for a stream that stands between two frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Walks over the next `chunk` of the stream and appends what is in it to `events`.
    ///
    /// `at` is where in the caller's buffer the chunk begins; the offsets of the events count
    /// from the buffer's start.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: nobody knows where the next frame begins, so the connection is of no
    /// further use. The events up to there are right.
    pub fn scan(
        &mut self,
        chunk: &[u8],
        at: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), StreamError> {
        let first = events.len();
        let mut here = 0;
        while here < chunk.len() {
            let rest = &chunk[here..];
            if let Some((tag, len)) = self.walk.whole(rest)
                && is_known(tag)
                && fits(tag, len - HEADER_LEN)
            {
                if tag == b'Z' {
                    ready(&rest[HEADER_LEN..len])?;
                }
                let start = at + here;
                here += len;
                let end = at + here;
                if is_bulk(tag) && extend(&mut events[first..], tag, end) {
                    continue;
                }
                events.push(Event { tag, start, end, frames: 1, resumed: false, carried: None });
                continue;
            }
            let piece = self.walk.step(rest).map_err(|(tag, length)| {
                if is_known(tag) {
                    StreamError::FrameLength { tag, length }
                } else {
                    StreamError::FrameType(tag)
                }
            })?;
            if piece.header > 0 {
                check(&piece)?;
            }
            let start = at + here;
            here += piece.len;
            if is_bulk(piece.tag)
                && piece.ends
                && !piece.resumed
                && extend(&mut events[first..], piece.tag, at + here)
            {
                continue;
            }
            let carried = self.carry(&piece, rest)?;
            events.push(Event {
                tag: piece.tag,
                start,
                end: at + here,
                frames: u32::from(piece.ends),
                resumed: piece.resumed,
                carried,
            });
        }
        Ok(())
    }

    /// Whether the stream stands between two frames: something of our own may be put here.
    pub fn is_between(&self) -> bool {
        self.walk.is_between()
    }

    /// Keeps the body of a frame that is cut, and gives it out at the frame's end.
    fn carry(&mut self, piece: &Piece, chunk: &[u8]) -> Result<Option<Bytes>, StreamError> {
        let cut = piece.resumed || !piece.ends;
        let kept = !is_bulk(piece.tag) && piece.body.is_some_and(|body| body <= CARRIED_MAX);
        let body = &chunk[piece.header..piece.len];
        if !cut || !kept {
            if piece.tag == b'Z' && piece.ends {
                ready(body)?;
            }
            return Ok(None);
        }
        self.carried.extend_from_slice(body);
        if !piece.ends {
            return Ok(None);
        }
        let body = self.carried.split().freeze();
        if piece.tag == b'Z' {
            ready(&body)?;
        }
        Ok(Some(body))
    }
}

impl Event {
    /// Whether a frame ends in this event.
    pub fn ends(&self) -> bool {
        self.frames > 0
    }

    /// The body of a frame that ends here, out of the buffer that the offsets count in.
    ///
    /// `None` for rows and copy data, for a frame that goes on, and for one that was cut and is
    /// longer than [`CARRIED_MAX`].
    ///
    /// # Panics
    ///
    /// Panics if `buffer` is shorter than the one that was scanned.
    pub fn body<'a>(&'a self, buffer: &'a [u8]) -> Option<&'a [u8]> {
        if !self.ends() || is_bulk(self.tag) {
            return None;
        }
        match &self.carried {
            Some(body) => Some(body),
            None if self.resumed => None,
            None => Some(&buffer[self.start + HEADER_LEN..self.end]),
        }
    }

    /// The status that a `ReadyForQuery` reports; `None` for everything else.
    pub fn status(&self, buffer: &[u8]) -> Option<Status> {
        if self.tag != b'Z' {
            return None;
        }
        ready(self.body(buffer)?).ok()
    }
}

impl Error for StreamError {}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FrameType(tag) => {
                write!(f, "the server sent a message of unknown type {}", shown(tag))
            }
            Self::FrameLength { tag, length } => {
                write!(f, "the server sent a message {} of length {length}", shown(tag))
            }
            Self::Status(status) => {
                write!(f, "the server reported an unknown status {}", shown(status))
            }
            Self::Layout(tag) => {
                write!(f, "the server sent a message {} that can't be read", shown(tag))
            }
            Self::Unexpected(tag) => {
                write!(f, "the server sent a message {} out of place", shown(tag))
            }
        }
    }
}

/// Rows and copy data: the mass of a reply, which nobody reads here.
fn is_bulk(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}

/// Adds a whole frame to a run of such frames, if the last event is one.
fn extend(events: &mut [Event], tag: u8, end: usize) -> bool {
    let Some(run) = events.last_mut().filter(|run| run.tag == tag && run.frames > 0) else {
        return false;
    };
    run.end = end;
    run.frames += 1;
    true
}

fn ready(body: &[u8]) -> Result<Status, StreamError> {
    match body {
        b"I" => Ok(Status::Idle),
        b"T" => Ok(Status::Transaction),
        b"E" => Ok(Status::Failed),
        [other, ..] => Err(StreamError::Status(*other)),
        [] => Err(StreamError::Layout(b'Z')),
    }
}

/// Checks type and length of the frame whose header is in `piece`, as far as they are known.
fn check(piece: &Piece) -> Result<(), StreamError> {
    match piece.body {
        _ if !is_known(piece.tag) => Err(StreamError::FrameType(piece.tag)),
        Some(body) if !fits(piece.tag, body) => {
            let length = i32::try_from(body + 4).unwrap_or(i32::MAX);
            Err(StreamError::FrameLength { tag: piece.tag, length })
        }
        _ => Ok(()),
    }
}

/// Whether a frame of this type may have a body of this length.
fn fits(tag: u8, body: usize) -> bool {
    match tag {
        b'1' | b'2' | b'3' | b'I' | b'c' | b'n' | b's' => body == 0,
        b'Z' => body == 1,
        b'K' => body <= KEY_MAX,
        _ => body < FRAME_MAX,
    }
}

/// Whether a server may send frames of this type.
fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        b'1' | b'2'
            | b'3'
            | b'A'
            | b'C'
            | b'D'
            | b'E'
            | b'G'
            | b'H'
            | b'I'
            | b'K'
            | b'N'
            | b'R'
            | b'S'
            | b'T'
            | b'V'
            | b'W'
            | b'Z'
            | b'c'
            | b'd'
            | b'n'
            | b's'
            | b't'
            | b'v'
    )
}

/// A byte as a reader knows it.
fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("'{}'", char::from(byte))
    } else {
        format!("0x{byte:02x}")
    }
}
