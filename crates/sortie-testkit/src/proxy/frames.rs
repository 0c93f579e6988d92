//! Where a server's frames begin, in bytes that come in pieces of any size.

use bytes::{Buf, BufMut, BytesMut};

use super::Injection;

/// `SSLRequest` and `GSSENCRequest`, as the first bytes of a connection: they are answered with
/// one byte that is no frame.
const ENCRYPTION_REQUESTS: [[u8; 8]; 2] =
    [[0, 0, 0, 8, 4, 210, 22, 47], [0, 0, 0, 8, 4, 210, 22, 48]];

/// Follows the frames of one direction and puts an error among them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A tag and a length that are not complete yet.
    head: BytesMut,
    /// How much of it was passed on already: nothing is kept back without a reason.
    sent: usize,
    /// What is left of the frame that has begun.
    body: usize,
    /// Whether frames are left out until `ReadyForQuery`.
    skips: bool,
    /// Whether the frame that has begun is left out.
    skipped: bool,
    /// Single bytes that stand before the first frame.
    answers: usize,
    /// Past a `S`: the rest is encrypted.
    opaque: bool,
}

/// What became of some bytes.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) bytes: BytesMut,
    pub(super) injected: bool,
    /// Nothing comes after these bytes.
    pub(super) ends: bool,
}

impl Frames {
    /// Looks at what a client sent first, or after such a request; returns whether it was one.
    pub(super) fn asked(&mut self, bytes: &[u8]) -> bool {
        let asked = ENCRYPTION_REQUESTS.iter().any(|request| bytes == request);
        self.answers += usize::from(asked);
        asked
    }

    /// Passes bytes of the server on, with `injection` taken where it fits.
    pub(super) fn pass(&mut self, mut piece: &[u8], injection: &mut Option<Injection>) -> Passed {
        let mut passed = Passed::default();
        while self.answers > 0 && piece.has_remaining() {
            self.answers -= 1;
            self.opaque |= piece[0] != b'N';
            passed.bytes.put_u8(piece.get_u8());
        }
        if self.opaque {
            passed.bytes.put_slice(piece);
            return passed;
        }
        while piece.has_remaining() {
            if self.body > 0 {
                let part = self.body.min(piece.len());
                if !self.skipped {
                    passed.bytes.put_slice(&piece[..part]);
                }
                piece.advance(part);
                self.body -= part;
                continue;
            }
            let part = piece.len().min(5 - self.head.len());
            self.head.put_slice(&piece[..part]);
            if self.sent > 0 || (injection.is_none() && !self.skips) {
                passed.bytes.put_slice(&piece[..part]);
                self.sent += part;
            }
            piece.advance(part);
            if self.head.len() == 5 && self.begin(injection, &mut passed) {
                passed.ends = true;
                return passed;
            }
        }
        passed
    }

    /// Decides on a frame whose head is complete; returns whether the stream ends before it.
    fn begin(&mut self, injection: &mut Option<Injection>, passed: &mut Passed) -> bool {
        let tag = self.head[0];
        let fits = |injection: &mut Injection| injection.before.is_none_or(|wanted| wanted == tag);
        // Within what is left out already, and after the end of an answer, nothing fits.
        if !self.skips
            && let Some(injection) = injection.take_if(fits)
        {
            passed.bytes.put_slice(&report(&injection));
            passed.injected = true;
            if injection.fatal {
                return true;
            }
            self.skips = true;
        }
        self.skips &= tag != b'Z';
        self.skipped = self.skips;
        if !self.skipped {
            passed.bytes.put_slice(&self.head[self.sent..]);
        }
        self.body = ((&self.head[1..5]).get_u32() as usize).saturating_sub(4);
        self.head.clear();
        self.sent = 0;
        false
    }
}

/// The bytes of an `ErrorResponse`.
fn report(injection: &Injection) -> BytesMut {
    let severity = if injection.fatal { "FATAL" } else { "ERROR" };
    let mut body = BytesMut::new();
    for (field, value) in [
        (b'S', severity),
        (b'V', severity),
        (b'C', injection.sqlstate.as_str()),
        (b'M', injection.message.as_str()),
    ] {
        body.put_u8(field);
        body.put_slice(value.as_bytes());
        body.put_u8(0);
    }
    body.put_u8(0);
    let mut frame = BytesMut::new();
    frame.put_u8(b'E');
    frame.put_u32(u32::try_from(body.len() + 4).expect("a short frame"));
    frame.put_slice(&body);
    frame
}
