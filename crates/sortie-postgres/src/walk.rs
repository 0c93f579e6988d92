//! Walks over the frames of either direction, in pieces of any size.
//!
//! Both directions lay a frame out alike: a type byte, a length that counts itself, a body. What a
//! type may be, and how long, is for [`Scanner`](crate::Scanner) and [`Dues`](crate::dues::Dues).

/// Type byte and length field.
pub(crate) const HEADER_LEN: usize = 5;

/// Where a stream of frames stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    header: [u8; HEADER_LEN],
    /// How many bytes of the header are there; 0 between two frames.
    have: usize,
    /// How many bytes of the body are still to come.
    left: usize,
}

/// What of one frame lies in a chunk: all of it, or a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) tag: u8,
    /// Bytes of the chunk that belong to it.
    pub(crate) len: usize,
    /// How many of them belong to the header.
    pub(crate) header: usize,
    /// The length of the frame's body; only known once the header is complete.
    pub(crate) body: Option<usize>,
    /// The frame began in an earlier chunk.
    pub(crate) resumed: bool,
    /// The frame ends in this chunk.
    pub(crate) ends: bool,
}

impl Walk {
    /// Whether the stream stands between two frames.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Whether the header of the frame that the stream stands in is complete.
    pub(crate) fn has_header(&self) -> bool {
        self.have == HEADER_LEN
    }

    /// Type and length of the frame that `chunk` begins with, if all of it is there: most are, and
    /// need no [`step`](Self::step).
    #[inline]
    pub(crate) fn whole(&self, chunk: &[u8]) -> Option<(u8, usize)> {
        let &[tag, a, b, c, d] = chunk.first_chunk::<HEADER_LEN>().filter(|_| self.have == 0)?;
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok()?;
        (length >= 4 && length < chunk.len()).then_some((tag, length + 1))
    }

    /// Takes the next piece off the front of `chunk`, which must not be empty.
    ///
    /// # Errors
    ///
    /// The type and the length of a frame that is shorter than its own length field.
    #[inline]
    pub(crate) fn step(&mut self, chunk: &[u8]) -> Result<Piece, (u8, i32)> {
        let resumed = self.have > 0;
        let mut header = 0;
        if self.have < HEADER_LEN {
            header = (HEADER_LEN - self.have).min(chunk.len());
            self.header[self.have..self.have + header].copy_from_slice(&chunk[..header]);
            self.have += header;
            if self.have < HEADER_LEN {
                let tag = self.header[0];
                return Ok(Piece { tag, len: header, header, body: None, resumed, ends: false });
            }
            self.left = self.length()?;
        }
        let body = self.length()?;
        let tag = self.header[0];
        let taken = self.left.min(chunk.len() - header);
        self.left -= taken;
        let ends = self.left == 0;
        if ends {
            self.have = 0;
        }
        Ok(Piece { tag, len: header + taken, header, body: Some(body), resumed, ends })
    }

    /// The length of the body that the header announces.
    fn length(&self) -> Result<usize, (u8, i32)> {
        let [tag, length @ ..] = self.header;
        let length = i32::from_be_bytes(length);
        length.checked_sub(4).and_then(|body| usize::try_from(body).ok()).ok_or((tag, length))
    }
}
