//! What was sent on the connection that a session holds, and what its answers mean for the ledger.
//!
//! Client frames go by on their way out ([`Course::send`]), server frames on their way back
//! ([`Course::hear`]). Nothing is changed in either direction, but for what is put in between: a
//! statement that the session prepared on another connection is prepared here in front of the
//! message that needs it, and the answer to that is kept from the client.
//!
//! # Invariants
//!
//! 1. What is expected is in the order in which the server answers. A marker ends each batch: the
//!    server's `ReadyForQuery`.
//! 2. Nothing is entered in the ledger before the server has confirmed it; but a session is dirty
//!    from the moment at which the message goes out that may make it so.
//! 3. After an error everything up to the next marker is skipped, here as on the server.
//! 4. What a message depends on is known when it goes out: it waits for a batch that is on its way
//!    and may still fail ([`Course::must_wait`]).
//! 5. A marker ends only what was sent before it, however much the client has sent behind.

mod ahead;
mod expect;
mod hear;
mod portals;
mod send;
#[cfg(test)]
mod tests;
mod verify;
mod wait;

use std::collections::VecDeque;

use bytes::Bytes;

use self::expect::Expect;
use self::portals::Portals;
pub(crate) use self::verify::{NOBODY, Verified};
use super::customs::Customs;
use super::effect::{Effects, Reason};
use super::ledger::{Here, Ledger, Replay};
use super::mend::Mend;
use crate::sql::SqlError;

/// What is expected by a session at rest is nothing; so much room for it is kept.
const KEPT_MAX: usize = 16;

/// What a session has under way on its connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Course<P> {
    pub(crate) here: Here,
    /// What may have to be sent again.
    pub(super) mend: Mend,
    expects: VecDeque<Expect<P>>,
    /// How many of them decide what a name means.
    named: u32,
    /// Messages of the extended protocol sent since the last marker, and answered since then.
    sent: u32,
    answered: u32,
    /// Statements that have succeeded since then.
    completed: usize,
    /// Messages of the extended protocol were sent since the last Sync: if one of them fails,
    /// everything up to the next Sync is skipped, Queries included.
    unsynced: bool,
    /// It is known which statements are prepared here.
    is_sure: bool,
    /// All statements of the session are prepared here.
    is_whole: bool,
    /// Queries that make the connection the session's own, and are not answered.
    settings: u32,
    /// What strangers left here is being taken away.
    is_cleaning: bool,
    /// Something may be left here that can't be taken away.
    is_spoiled: bool,
    /// Custom parameters that the session may ever have set.
    pub(super) customs: Customs,
    /// Those that others may have set here before.
    pub(super) apart: Customs,
    /// A message failed whose Sync has not been sent yet.
    skipping: bool,
    /// The batch that is being answered has failed.
    failed: bool,
    /// A statement that gives other columns here than its client was told of.
    changed: Option<Bytes>,
    /// Portals whose execution leaves something.
    portals: Portals,
    /// Switches of sortie's own that were set, for the session to follow.
    switched: Vec<(Box<str>, Option<Box<str>>)>,
    /// The client was told of a parameter's new value.
    reported: bool,
    /// Reasons why the session became dirty, to be counted.
    soiled: Vec<Reason>,
}

/// What becomes of a frame, or of a piece of one, that the server sent.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is the client's.
    Pass,
    /// It answers something that the client does not know of.
    Swallow,
    /// The client is told this instead.
    Replace(Box<SqlError>),
}

impl<P> Course<P> {
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        Self {
            here: Here::default(),
            mend: Mend::default(),
            expects: VecDeque::new(),
            named: 0,
            sent: 0,
            answered: 0,
            completed: 0,
            unsynced: false,
            is_sure: true,
            is_whole: false,
            settings: 0,
            is_cleaning: false,
            is_spoiled: false,
            customs: Customs::default(),
            apart: Customs::default(),
            skipping: false,
            failed: false,
            changed: None,
            portals: Portals::default(),
            switched: Vec::new(),
            reported: false,
            soiled: Vec::new(),
        }
    }

    /// The session has a connection with this on it, to which these queries of its own go.
    pub(crate) fn begin(&mut self, here: Here, replay: Replay) {
        self.settle();
        (self.is_sure, self.is_whole, self.is_cleaning) = (true, false, replay.cleans);
        (self.is_spoiled, self.settings) = (false, replay.queries);
        self.here = here;
        // Some of them are set again, perhaps.
        self.customize(self.customs);
        self.expects.extend((0..replay.queries).map(|_| Expect::replay()));
    }

    /// A Query of the session's own has gone out ahead of the client's: it takes the unnamed
    /// statement away.
    pub(crate) fn expect_query(&mut self) {
        self.here.forget(b"");
        let _is_gone = self.here.take_strange();
        self.expect_own();
    }

    /// Something of the session's own has gone out, that ends like this.
    pub(crate) fn expect_own(&mut self) {
        self.expects.push_back(Expect::replay());
    }

    /// As [`Course::expect_own`], and something that is nobody's has the empty name now.
    pub(crate) fn expect_unnamed(&mut self) {
        self.here.estrange();
        self.expect_own();
    }

    /// The session has the connection no more. Returns what is on it.
    pub(crate) fn end(&mut self) -> Here {
        self.rest();
        std::mem::take(&mut self.here)
    }

    /// Whether the connection is not as its session wants it yet.
    pub(crate) fn is_unset(&self) -> bool {
        self.settings > 0
    }

    /// What the session has set could not be set here. Returns the parameter's name.
    pub(crate) fn miss<'l>(&mut self, ledger: &'l Ledger<P>) -> Option<&'l str> {
        ledger.missed(&mut self.here, usize::try_from(self.settings).ok()?)
    }

    /// Whether what the session has set could not be set here: nothing of the client's may go on
    /// but what changes that.
    pub(crate) fn is_lacking(&self) -> bool {
        self.here.is_lacking()
    }

    /// Whether statements that leave this do nothing but to set what is lacking, or to make it
    /// needless.
    pub(crate) fn is_cure(&self, effects: &Effects) -> bool {
        !effects.left.is_empty()
            && effects.left.len() == effects.statements
            && effects.left.iter().all(|effect| self.here.is_supplied_by(effect))
    }

    /// Whether answers to what the session itself has sent ahead are awaited.
    pub(crate) fn is_replaying(&self) -> bool {
        self.expects.iter().find_map(Expect::is_replay).unwrap_or(false)
    }

    /// Whether something may have been left on the connection that no cleaning takes away: nobody
    /// else may have it.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// Whether the answer that is awaited first says whether what was left on the connection is
    /// gone.
    pub(crate) fn is_cleaning(&self) -> bool {
        self.is_cleaning
    }

    /// How many batches are not answered, whether the one in front has failed, and whether a
    /// batch has been begun behind them.
    pub(crate) fn outstanding(&self) -> (usize, bool, bool) {
        let asked = |expect: &&Expect<P>| expect.is_replay() == Some(false);
        let ready = self.expects.iter().filter(asked).count();
        let open = self.sent > 0 || self.expects.back().is_some_and(|last| !last.is_ready());
        (ready, self.failed, open)
    }

    /// Whether the server skips what it gets up to the next Sync.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether nothing is under way: neither is anything awaited, nor a batch open.
    pub(crate) fn is_clear(&self) -> bool {
        // What a batch has begun, its Sync ends: a Flush does not.
        self.is_answered() && self.sent == 0
    }

    /// Whether nothing at all is under way that a batch may have to do with.
    pub(super) fn is_open(&self) -> bool {
        self.is_clear()
            && self.is_sure
            && !self.unsynced
            && self.portals.is_empty()
            && !self.here.is_lacking()
            && !self.here.is_strange()
    }

    /// A batch goes out that leaves nothing.
    pub(super) fn send_plain(&mut self) {
        self.expects.push_back(Expect::ready(None, None));
    }

    /// Whether nothing is expected but the end of one batch of the client's that leaves nothing.
    pub(super) fn is_end_expected(&self) -> bool {
        self.settings == 0
            && self.expects.len() == 1
            && self.expects.front().is_some_and(Expect::is_plain)
    }

    /// So much of it was answered.
    pub(super) fn answer_plain(&mut self, answered: u32, completed: usize) {
        self.answered += answered;
        self.completed += completed;
    }

    /// It was answered.
    pub(super) fn end_plain(&mut self, is_idle: bool) {
        self.expects.clear();
        (self.answered, self.completed) = (0, 0);
        (self.failed, self.is_cleaning) = (false, false);
        self.portals.ready(is_idle);
        self.unsynced &= !self.is_clear();
    }

    /// The session has the connection again on which everything is as it left it.
    pub(super) fn resume(&mut self) {
        self.settle();
        (self.is_sure, self.is_whole, self.is_cleaning) = (true, false, false);
        (self.is_spoiled, self.settings) = (false, 0);
    }

    /// The session gives the connection back, and may have it again.
    pub(super) fn rest(&mut self) {
        self.settle();
        self.mend.rest();
        if self.expects.capacity() > KEPT_MAX {
            self.expects = VecDeque::new();
        }
    }

    /// Whether the client's batch is in front, and nothing of it is answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.answered == 0 && self.settings == 0 && !self.failed && !self.is_replaying()
    }

    /// Whether nothing is awaited.
    pub(crate) fn is_answered(&self) -> bool {
        self.expects.is_empty() && !self.skipping
    }

    /// Whether an answer is awaited, and not only the end of a batch whose messages are answered: a
    /// Flush has that said before.
    pub(super) fn is_owed(&self) -> bool {
        let waits = |expect: &Expect<P>| matches!(expect, Expect::Ran { .. } | Expect::Control);
        self.skipping || self.expects.iter().any(|expect| !waits(expect))
    }

    /// Everything has been answered, by the server's own count.
    pub(crate) fn settle(&mut self) {
        // Only a COPY can have left something: the server overlooks a Sync inside of it.
        if !self.expects.is_empty() {
            self.expects.clear();
        }
        (self.named, self.sent, self.answered) = (0, 0, 0);
        self.completed = 0;
        self.skipping = false;
        self.unsynced = false;
        self.failed = false;
        self.changed = None;
        self.portals.clear();
    }

    /// Switches that were set on the server, too.
    pub(crate) fn take_switched(&mut self) -> Vec<(Box<str>, Option<Box<str>>)> {
        std::mem::take(&mut self.switched)
    }

    /// Whether the client was told of a parameter since this was asked last.
    pub(crate) fn take_reported(&mut self) -> bool {
        std::mem::take(&mut self.reported)
    }

    /// Why the session became dirty since this was asked last.
    pub(crate) fn take_soiled(&mut self) -> Vec<Reason> {
        std::mem::take(&mut self.soiled)
    }
}
