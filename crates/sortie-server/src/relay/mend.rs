//! Prepared statements that a server has no more, or not as it should: the batch that finds it out
//! is sent again.
//!
//! A server may lose a statement without anybody's having said so in a text that is read here (a
//! function that deallocates, a pooler in between), and it refuses to run one whose columns are
//! other ones now. On another connection the session would have noticed neither: so it is here,
//! too, if its client is told of the columns in the same batch. The statement is prepared again in
//! front of it, as it would be there.
//!
//! # Invariants
//!
//! 1. A batch is sent again only if nothing of it has run: its first message has failed, and it
//!    stood outside of a transaction.
//! 2. Nothing was sent behind it, not even that the client leaves, and nothing is until it has been
//!    sent again: order stays.
//! 3. It is sent again once, on the same connection, and counted once.
//! 4. A client that is not told of a statement's columns with its rows, or that says a format for
//!    each of them, gets rows of those columns that it was told of, or an error.
//! 5. What can't be sent again is told to the client as the server has said it. A statement that
//!    is gone is prepared for the next batch that names it.

use bytes::BytesMut;
use sortie_postgres::Event;
use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::course::{Course, Heard, NOBODY};
use super::failure::server_error;
use super::frames;
use super::session::Session;
use super::shared::Shared;

/// How long a batch may be that is kept until it is answered, in bytes.
const BATCH_MAX: usize = 16 << 10;

/// So much room for one is kept while nothing is under way, in bytes.
const KEPT_MAX: usize = 512;

/// The batch under way, if it may have to be sent again.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Mend {
    /// What was sent of it: first a Bind or a Describe of a statement that is there.
    sent: Vec<u8>,
    /// That is all of it.
    is_whole: bool,
    /// Something was sent behind it.
    is_followed: bool,
    /// It has failed, will be sent again, and the client is told nothing of that.
    has_failed: bool,
    /// A frame of which it is told nothing has begun to come.
    is_within: bool,
    /// So many bytes in front of what the client has sent were sent before, and go out next.
    again: usize,
}

/// What a server has said of a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    /// It does not have it.
    Missing,
    /// Its columns are not those that it had when it was prepared.
    Changed,
}

impl Said {
    /// Reads the server's error with this body.
    fn of(body: &[u8]) -> Option<Self> {
        let error = server_error(body)?;
        // Not what a function says that is run to plan the statement.
        let is_own = error.field(b'W').is_none();
        let routine = error.field(b'R');
        match error.sqlstate() {
            "26000" if is_own => Some(Self::Missing),
            "0A000" if is_own && routine == Some(b"RevalidateCachedQuery") => Some(Self::Changed),
            _ => None,
        }
    }
}

impl Mend {
    /// A batch is sent that begins so.
    pub(super) fn begin(&mut self, sent: &[u8], is_whole: bool) {
        self.sent.clear();
        if sent.len() <= BATCH_MAX {
            self.sent.extend_from_slice(sent);
            (self.is_whole, self.is_followed) = (is_whole, false);
        }
    }

    /// Nothing that is under way can be sent again.
    pub(super) fn give_up(&mut self) {
        self.sent.clear();
    }

    /// What was under way is answered.
    pub(super) fn end(&mut self) {
        self.sent.clear();
        (self.has_failed, self.is_within) = (false, false);
    }

    /// Nothing is under way for a while.
    pub(super) fn rest(&mut self) {
        self.end();
        self.again = 0;
        self.sent.shrink_to(KEPT_MAX);
    }

    /// Whether nothing may be sent until it has been sent again.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether a frame has begun to come of which the client is told nothing.
    pub(super) fn is_within(&self) -> bool {
        self.is_within
    }

    /// Whether what is in front was sent before.
    pub(super) fn is_again(&self) -> bool {
        self.again > 0
    }

    /// So many bytes in front go out. Returns whether they were sent before.
    pub(super) fn pass(&mut self, len: usize) -> bool {
        let is_again = self.is_again();
        self.again = self.again.saturating_sub(len);
        is_again
    }

    /// One more frame is sent, behind its first one.
    fn follow(&mut self, frame: &[u8]) {
        if self.sent.is_empty() {
            return;
        }
        if self.is_whole {
            self.is_followed = true;
        } else if matches!(frame[0], b'P' | b'B' | b'D' | b'E' | b'C' | b'S')
            && self.sent.len() + frame.len() <= BATCH_MAX
        {
            self.sent.extend_from_slice(frame);
            self.is_whole = frame[0] == b'S';
        } else {
            self.sent.clear();
        }
    }
}

impl<P> Course<P> {
    /// Whether a batch that begins with this frame may have to be sent again: it names a statement
    /// that was prepared here.
    fn is_mendable(&self, frame: &[u8], number: impl FnOnce(&[u8]) -> Option<u64>) -> bool {
        let Some(name) = subject(frame).filter(|_| self.is_open()) else { return false };
        let there = self.here.number(name);
        there.is_some() && there == number(name)
    }
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// A whole frame is about to be passed on: keeps it, if it may have to be sent again, and was
    /// not yet (`is_again`).
    pub(super) fn keep(&mut self, len: usize, is_again: bool) {
        let frame = &self.client.input[..len];
        if !self.course.is_clear() {
            self.course.mend.follow(frame);
        } else if !is_again
            && self.lazy.is_none()
            && self.course.is_mendable(frame, |name| self.ledger.number(name))
        {
            self.course.mend.begin(frame, false);
        } else {
            self.course.mend.give_up();
        }
    }

    /// A server's error is about to be heard. If it is about the statement that the batch under
    /// way begins with, that is prepared again for whoever names it next: for the same batch, if
    /// it can be sent again.
    pub(super) fn hear_missing(&mut self, event: &Event) {
        if self.course.mend.sent.is_empty() || event.resumed || !self.course.is_unanswered() {
            return;
        }
        let said = event.body(&self.client.output).and_then(Said::of);
        let Course { mend, here, .. } = &mut self.course;
        let (Some(said), Some(name)) = (said, subject(&mend.sent)) else { return };
        match said {
            Said::Missing => here.forget(name),
            // Who does not ask what comes, or says how each is to come, expects what came before.
            Said::Changed if frames::tells(&mend.sent) != Some(true) => return,
            Said::Changed => drop(here.prepare(name, NOBODY)),
        }
        // Who has said that it leaves has sent nothing that would be passed on.
        let is_alone = mend.is_whole && !mend.is_followed && self.leaving.is_none();
        let is_outside = self.held.as_ref().is_some_and(|held| {
            held.leased.server.status() == Status::Idle && held.cancelling.is_none()
        });
        mend.has_failed = is_alone && is_outside && self.out.is_empty() && self.passing == 0;
    }

    /// Keeps from the client what is said of a batch that is sent again, which is next when it has
    /// ended.
    pub(super) fn hear_failed(&mut self, event: &Event, heard: Heard) -> Heard {
        if !self.course.mend.has_failed {
            return heard;
        }
        let mend = &mut self.course.mend;
        match event.tag {
            b'Z' if event.ends() => {
                (mend.has_failed, mend.is_within) = (false, false);
                mend.again = mend.sent.len();
                let mut input = BytesMut::with_capacity(mend.sent.len() + self.client.input.len());
                input.extend_from_slice(&mend.sent);
                input.extend_from_slice(&self.client.input);
                self.client.input = input;
                mend.sent.clear();
                self.lanes.mended();
                Heard::Swallow
            }
            b'E' | b'Z' => {
                mend.is_within = !event.ends();
                Heard::Swallow
            }
            _ => heard,
        }
    }
}

/// The statement that a batch begins with, if it binds it, or has it described.
fn subject(sent: &[u8]) -> Option<&[u8]> {
    let head = frames::head(sent).ok()??;
    let frame = sent.get(..head.len)?;
    match head.tag {
        b'B' => frames::bind(frame).map(|(_, name)| name),
        b'D' => frames::target(frame).filter(|(kind, _)| *kind == b'S').map(|(_, name)| name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sortie_testkit::Batch;

    use super::*;

    fn bind() -> Batch {
        Batch::new().bind("p", "s", (0, &[Some(b"7")]), 0)
    }

    #[test]
    fn a_client_is_told_of_columns_by_what_stands_behind_the_bind() {
        let told = bind().describe(b'P', "p").execute("p").sync();
        assert_eq!(frames::tells(told.bytes()), Some(true));
        let others = [
            bind().execute("p").sync(),
            bind().describe(b'P', "q").execute("p").sync(),
            bind().describe(b'S', "p").execute("p").sync(),
            bind().execute("p").describe(b'P', "p").sync(),
            Batch::new().describe(b'S', "s").describe(b'P', "p").sync(),
            // A format for each column, behind a value and a NULL.
            Batch::new()
                .raw(b'B', b"p\0s\0\0\0\0\x02\0\0\0\x017\xff\xff\xff\xff\0\x02\0\0\0\x01")
                .describe(b'P', "p"),
            Batch::new(),
        ];
        let (bytes, bind) = (told.bytes(), bind().bytes().len());
        for end in bind..bytes.len() {
            let is_there = frames::head(&bytes[bind..end]).unwrap();
            let is_there = is_there.is_some_and(|describe| bind + describe.len <= end);
            assert_eq!(frames::tells(&bytes[..end]), is_there.then_some(true), "{end}");
        }
        for other in others {
            assert_eq!(frames::tells(other.bytes()), Some(false), "{other:?}");
        }
    }

    /// What is kept when these frames have been sent one by one.
    fn kept(mend: &mut Mend, batch: &Batch) -> usize {
        let mut rest = batch.bytes();
        let mut is_first = true;
        while let Ok(Some(head)) = frames::head(rest) {
            let (frame, behind) = rest.split_at(head.len);
            rest = behind;
            if std::mem::take(&mut is_first) {
                mend.begin(frame, false);
            } else {
                mend.follow(frame);
            }
        }
        mend.sent.len()
    }

    #[test]
    fn only_a_short_batch_is_kept_and_only_until_it_is_answered() {
        let mut mend = Mend::default();
        let batch = bind().execute("p").sync();
        assert_eq!(kept(&mut mend, &batch), batch.bytes().len());
        assert!(mend.is_whole && !mend.is_followed && subject(&mend.sent) == Some(b"s"));
        mend.follow(bind().bytes());
        assert!(mend.is_followed && mend.sent.len() == batch.bytes().len());
        mend.end();
        assert!(mend.sent.is_empty());
        for other in [bind().execute("p").flush().sync(), bind().query("SELECT 1")] {
            assert_eq!(kept(&mut mend, &other), 0, "{other:?}");
        }
        let long = vec![b'x'; BATCH_MAX];
        let long = Batch::new().bind("", "s", (0, &[Some(&long)]), 0).execute("").sync();
        assert_eq!(kept(&mut mend, &long), 0);
        let many = (0..BATCH_MAX / 10).fold(bind(), |batch, _| batch.execute("p")).sync();
        assert_eq!(kept(&mut mend, &many), 0);
        assert!(kept(&mut mend, &(0..100).fold(bind(), |it, _| it.execute("p")).sync()) > KEPT_MAX);
        mend.rest();
        assert!(mend.sent.capacity() <= KEPT_MAX);
    }
}
