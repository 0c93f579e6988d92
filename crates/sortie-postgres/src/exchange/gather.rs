//! Puts a reply together while it comes in.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::error::ExchangeError;
use super::stream::BodyStream;
use super::{Body, Reply};
use crate::connection::Connection;
use crate::scan::{Event, StreamError};
use crate::server_error::ServerError;
use crate::walk::HEADER_LEN;

/// Bytes of a page of the log, and of the header that most of them begin with.
const PAGE_LEN: u64 = 8_192;
const PAGE_HEADER_LEN: u64 = 24;

/// How many notices of one reply are kept.
const NOTICES_MAX: usize = 64;

/// The longest frame of a reply that is not a row, in bytes.
const FRAME_MAX: usize = 16 << 20;

/// What comes next answers this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The fence ahead of the batch.
    Ahead,
    Batch,
    /// The fence behind it.
    Behind,
}

/// A reply under way. The bytes that are not taken yet lie in the connection's input.
#[derive(Debug)]
pub(super) struct Gather {
    whole_max: usize,
    stage: Stage,
    /// There is a fence behind the batch.
    fences_behind: bool,
    as_of: Option<u64>,
    until: Option<u64>,
    parameters: Option<Bytes>,
    head: Option<Bytes>,
    complete: Option<Bytes>,
    notices: Vec<ServerError>,
    notices_parsing: usize,
    error: Option<ServerError>,
    /// Rows that were moved out of the input because something else came between them.
    moved: BytesMut,
    /// Where in the input the rows lie that were not moved.
    rows: Range<usize>,
    /// Where in the input the frame begins that is still incomplete, if it is not a row.
    begun: Option<usize>,
    done: bool,
}

impl Gather {
    /// A reply with fences ahead and behind, or not.
    pub(super) fn new(whole_max: usize, (ahead, fences_behind): (bool, bool)) -> Self {
        Self {
            whole_max,
            stage: if ahead { Stage::Ahead } else { Stage::Batch },
            fences_behind,
            as_of: None,
            until: None,
            parameters: None,
            head: None,
            complete: None,
            notices: Vec::new(),
            notices_parsing: 0,
            error: None,
            moved: BytesMut::new(),
            rows: 0..0,
            begun: None,
            done: false,
        }
    }

    /// Reads once, and sends what is left to send meanwhile.
    pub(super) async fn more(
        &mut self,
        connection: &mut Connection,
        out: &mut impl Buf,
    ) -> Result<(), ExchangeError> {
        if self.rows.is_empty() && self.begun.is_none() {
            connection.input.clear();
        }
        connection.events.clear();
        let filled = connection.fill(out).await;
        let events = std::mem::take(&mut connection.events);
        let sorted = events.iter().try_for_each(|event| self.sort(event, connection));
        connection.events = events;
        match filled {
            // What the server said before it hung up is what matters.
            Err(_) if self.error.is_some() => {
                return Err(self
                    .error
                    .take()
                    .map_or(ExchangeError::Endless, ExchangeError::Server));
            }
            filled => filled?,
        }
        if let Err(error) = sorted {
            connection.give_up();
            return Err(error.into());
        }
        if !out.has_remaining() {
            self.done = connection.owed() == 0 && connection.is_between_received();
        }
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What the fence behind the batch has said.
    pub(super) fn until(&self) -> Option<u64> {
        self.until
    }

    /// Whether more rows came than are wanted whole.
    pub(super) fn is_over(&self) -> bool {
        self.moved.len() + self.rows.len() > self.whole_max
    }

    /// The complete reply; a stream all the same if it is over the limit.
    pub(super) fn whole(mut self, connection: &mut Connection) -> Result<Reply, ExchangeError> {
        if self.is_over() && self.error.is_none() {
            return Ok(self.stream(connection));
        }
        let body = if self.moved.is_empty() {
            Bytes::copy_from_slice(&connection.input[self.rows.clone()])
        } else {
            self.moved.extend_from_slice(&connection.input[self.rows.clone()]);
            Bytes::copy_from_slice(&self.moved)
        };
        connection.finish();
        match self.error.take() {
            Some(error) => Err(ExchangeError::Server(error)),
            None => Ok(self.reply(Body::Whole(body))),
        }
    }

    /// What is known of a reply whose rows go on.
    pub(super) fn stream(mut self, connection: &mut Connection) -> Reply {
        let mut reply = self.reply(Body::Whole(Bytes::new()));
        let first = self.take_rows(connection);
        reply.body = Body::Stream(Box::new(BodyStream::new(first, self)));
        reply
    }

    /// The rows that are there, as frames; the last one may be cut.
    pub(super) fn take_rows(&mut self, connection: &mut Connection) -> Bytes {
        let rows = std::mem::take(&mut self.rows);
        let mut taken = connection.input.split_to(rows.end);
        taken.advance(rows.start);
        if let Some(begun) = &mut self.begun {
            *begun -= rows.end;
        }
        if self.moved.is_empty() {
            return taken.freeze();
        }
        let mut moved = std::mem::take(&mut self.moved);
        moved.unsplit(taken);
        moved.freeze()
    }

    /// What came at a reply's end.
    pub(super) fn end(&mut self) -> Result<Option<Bytes>, ServerError> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.complete.take()),
        }
    }

    fn reply(&mut self, body: Body) -> Reply {
        Reply {
            parameters: self.parameters.take(),
            head: self.head.take(),
            body,
            complete: if self.done { self.complete.clone() } else { None },
            notices: std::mem::take(&mut self.notices),
            notices_parsing: self.notices_parsing,
            as_of: self.as_of,
            until: self.until,
        }
    }

    fn sort(&mut self, event: &Event, connection: &mut Connection) -> Result<(), StreamError> {
        if event.tag == b'D' && self.stage == Stage::Batch {
            self.row(event, &connection.input);
            return Ok(());
        }
        let start = *self.begun.get_or_insert(event.start);
        if event.end - start > FRAME_MAX {
            return Err(StreamError::Unexpected(event.tag));
        }
        if !event.ends() {
            return Ok(());
        }
        self.begun = None;
        let frame = &connection.input[start..event.end];
        match event.tag {
            b'A' => connection.notifications_dropped += 1,
            b'S' => {}
            tag if self.stage == Stage::Batch => {
                self.frame(tag, frame)?;
                if tag == b'Z' && self.fences_behind {
                    self.stage = Stage::Behind;
                }
            }
            tag => self.fence(tag, frame),
        }
        Ok(())
    }

    fn row(&mut self, event: &Event, input: &BytesMut) {
        if self.rows.is_empty() {
            self.rows = event.start..event.end;
        } else if self.rows.end == event.start {
            self.rows.end = event.end;
        } else {
            self.moved.extend_from_slice(&input[self.rows.clone()]);
            self.rows = event.start..event.end;
        }
    }

    fn frame(&mut self, tag: u8, frame: &[u8]) -> Result<(), StreamError> {
        let copy = || Bytes::copy_from_slice(frame);
        match tag {
            b'1' => self.notices_parsing = self.notices.len(),
            b'2' | b'3' | b'n' | b'Z' => {}
            b'T' if self.head.is_none() && self.complete.is_none() => self.head = Some(copy()),
            b't' if self.parameters.is_none() => self.parameters = Some(copy()),
            b'C' | b'I' | b's' => self.complete = Some(copy()),
            b'E' => self.error = Some(ServerError::new(copy())?),
            b'N' => {
                if self.notices.len() < NOTICES_MAX {
                    self.notices.push(ServerError::new(copy())?);
                }
            }
            other => return Err(StreamError::Unexpected(other)),
        }
        Ok(())
    }

    /// A frame of the fence's answer. If it fails, nobody knows the position, and that is all.
    fn fence(&mut self, tag: u8, frame: &[u8]) {
        match tag {
            b'D' => {
                let mut body = &frame[HEADER_LEN..];
                let known = body.try_get_u16() == Ok(1) && body.try_get_i32() == Ok(8);
                let position = body.try_get_u64().ok().filter(|_| known).map(record_end);
                let is_ahead = self.stage == Stage::Ahead;
                *(if is_ahead { &mut self.as_of } else { &mut self.until }) = position;
            }
            b'Z' if self.stage == Stage::Ahead => self.stage = Stage::Batch,
            _ => {}
        }
    }
}

/// The end of the last record. Where a page is full, the place of the next record is behind the
/// next page's header: nobody can have replayed that far before there is such a record.
fn record_end(place: u64) -> u64 {
    if place % PAGE_LEN == PAGE_HEADER_LEN { place - PAGE_HEADER_LEN } else { place }
}
