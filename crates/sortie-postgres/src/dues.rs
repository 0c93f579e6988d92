//! What a server still has to answer: how many `ReadyForQuery` are owed.
//!
//! Sans-IO: it is told every frame that goes out and every frame that comes in, and follows the
//! server's own rules: a Query ends in one `ReadyForQuery`, a Sync in one, an error in an extended
//! message skips everything up to the next Sync, and a Sync inside of COPY is overlooked.
//!
//! # Invariants
//!
//! 1. While [`Dues::is_sure`], `owed` is exact.
//! 2. Where the server's point of failure can't be known from outside (an error in mid-COPY with
//!    a Sync among the data), or it answers more than was asked, `is_sure` ends: such a connection
//!    is relayed to its client's end, and never used for anybody else.

use std::collections::VecDeque;

use crate::scan::Event;

/// Runs of marks that may be outstanding; a sender that goes beyond it never reads its answers.
pub(crate) const MARKS_MAX: usize = 256 * 1024;

/// Room for so many runs is kept when nothing is outstanding.
const MARKS_KEPT_MAX: usize = 1024;

/// What was sent and is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    /// So many messages of the extended protocol, each of which has one last frame as answer.
    Extended(u32),
    /// A Query or a `FunctionCall`.
    Query,
    Sync,
    /// So many `CopyData`, which have no answer.
    CopyData,
    /// A `CopyDone` or a `CopyFail`.
    CopyEnd,
}

/// The outstanding answers of one connection.
#[derive(Debug)]
pub(crate) struct Dues {
    marks: VecDeque<Mark>,
    owed: u32,
    /// An extended message failed and its Sync has not been sent yet.
    skipping: bool,
    /// The server awaits copy data, for the command at the front.
    copying: bool,
    sure: bool,
}

impl Dues {
    pub(crate) fn new() -> Self {
        Self { marks: VecDeque::new(), owed: 0, skipping: false, copying: false, sure: true }
    }

    /// How many `ReadyForQuery` have been asked for and have not come.
    pub(crate) fn owed(&self) -> u32 {
        self.owed
    }

    /// Whether nothing at all is outstanding, extended messages without a Sync included.
    pub(crate) fn is_clear(&self) -> bool {
        self.marks.is_empty() && !self.skipping && self.sure
    }

    /// Whether `owed` can be trusted.
    pub(crate) fn is_sure(&self) -> bool {
        self.sure
    }

    /// Whether the server awaits copy data.
    pub(crate) fn is_copying(&self) -> bool {
        self.copying
    }

    /// Whether no more may be sent until answers have come.
    pub(crate) fn is_full(&self) -> bool {
        self.marks.len() >= MARKS_MAX
    }

    /// A frame of this type goes out, with a body of this length.
    pub(crate) fn sent(&mut self, tag: u8, body: usize) {
        if self.skipping && tag != b'S' {
            return;
        }
        match tag {
            // A Flush has no answer, unless it has a body: then it fails as the others do.
            b'H' if body == 0 => {}
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => match self.marks.back_mut() {
                Some(Mark::Extended(count)) => *count = count.saturating_add(1),
                _ => self.marks.push_back(Mark::Extended(1)),
            },
            b'Q' | b'F' => {
                self.marks.push_back(Mark::Query);
                self.owed += 1;
            }
            b'S' => {
                self.skipping = false;
                self.marks.push_back(Mark::Sync);
                self.owed += 1;
            }
            // Only of interest behind a command that may turn out to be a COPY.
            b'd' if !self.marks.is_empty() && self.marks.back() != Some(&Mark::CopyData) => {
                self.marks.push_back(Mark::CopyData);
            }
            b'c' | b'f' if !self.marks.is_empty() => self.marks.push_back(Mark::CopyEnd),
            _ => {}
        }
    }

    /// Frames of this type ended.
    pub(crate) fn received(&mut self, event: &Event) {
        if event.ends() {
            self.came(event.tag);
        }
    }

    fn came(&mut self, tag: u8) {
        match tag {
            b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b'I' | b's' => self.answered(),
            b'G' => self.copying = true,
            b'W' => self.sure = false,
            b'E' => self.failed(),
            b'Z' => self.ready(),
            _ => {}
        }
    }

    /// The message at the front has got its last frame, if it is an extended one.
    fn answered(&mut self) {
        if !self.copying
            && let Some(Mark::Extended(count @ 2..)) = self.marks.front_mut()
        {
            *count -= 1;
            return;
        }
        if self.copying {
            self.copied();
        }
        self.skip_copy();
        if let Some(Mark::Extended(count)) = self.marks.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.marks.pop_front();
                self.skip_copy();
            }
        }
    }

    /// A COPY from the client succeeded: what came before its end was overlooked.
    fn copied(&mut self) {
        self.copying = false;
        while let Some(&mark) = self.marks.get(1) {
            if mark == Mark::Sync {
                self.owed -= 1;
            }
            if matches!(mark, Mark::Extended(_) | Mark::Query) {
                // The server would have ended the session.
                self.sure = false;
                break;
            }
            self.marks.remove(1);
            if mark == Mark::CopyEnd {
                break;
            }
        }
    }

    /// The command at the front failed.
    fn failed(&mut self) {
        let copying = std::mem::take(&mut self.copying);
        self.skip_copy();
        if copying {
            self.failed_copy();
        }
        if let Some(Mark::Extended(_)) = self.marks.front() {
            while let Some(&mark) = self.marks.front() {
                if mark == Mark::Sync {
                    return;
                }
                if mark == Mark::Query {
                    self.owed -= 1;
                }
                self.marks.pop_front();
            }
            self.skipping = true;
        }
    }

    /// A COPY from the client failed. A Sync ahead of all data was overlooked; one among the data
    /// may or may not have been.
    fn failed_copy(&mut self) {
        while self.marks.get(1) == Some(&Mark::Sync) && self.marks.get(2).is_some() {
            self.marks.remove(1);
            self.owed -= 1;
        }
        let data = self.marks.iter().skip(1).take_while(|mark| **mark != Mark::CopyEnd);
        if data.clone().any(|mark| *mark == Mark::Sync) {
            self.sure = false;
        }
    }

    fn ready(&mut self) {
        self.copying = false;
        while let Some(mark) = self.marks.pop_front() {
            if matches!(mark, Mark::Query | Mark::Sync) {
                self.owed -= 1;
                self.skip_copy();
                if self.marks.is_empty() && self.marks.capacity() > MARKS_KEPT_MAX {
                    self.marks = VecDeque::new();
                }
                return;
            }
            if matches!(mark, Mark::Extended(_)) {
                self.sure = false;
            }
        }
        self.sure = false;
    }

    /// Copy messages outside of a COPY are overlooked by the server.
    fn skip_copy(&mut self) {
        while let Some(Mark::CopyData | Mark::CopyEnd) = self.marks.front() {
            self.marks.pop_front();
        }
    }
}
