//! Where the next batch of an idle session goes.

use std::ops::Range;

use sortie_postgres::Frontend;

use super::effect::{Effect, Effects};
use super::frames::{self, Head};
use super::local::Own;
use super::shared::PipeReason;

/// Bytes of a batch that are collected before it is known where it goes; beyond them it is piped.
pub(super) const BATCH_MAX: usize = 64 << 10;

/// A frame that is longer is not read for what it says.
pub(super) const FRAME_MAX: usize = 256 << 10;

/// So much of one that is not read is waited for, for the names that it begins with.
pub(super) const BEGIN_LEN: usize = 1 << 10;

/// What an idle client wants next.
#[derive(Debug)]
pub(super) enum Batch {
    /// More must come before that can be told.
    Partial {
        /// How long the frame in front is, if that is known and it is wanted as a whole.
        wanted: usize,
    },
    /// The session's end.
    Terminate,
    /// A lone Sync, or a Flush, so long.
    Sync(usize),
    Flush(usize),
    /// A simple query.
    Simple(Range<usize>),
    /// Messages up to a Sync that prepare, bind and run at most one statement, completely.
    Single(Single),
    /// Anything else, for this reason.
    Other(PipeReason),
    /// The stream is lost: a frame of this type, or of this length.
    Lost(u8),
}

/// A batch about one statement; to its Sync, or to the Flush behind what only prepares it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Single {
    /// The whole batch.
    pub(super) len: usize,
    pub(super) parse: Option<Range<usize>>,
    /// The description of the statement, asked for ahead of its use.
    pub(super) described: Option<Range<usize>>,
    pub(super) bind: Option<Range<usize>>,
    /// How many of them run it.
    pub(super) executes: usize,
    /// It is bound and run once in the unnamed portal, and nothing else is asked of it but the
    /// portal's description, and its end.
    pub(super) is_plain: bool,
    /// The portal's description is asked for.
    pub(super) describes: bool,
    /// It ends in a Flush: the client waits for the answers, and goes on with the batch.
    pub(super) is_flushed: bool,
    /// The portal's end is asked for.
    pub(super) closes: bool,
    /// How many rows are wanted at most; 0 means all.
    pub(super) rows_max: u32,
}

/// Looks at what a client has sent.
pub(super) fn batch(input: &[u8]) -> Batch {
    let head = match frames::head(input) {
        Ok(Some(head)) => head,
        Ok(None) => return Batch::Partial { wanted: 0 },
        Err(tag) => return Batch::Lost(tag),
    };
    let whole = input.len() >= head.len;
    match head.tag {
        b'X' => Batch::Terminate,
        // Its bytes are passed on as they come.
        b'd' => Batch::Other(PipeReason::Shape),
        tag if !is_known(tag) => Batch::Lost(tag),
        // The pipe takes it whole as well: on a part of it nobody could go on.
        _ if !whole && head.len <= FRAME_MAX => Batch::Partial { wanted: head.len },
        _ if !whole && input.len() < BEGIN_LEN => Batch::Partial { wanted: BEGIN_LEN },
        b'S' | b'H' if head.len > frames::HEADER_LEN => Batch::Other(PipeReason::Shape),
        b'S' => Batch::Sync(head.len),
        b'H' => Batch::Flush(head.len),
        b'Q' if whole && !frames::is_whole(&input[..head.len]) => Batch::Other(PipeReason::Shape),
        b'Q' if whole => Batch::Simple(0..head.len),
        b'Q' => Batch::Other(PipeReason::Size),
        b'P' | b'B' | b'D' | b'E' | b'C' => extended(input),
        _ => Batch::Other(PipeReason::Shape),
    }
}

/// Whether a frame of this type may come from a client after its startup.
pub(super) fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'F' | b'd' | b'c' | b'f'
    )
}

fn extended(input: &[u8]) -> Batch {
    let mut single = Single { is_plain: true, ..Single::default() };
    let mut at = 0;
    loop {
        let head = match frames::head(&input[at..]) {
            Ok(Some(head)) => head,
            Ok(None) if input.len() < BATCH_MAX => return Batch::Partial { wanted: 0 },
            Ok(None) => return Batch::Other(PipeReason::Size),
            Err(tag) => return Batch::Lost(tag),
        };
        let Some(frame) = input.get(at..at + head.len) else {
            if at + head.len > BATCH_MAX {
                return Batch::Other(PipeReason::Size);
            }
            return Batch::Partial { wanted: at + head.len };
        };
        single.is_flushed =
            head.tag == b'H' && head.len == frames::HEADER_LEN && single.described.is_some();
        let is_sync = head.tag == b'S' && head.len == frames::HEADER_LEN;
        let is_end = is_sync || (single.is_flushed && single.is_preparing());
        if !is_end && !single.take(head, frame, at) {
            return Batch::Other(PipeReason::Shape);
        }
        at += head.len;
        if is_end {
            single.len = at;
            single.is_plain &= single.executes == 1 && single.bind.is_some();
            return Batch::Single(single);
        }
    }
}

/// The first statement of a batch that is about several, up to its Execute.
pub(super) fn ahead(input: &[u8]) -> Option<Single> {
    let mut single = Single { is_plain: true, ..Single::default() };
    while single.executes == 0 {
        let head = frames::head(&input[single.len..]).ok()??;
        let frame = input.get(single.len..single.len + head.len)?;
        if head.tag == b'S' || !single.take(head, frame, single.len) {
            return None;
        }
        single.len += head.len;
    }
    (single.is_plain && single.bind.is_some()).then_some(single)
}

impl Single {
    /// Whether its portal may be read on after the batch, where a transaction outlives that: it is
    /// read in portions, and not closed.
    pub(super) fn leaves_rest(&self) -> bool {
        self.rows_max > 0 && !self.closes
    }

    /// Whether it prepares a statement, or has it described, and nothing else.
    pub(super) fn is_preparing(&self) -> bool {
        (self.parse.is_some() || self.described.is_some())
            && self.bind.is_none()
            && self.executes == 0
            && !self.describes
            && !self.closes
    }

    /// Takes one more frame in. Returns whether the batch may still be about one statement.
    fn take(&mut self, head: Head, frame: &[u8], at: usize) -> bool {
        // A server says what is wrong with it.
        if !frames::is_whole(frame) {
            return false;
        }
        let place = at..at + head.len;
        match head.tag {
            b'P' if self.parse.is_none() && self.described.is_none() && self.bind.is_none() => {
                self.parse = Some(place);
            }
            b'B' if self.bind.is_none() => {
                let Some((portal, _)) = frames::bind(frame) else { return false };
                self.is_plain &= portal.is_empty();
                self.bind = Some(place);
            }
            b'D' if self.describes_ahead(frame) => self.described = Some(place),
            b'D' => {
                let portal = frames::target(frame) == Some((b'P', b""));
                let first = self.bind.is_some() && self.executes == 0 && !self.describes;
                self.is_plain &= portal && first;
                self.describes = true;
            }
            b'E' => {
                let Some((portal, rows)) = frames::execute(frame) else { return false };
                self.executes += 1;
                self.rows_max = u32::try_from(rows).unwrap_or(0);
                self.is_plain &= portal.is_empty();
            }
            b'C' => {
                let portal = frames::target(frame) == Some((b'P', b""));
                self.is_plain &= portal && self.executes == 1 && !self.closes;
                self.closes = true;
            }
            _ => return false,
        }
        true
    }

    /// Whether a Describe is about the statement, and comes ahead of what is done with it.
    fn describes_ahead(&self, frame: &[u8]) -> bool {
        matches!(frames::target(frame), Some((b'S', _)))
            && self.described.is_none()
            && self.bind.is_none()
            && self.executes == 0
    }

    /// The Bind taken apart.
    pub(super) fn bound(&self, input: &[u8]) -> Option<sortie_postgres::Bind> {
        let mut frame = bytes::BytesMut::from(input.get(self.bind.clone()?)?);
        let frame = sortie_postgres::Frame::decode(&mut frame, FRAME_MAX).ok()??;
        match frame.message().ok()? {
            Frontend::Bind(bind) => Some(bind),
            _ => None,
        }
    }
}

/// Statements that concern the session alone: on a sharded cluster one server will do for them.
pub(super) fn is_of_session(effects: &Effects) -> bool {
    !effects.left.is_empty()
        && effects.left.len() == effects.statements
        && effects.left.iter().all(|effect| match effect {
            Effect::Dirty(_) | Effect::Nothing => false,
            Effect::Set(..)
            | Effect::Reset(_)
            | Effect::ResetAll
            | Effect::DiscardAll
            | Effect::Deallocate(_)
            | Effect::Switch(..)
            | Effect::SwitchLocal(..)
            | Effect::Show(_)
            | Effect::Control(_) => true,
        })
}

/// What sortie answers itself, if the statement is one of those.
pub(super) fn own(effects: &Effects) -> Option<Own> {
    (effects.statements == 1).then(|| Own::of(&effects.left)).flatten()
}

#[cfg(test)]
mod tests {
    use sortie_testkit::Batch as Frames;

    use super::*;

    fn single(frames: &Frames) -> Single {
        match batch(frames.bytes()) {
            Batch::Single(single) => single,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_drivers_send_to_run_one_statement_is_plain() {
        let parse = |batch: Frames| batch.parse("", "select 1", &[]);
        let plain = [
            bind(parse(Frames::new())).describe(b'P', "").execute("").sync(),
            bind(parse(Frames::new())).execute("").sync(),
            bind(Frames::new()).execute("").sync(),
            bind(Frames::new()).execute("").close(b'P', "").sync(),
        ];
        for batch in plain {
            let single = single(&batch);
            assert!(single.is_plain && single.rows_max == 0, "{single:?}");
            assert_eq!(single.len, batch.bytes().len());
        }
        let other = [
            parse(Frames::new()).describe(b'S', "").sync(),
            bind(parse(Frames::new())).sync(),
            bind(Frames::new()).execute("").execute("").sync(),
            Frames::new().bind("p", "", (0, &[]), 0).execute("p").sync(),
            Frames::new().execute("").sync(),
        ];
        for batch in other {
            assert!(!single(&batch).is_plain, "{batch:?}");
        }
        let ahead = parse(Frames::new()).describe(b'S', "");
        let (synced, flushed) = (ahead.clone().sync(), ahead.clone().flush());
        assert!(single(&synced).is_preparing() && !single(&synced).is_flushed);
        let found = single(&flushed.clone().then(&bind(Frames::new()).execute("").sync()));
        assert!(found.is_preparing() && found.is_flushed, "{found:?}");
        assert_eq!(found.len, flushed.bytes().len());
        let all = single(&bind(ahead).execute("").sync());
        assert!(all.is_plain && all.described.is_some(), "{all:?}");
        let some = single(&bind(Frames::new()).execute_some("", 7).sync());
        assert!(some.is_plain && some.rows_max == 7, "{some:?}");
    }

    fn bind(batch: Frames) -> Frames {
        batch.bind("", "", (0, &[]), 0)
    }

    #[test]
    fn what_is_more_than_one_statement_goes_elsewhere() {
        let two = Frames::new().parse("", "a", &[]).parse("", "b", &[]).sync();
        assert!(matches!(batch(two.bytes()), Batch::Other(PipeReason::Shape)));
        let flushed = bind(Frames::new().parse("", "a", &[])).flush();
        assert!(matches!(batch(flushed.bytes()), Batch::Other(PipeReason::Shape)));
    }

    #[test]
    fn a_part_of_a_batch_is_waited_for_within_bounds() {
        let whole = Frames::new().parse("", "select 1", &[]).bind("", "", (0, &[]), 0).sync();
        for end in 0..whole.bytes().len() {
            let found = batch(&whole.bytes()[..end]);
            assert!(matches!(found, Batch::Partial { .. }), "{end}: {found:?}");
        }
        let long = Frames::new().query(&"x".repeat(FRAME_MAX));
        assert!(matches!(batch(&long.bytes()[..10]), Batch::Partial { wanted: BEGIN_LEN }));
        assert!(matches!(batch(&long.bytes()[..BEGIN_LEN]), Batch::Other(PipeReason::Size)));
        let long = Frames::new().describe(b'P', "").parse("", &"x".repeat(BATCH_MAX), &[]);
        assert!(matches!(batch(&long.bytes()[..20]), Batch::Other(PipeReason::Size)));
        for tag in *b"QPBF" {
            // Nobody can go on with a part of a frame that is to be read whole.
            for (len, waits) in [(BATCH_MAX + 1, true), (FRAME_MAX - 1, true), (FRAME_MAX, false)] {
                let mut part = vec![tag];
                part.extend(i32::try_from(len).unwrap().to_be_bytes());
                part.resize(BEGIN_LEN, 0);
                let found = batch(&part);
                assert_eq!(matches!(found, Batch::Partial { .. }), waits, "{tag} {len} {found:?}");
            }
        }
        assert!(matches!(batch(b"Q\0\0\0\x01"), Batch::Lost(b'Q')));
        assert!(matches!(batch(b"!\0\0\0\x04"), Batch::Lost(b'!')));
    }
}
