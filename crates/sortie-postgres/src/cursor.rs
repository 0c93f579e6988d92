//! Takes fields off the front of a body. Every method checks before it takes.

use bytes::{Buf, Bytes};

use crate::ProtocolError;

/// What is left of a body.
#[derive(Debug)]
pub(crate) struct Cursor(Bytes);

impl Cursor {
    pub(crate) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.0.try_get_u8().map_err(|_short| ProtocolError::Short)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.0.try_get_u16().map_err(|_short| ProtocolError::Short)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.0.try_get_i32().map_err(|_short| ProtocolError::Short)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.0.try_get_u32().map_err(|_short| ProtocolError::Short)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<Bytes, ProtocolError> {
        if self.0.len() < length {
            return Err(ProtocolError::Short);
        }
        Ok(self.0.split_to(length))
    }

    /// Takes a string up to its terminator, which is taken too and not returned.
    pub(crate) fn text(&mut self) -> Result<Bytes, ProtocolError> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(ProtocolError::Text)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(text)
    }

    /// Takes a 16-bit count of items that are `size` bytes long at least.
    ///
    /// The items must fit into what is left, so that the caller may allocate for them.
    pub(crate) fn count(&mut self, size: usize) -> Result<usize, ProtocolError> {
        let count = usize::from(self.u16()?);
        if self.0.len() < count * size {
            return Err(ProtocolError::Short);
        }
        Ok(count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what is left.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), ProtocolError> {
        if self.is_empty() { Ok(()) } else { Err(ProtocolError::Trailing) }
    }
}
