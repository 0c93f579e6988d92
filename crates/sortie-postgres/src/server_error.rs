//! An `ErrorResponse` or a `NoticeResponse` of a server, kept whole.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use crate::scan::StreamError;
use crate::walk::HEADER_LEN;

/// What a server reported: an error, or a notice.
///
/// The frame is kept as it came, so that it can be handed on to a client byte for byte. Cheap to
/// clone.
#[derive(Clone, Eq, PartialEq)]
pub struct ServerError {
    frame: Bytes,
}

impl ServerError {
    /// Takes a whole frame, type byte and length included.
    ///
    /// # Errors
    ///
    /// [`StreamError::Layout`] if the fields can't be taken apart.
    pub fn new(frame: Bytes) -> Result<Self, StreamError> {
        let tag = frame.first().copied().unwrap_or(0);
        let fields = frame.get(HEADER_LEN..).ok_or(StreamError::Layout(tag))?;
        let mut rest = fields;
        while let Some((&kind, after)) = rest.split_first() {
            if kind == 0 {
                return Ok(Self { frame });
            }
            let end = after.iter().position(|&byte| byte == 0);
            rest = &after[end.ok_or(StreamError::Layout(tag))? + 1..];
        }
        Err(StreamError::Layout(tag))
    }

    /// The frame as the server sent it.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The field of this type, for example `b'D'` for the detail.
    pub fn field(&self, kind: u8) -> Option<&[u8]> {
        let mut rest = &self.frame[HEADER_LEN..];
        while let Some((&here, after)) = rest.split_first() {
            let end = after.iter().position(|&byte| byte == 0)?;
            if here == kind {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
        None
    }

    /// The SQLSTATE; empty if the server sent none.
    pub fn sqlstate(&self) -> &str {
        let code = self.field(b'C').unwrap_or_default();
        std::str::from_utf8(code).unwrap_or_default()
    }

    /// The message, in the server's words.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(self.field(b'M').unwrap_or_default()).into_owned()
    }

    /// Whether the server ends the session with it.
    pub fn is_fatal(&self) -> bool {
        // The field that is never translated, and servers before 9.6 do not have.
        let severity = self.field(b'V').or(self.field(b'S'));
        matches!(severity, Some(b"FATAL" | b"PANIC"))
    }
}

impl Error for ServerError {}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({} {:?})", self.sqlstate(), self.message())
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message(), self.sqlstate())?;
        for kind in [b'D', b'H'] {
            if let Some(text) = self.field(kind) {
                write!(f, "; {}", String::from_utf8_lossy(text))?;
            }
        }
        Ok(())
    }
}
