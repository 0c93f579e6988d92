//! Exchanges: a batch of frames out, its whole reply in.
//!
//! Knows the order of a reply and where its rows begin and end, and never looks into one (but into
//! the fence's own). Which statements may be asked this way, and what becomes of the answer, is
//! other rooms' business.
//!
//! # Invariants
//!
//! 1. A batch is one write, the fence included.
//! 2. A body up to `whole_max` is copied to its exact size, so that it pins no read buffer; a
//!    longer one is never held: it is read as its consumer asks for it.
//! 3. A reply is only complete with its last `ReadyForQuery`. Until then the connection says that
//!    it owes one, also when the exchange or the stream was dropped.

mod error;
mod gather;
mod stream;

use bytes::{Buf, Bytes};

pub use error::ExchangeError;
pub use stream::BodyStream;

use crate::connection::Connection;
use crate::server_error::ServerError;
use crate::walk::Walk;
use gather::Gather;

/// What a body may measure to be kept whole, unless the request says, in bytes.
const WHOLE_MAX: usize = 1 << 20;

/// `SELECT pg_catalog.pg_last_wal_replay_lsn()` by the extended protocol, with a Sync of its own:
/// its errors are its own, and the positions in the batch's errors are the batch's.
const FENCE: &[u8] = b"P\0\0\0\x32\0SELECT pg_catalog.pg_last_wal_replay_lsn()\0\0\0\
    B\0\0\0\x0e\0\0\0\0\0\0\0\x01\0\x01\
    E\0\0\0\x09\0\0\0\0\0\
    S\0\0\0\x04";

/// As [`FENCE`], of whatever server: a primary says where its own log ends.
const PLACE: &[u8] = b"P\0\0\0\x90\0SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_last_wal_replay_lsn() \
    ELSE pg_catalog.pg_current_wal_insert_lsn() END\0\0\0\
    B\0\0\0\x0e\0\0\0\0\0\0\0\x01\0\x01\
    E\0\0\0\x09\0\0\0\0\0\
    S\0\0\0\x04";

/// A batch of frames that has at most one result: a Query with one statement, or messages of the
/// extended protocol that end in one Sync.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is exchanged"]
pub struct Request {
    frames: Bytes,
    whole_max: usize,
    fence: Fence,
}

/// Where a server is asked for its position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fence {
    Nowhere,
    Ahead,
    Around,
}

/// A reply without an error, as frames.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The `ParameterDescription` frame, if a statement was described.
    pub parameters: Option<Bytes>,
    /// The `RowDescription` frame; none if nothing was described or there are no rows.
    pub head: Option<Bytes>,
    /// The `DataRow` frames.
    pub body: Body,
    /// The `CommandComplete` frame, or the `EmptyQueryResponse` or `PortalSuspended` in its place;
    /// none if nothing was executed, or the body is a stream that has not ended.
    pub complete: Option<Bytes>,
    /// Notices that came with the reply, up to 64.
    pub notices: Vec<ServerError>,
    /// How many of them, the first ones, are about a statement that was parsed, and came before
    /// that was done.
    pub notices_parsing: usize,
    /// The position in the write-ahead log that a fenced request's standby had replayed before it
    /// read anything for the batch. None without a fence, and on a primary unless the fence goes
    /// [around](Request::fenced_around).
    pub as_of: Option<u64>,
    /// The position that it had replayed when it had read everything: nothing that the batch has
    /// read is from behind it. None without a fence around, and where the body is a stream.
    pub until: Option<u64>,
}

/// The rows of a reply.
#[derive(Debug)]
#[non_exhaustive]
pub enum Body {
    /// All of them, at their exact size; empty if there are none.
    Whole(Bytes),
    /// More than were wanted at once.
    Stream(Box<BodyStream>),
}

impl Request {
    /// A request for these frames. A body over 1 MiB becomes a stream.
    pub fn new(frames: impl Into<Bytes>) -> Self {
        Self { frames: frames.into(), whole_max: WHOLE_MAX, fence: Fence::Nowhere }
    }

    /// Up to how many bytes of rows are kept whole.
    pub fn whole_max(mut self, bytes: usize) -> Self {
        self.whole_max = bytes;
        self
    }

    /// Asks first, in the same write, up to where the server has replayed the write-ahead log.
    pub fn fenced(mut self) -> Self {
        self.fence = Fence::Ahead;
        self
    }

    /// Asks for the server's position both ahead of the batch and behind it, in the same write:
    /// what is read lies in between. A primary says how far it has written its log.
    pub fn fenced_around(mut self) -> Self {
        self.fence = Fence::Around;
        self
    }
}

impl Reply {
    /// The command's tag, for example `SELECT 3`.
    pub fn tag(&self) -> Option<&[u8]> {
        self.complete.as_ref().and_then(|frame| frame.get(5..frame.len().checked_sub(1)?))
    }
}

impl Connection {
    /// Sends a batch in one write and reads its reply.
    ///
    /// If the body is a stream, the connection belongs to it until its end.
    ///
    /// Dropping the future leaves the statement running and the connection owing its answer
    /// ([`Connection::owed`] is above zero): drain it, cancel it, or close it.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Server`] with the server's own report; the connection is idle again unless
    /// the report is fatal. All others mean that the connection can't be used any more, or not yet.
    pub async fn exchange(&mut self, request: Request) -> Result<Reply, ExchangeError> {
        if self.is_broken() {
            return Err(ExchangeError::Closed(std::io::ErrorKind::NotConnected.into()));
        }
        if self.unfinished || self.owed() > 0 {
            return Err(ExchangeError::Busy);
        }
        if !is_answered(&request.frames) {
            return Err(ExchangeError::Endless);
        }
        self.unfinished = true;
        self.input.clear();
        let (ahead, behind) = match request.fence {
            Fence::Nowhere => (&b""[..], &b""[..]),
            Fence::Ahead => (FENCE, &b""[..]),
            Fence::Around => (PLACE, PLACE),
        };
        let mut out = ahead.chain(request.frames).chain(behind);
        let fences = (!ahead.is_empty(), !behind.is_empty());
        let mut gather = Gather::new(request.whole_max, fences);
        loop {
            gather.more(self, &mut out).await?;
            if gather.is_done() {
                return gather.whole(self);
            }
            if gather.is_over() {
                return Ok(gather.stream(self));
            }
        }
    }
}

/// Whether the last frame is whole and will have a `ReadyForQuery`.
fn is_answered(frames: &[u8]) -> bool {
    let (mut walk, mut rest, mut last) = (Walk::default(), frames, 0);
    while !rest.is_empty() {
        let Ok(piece) = walk.step(rest) else { return false };
        (rest, last) = (&rest[piece.len..], piece.tag);
    }
    walk.is_between() && matches!(last, b'Q' | b'S' | b'F')
}
