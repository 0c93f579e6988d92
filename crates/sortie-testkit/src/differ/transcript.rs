//! What came back, and where two of them part.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::script::Script;
use super::show::show;
use crate::wire::Frame;

/// Object ids from here on were given out by this cluster, and differ from run to run.
const FIRST_OWN_OID: u32 = 16_384;
/// How many frames before and after the first difference are shown.
const SHOWN_BEFORE: usize = 4;
const SHOWN_AFTER: usize = 6;

/// All that a client got, in order.
#[derive(Clone, Debug)]
pub struct Transcript {
    events: Vec<Event>,
}

/// One thing that a client saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    Frame(Frame),
    /// Bytes of a frame that never came whole.
    Torn(Bytes),
    /// The server closed.
    Closed,
    /// What was waited for and did not come.
    Silence(String),
    /// What went wrong with somebody else's session.
    Neighbour(String),
}

/// Where two transcripts part, readable.
#[derive(Clone, Debug)]
pub struct Difference {
    at: usize,
    before: Vec<String>,
    expected: Vec<String>,
    found: Vec<String>,
    first_byte: Option<usize>,
}

impl Transcript {
    pub(super) fn new(events: Vec<Event>) -> Self {
        Self { events }
    }

    /// How many frames came.
    pub fn frames(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Frame(_))).count()
    }

    /// Where `other`, of the same script, parts from this one; `None` when they are equal.
    pub fn difference(&self, other: &Self, script: &Script) -> Option<Difference> {
        let (expected, found) = (self.comparable(script), other.comparable(script));
        let shared = expected.iter().zip(&found).take_while(|(one, two)| one == two).count();
        if shared == expected.len() && shared == found.len() {
            return None;
        }
        let lines = |events: &[Event]| -> Vec<String> {
            events.iter().skip(shared).take(SHOWN_AFTER).map(show).collect()
        };
        let first_byte = match (expected.get(shared), found.get(shared)) {
            (Some(Event::Frame(one)), Some(Event::Frame(two))) if one.tag == two.tag => {
                Some(one.body.iter().zip(&two.body).take_while(|(one, two)| one == two).count())
            }
            _ => None,
        };
        Some(Difference {
            at: shared,
            before: expected[shared.saturating_sub(SHOWN_BEFORE)..shared]
                .iter()
                .map(show)
                .collect(),
            expected: lines(&expected),
            found: lines(&found),
            first_byte,
        })
    }

    /// The events with everything made equal that may differ.
    fn comparable(&self, script: &Script) -> Vec<Event> {
        let mut oids = Oids::default();
        let mut events: Vec<Event> = self
            .events
            .iter()
            .map(|event| match event {
                Event::Frame(frame) => Event::Frame(comparable(frame, &mut oids, script.loose)),
                event => event.clone(),
            })
            .collect();
        if script.loose {
            // A refusal may come before or after the login is said to be fine.
            events.retain(|event| !matches!(event, Event::Frame(frame) if frame.tag == b'R'));
        }
        sort_startup(&mut events);
        events
    }
}

/// Own object ids, numbered in the order in which a client sees them.
#[derive(Default)]
struct Oids(HashMap<u32, u32>);

impl Oids {
    fn stable(&mut self, oid: u32) -> u32 {
        if oid < FIRST_OWN_OID {
            return oid;
        }
        let next = u32::MAX - u32::try_from(self.0.len()).unwrap_or(0);
        *self.0.entry(oid).or_insert(next)
    }
}

fn comparable(frame: &Frame, oids: &mut Oids, loose: bool) -> Frame {
    let body = match frame.tag {
        // How long a cancel key is, and which minor version is the newest, is each server's own.
        b'K' => Bytes::new(),
        b'v' => frame.body.slice(4..),
        // A notification's first field is the notifier's process id.
        b'A' if frame.body.len() >= 4 => [&[0; 4], &frame.body[4..]].concat().into(),
        b'T' => columns(frame.body.clone(), oids).unwrap_or_else(|| frame.body.clone()),
        b't' => parameters(frame.body.clone(), oids).unwrap_or_else(|| frame.body.clone()),
        b'E' | b'N' if loose => fields(&frame.body, |name| b"SVC".contains(&name)),
        b'E' if has_failed(&frame.body) => fields(&frame.body, |name| !b"FLR".contains(&name)),
        _ => frame.body.clone(),
    };
    Frame { tag: frame.tag, body }
}

/// `RowDescription` with stable object ids; `None` when it is none.
fn columns(mut body: Bytes, oids: &mut Oids) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let columns = body.try_get_u16().ok()?;
    out.put_u16(columns);
    for _ in 0..columns {
        let end = body.iter().position(|byte| *byte == 0)?;
        out.put_slice(&body.split_to(end + 1));
        out.put_u32(oids.stable(body.try_get_u32().ok()?));
        out.put_u16(body.try_get_u16().ok()?);
        out.put_u32(oids.stable(body.try_get_u32().ok()?));
        out.put_u64(body.try_get_u64().ok()?);
    }
    out.put_slice(&body);
    Some(out.freeze())
}

/// `ParameterDescription` with stable object ids; `None` when it is none.
fn parameters(mut body: Bytes, oids: &mut Oids) -> Option<Bytes> {
    let mut out = BytesMut::new();
    out.put_u16(body.try_get_u16().ok()?);
    while body.has_remaining() {
        out.put_u32(oids.stable(body.try_get_u32().ok()?));
    }
    Some(out.freeze())
}

/// Of an error's fields only some, by their names.
fn fields(body: &Bytes, is_kept: impl Fn(u8) -> bool) -> Bytes {
    let fields = body.split(|byte| *byte == 0);
    let kept = fields.filter(|field| field.first().is_some_and(|name| is_kept(*name)));
    let kept: Vec<&[u8]> = kept.collect();
    kept.join(&0).into()
}

/// Whether an error says that its transaction has failed before.
fn has_failed(body: &Bytes) -> bool {
    body.split(|byte| *byte == 0).any(|field| field == b"C25P02")
}

/// The order in which a session's parameters are reported before its first `ReadyForQuery` is
/// nobody's promise.
fn sort_startup(events: &mut [Event]) {
    let ready = |event: &Event| matches!(event, Event::Frame(frame) if frame.tag == b'Z');
    let end = events.iter().position(ready).unwrap_or(events.len());
    let status = |event: &Event| matches!(event, Event::Frame(frame) if frame.tag == b'S');
    for group in events[..end].chunk_by_mut(|one, two| status(one) && status(two)) {
        group.sort_by_key(|event| match event {
            Event::Frame(frame) => frame.body.clone(),
            _ => Bytes::new(),
        });
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, line) in (self.at.saturating_sub(SHOWN_BEFORE)..).zip(&self.before) {
            writeln!(f, "  both     {number:>4}: {line}")?;
        }
        for (number, line) in (self.at..).zip(&self.expected) {
            writeln!(f, "  expected {number:>4}: {line}")?;
        }
        for (number, line) in (self.at..).zip(&self.found) {
            writeln!(f, "  found    {number:>4}: {line}")?;
        }
        if let Some(byte) = self.first_byte {
            writeln!(f, "  the first differing byte is {byte} of frame {}'s body", self.at)?;
        }
        Ok(())
    }
}
