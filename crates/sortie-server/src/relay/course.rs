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

mod expect;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;

use self::expect::{Expect, Left};
use super::effect::{Effect, Effects, Reason};
use super::frames;
use super::ledger::{Here, Ledger, Need, Statement};
use crate::sql::SqlError;

/// What is expected by a session at rest is nothing; so much room for it is kept.
const KEPT_MAX: usize = 16;

/// What a session has under way on its connection.
#[derive(Debug)]
pub(crate) struct Course<P> {
    pub(crate) here: Here,
    expects: VecDeque<Expect<P>>,
    /// Messages of the extended protocol sent since the last marker, and answered since then.
    sent: u32,
    answered: u32,
    /// It is known which statements are prepared here.
    is_sure: bool,
    /// A message failed whose Sync has not been sent yet.
    skipping: bool,
    /// The batch that is being answered has failed.
    failed: bool,
    /// Portals whose execution leaves something.
    portals: Vec<(Bytes, Left)>,
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
            expects: VecDeque::new(),
            sent: 0,
            answered: 0,
            is_sure: true,
            skipping: false,
            failed: false,
            portals: Vec::new(),
            switched: Vec::new(),
            reported: false,
            soiled: Vec::new(),
        }
    }

    /// The session has a connection with this on it, to which `replayed` queries of its own go.
    pub(crate) fn begin(&mut self, here: Here, replayed: u32) {
        self.settle();
        self.is_sure = true;
        self.here = here;
        self.expects.extend((0..replayed).map(|_| Expect::replay()));
    }

    /// The session has the connection no more. Returns what is on it.
    pub(crate) fn end(&mut self) -> Here {
        self.settle();
        if self.expects.capacity() > KEPT_MAX {
            self.expects = VecDeque::new();
        }
        std::mem::take(&mut self.here)
    }

    /// Whether answers to what the session itself has sent ahead are awaited.
    pub(crate) fn is_replaying(&self) -> bool {
        self.expects.iter().find_map(Expect::is_replay).unwrap_or(false)
    }

    /// How many batches are not answered, whether the one in front has failed, and whether a
    /// batch has been begun behind them.
    pub(crate) fn outstanding(&self) -> (usize, bool, bool) {
        let asked = |expect: &&Expect<P>| expect.is_replay() == Some(false);
        let ready = self.expects.iter().filter(asked).count();
        let open = self.expects.back().is_some_and(|last| !last.is_ready());
        (ready, self.failed, open)
    }

    /// Whether the server skips what it gets up to the next Sync.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether nothing is awaited.
    pub(crate) fn is_clear(&self) -> bool {
        self.expects.is_empty() && !self.skipping
    }

    /// Everything has been answered, by the server's own count.
    pub(crate) fn settle(&mut self) {
        // Only a COPY can have left something: the server overlooks a Sync inside of it.
        self.expects.clear();
        (self.sent, self.answered) = (0, 0);
        self.skipping = false;
        self.failed = false;
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

    /// A whole frame goes out: appends it to `out`, with what must go ahead of it.
    pub(crate) fn send(
        &mut self,
        ledger: &mut Ledger<P>,
        frame: &[u8],
        status: Status,
        out: &mut BytesMut,
    ) {
        match frame[0] {
            b'S' => {
                self.skipping = false;
                self.expects.push_back(Expect::ready(None, None));
            }
            _ if self.skipping => {}
            b'P' => self.parse(ledger, frame, status, out),
            b'B' => self.bind(ledger, frame, out),
            b'E' => self.execute(ledger, frame, status),
            b'D' => {
                if let Some((b'S', name)) = frames::target(frame) {
                    self.ensure(ledger, name, out);
                }
            }
            b'C' => {
                let name = match frames::target(frame) {
                    Some((b'S', name)) => Some(Bytes::copy_from_slice(name)),
                    _ => None,
                };
                self.expects.push_back(Expect::Close { name, ours: false, before: None });
            }
            b'Q' => {
                let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |it| it.0);
                let effects = Effects::of(text);
                self.query(ledger, text, effects, status, out);
            }
            b'F' => {
                self.soil(ledger, Reason::FunctionCall);
                self.expects.push_back(Expect::ready(None, None));
            }
            _ => {}
        }
        if matches!(frame[0], b'P' | b'B') && !self.skipping && self.is_lasting_open() {
            self.lose_count(ledger);
        }
        match frame[0] {
            b'P' | b'B' | b'D' | b'E' | b'C' => self.sent += 1,
            b'S' | b'Q' | b'F' => self.sent = 0,
            _ => {}
        }
        out.extend_from_slice(frame);
    }

    /// A frame that is too long to be read goes out.
    pub(crate) fn send_unread(&mut self, ledger: &mut Ledger<P>, tag: u8) {
        if self.skipping {
            return;
        }
        if matches!(tag, b'P' | b'B') {
            self.sent += 1;
        }
        match tag {
            b'Q' | b'F' => {
                self.sent = 0;
                self.soil(ledger, Reason::Unreadable);
                self.expects.push_back(Expect::ready(None, None));
            }
            b'P' | b'B' => self.soil(ledger, Reason::Unreadable),
            _ => {}
        }
    }

    /// The Parse frame of the statement that a message about this name would mean.
    pub(crate) fn frame_of(&self, ledger: &Ledger<P>, name: &[u8]) -> Option<Bytes> {
        let pending = self.pending(name);
        pending.unwrap_or_else(|| ledger.known(name)).map(|statement| statement.frame.clone())
    }

    /// The statement that will have this name when all has been answered, or that there is none;
    /// `None` if nothing is under way about it.
    fn pending(&self, name: &[u8]) -> Option<Option<&Statement<P>>> {
        self.expects.iter().rev().find_map(|expect| expect.about(name))
    }

    /// A query goes out that must fail, so that its transaction does: the client is told why.
    pub(crate) fn fail(&mut self, error: SqlError, out: &mut BytesMut) {
        frames::query(out, b"sortie refuses the statement");
        self.expects.push_back(Expect::ready(None, Some(Box::new(error))));
    }

    /// As [`Course::fail`], within a batch of the extended protocol.
    pub(crate) fn fail_extended(&mut self, error: SqlError, out: &mut BytesMut) {
        if !self.skipping {
            frames::parse_failing(out);
            self.sent += 1;
            self.expects.push_back(Expect::Fail(Box::new(error)));
        }
    }

    /// A query's effects are known: it goes out.
    pub(crate) fn query(
        &mut self,
        ledger: &mut Ledger<P>,
        text: &[u8],
        effects: Effects,
        status: Status,
        out: &mut BytesMut,
    ) {
        let names = named(ledger, &effects);
        if !names.is_empty() {
            self.prepare_ahead(ledger, &names, out);
        }
        if let Some(reason) = effects.reason() {
            self.soil(ledger, reason);
        }
        // The server drops it before it looks at the text.
        self.here.forget(b"");
        ledger.forget(b"");
        let left = self.keep(ledger, &effects, text, status);
        self.expects.push_back(Expect::ready(left, None).controlling(effects.controls()));
    }

    /// Whether the batch that is being sent runs something that no rollback takes back.
    fn is_lasting_open(&self) -> bool {
        let open = self.expects.iter().rev().take_while(|expect| !expect.is_ready());
        open.into_iter()
            .any(|expect| matches!(expect, Expect::Ran { left, .. } if left.effects.is_lasting()))
    }

    fn parse(&mut self, ledger: &mut Ledger<P>, frame: &[u8], status: Status, out: &mut BytesMut) {
        let Some(parse) = frames::parse(frame) else { return };
        if !parse.name.is_empty() {
            // Of two mistakes the server tells the one in the text.
            if status != Status::Failed {
                self.ensure(ledger, parse.name, out);
            }
            let is_there = match self.pending(parse.name) {
                Some(pending) => pending.is_some(),
                None => self.here.has(parse.name),
            };
            if is_there && self.is_sure {
                return; // The server will say so.
            }
        }
        let statement = Box::new(Statement::of(frame, parse.text));
        let number = statement.number();
        self.expect_parse(parse.name, number, Some(statement));
    }

    fn bind(&mut self, ledger: &mut Ledger<P>, frame: &[u8], out: &mut BytesMut) {
        let Some((portal, name)) = frames::bind(frame) else { return };
        self.ensure(ledger, name, out);
        let pending = self.expects.iter().rev().find_map(|expect| expect.about(name));
        let known = pending.unwrap_or_else(|| ledger.known(name));
        self.portals.retain(|(known, _)| known != portal);
        let Some(statement) = known.filter(|statement| !statement.effects.left.is_empty()) else {
            return;
        };
        let (effects, text) = (statement.effects.clone(), Bytes::copy_from_slice(statement.text()));
        for name in named(ledger, &effects) {
            self.ensure(ledger, &name, out);
        }
        if let Some(reason) = effects.reason() {
            self.soil(ledger, reason);
            return;
        }
        let left = Left { effects, text, soiled: 0 };
        self.portals.push((Bytes::copy_from_slice(portal), left));
    }

    fn execute(&mut self, ledger: &mut Ledger<P>, frame: &[u8], status: Status) {
        if self.portals.is_empty() {
            return;
        }
        let Some((portal, _rows)) = frames::execute(frame) else { return };
        let Some((_, left)) = self.portals.iter().find(|(name, _)| name == portal) else { return };
        let (effects, text) = (left.effects.clone(), left.text.clone());
        if effects.controls() {
            let open = self.expects.iter().rev().take_while(|expect| !expect.is_ready());
            if open.into_iter().any(Expect::sets) {
                // It may be taken back.
                self.soil(ledger, Reason::SetInTransaction);
            }
            self.expects.push_back(Expect::Control);
        }
        if let Some(left) = self.keep(ledger, &effects, &text, status) {
            self.expects.push_back(Expect::Ran { left, index: self.sent });
        }
    }

    /// What is left when a statement that goes out now succeeds, if that can be told.
    fn keep(
        &mut self,
        ledger: &mut Ledger<P>,
        effects: &Effects,
        text: &[u8],
        status: Status,
    ) -> Option<Box<Left>> {
        if effects.left.is_empty() {
            return None;
        }
        let block = status != Status::Idle
            || effects.controls()
            || self.expects.iter().any(Expect::controls);
        if block && effects.sets() {
            // A rollback takes it back again.
            self.soil(ledger, Reason::SetInTransaction);
            return None;
        }
        let text = Bytes::copy_from_slice(text);
        Some(Box::new(Left { effects: effects.clone(), text, soiled: ledger.soiled() }))
    }

    /// What is prepared on the server, and what not, can't be told from its answers any more: the
    /// session keeps its connection, and nothing is put in between.
    fn lose_count(&mut self, ledger: &mut Ledger<P>) {
        self.soil(ledger, Reason::Unknown);
        self.is_sure = false;
    }

    fn soil(&mut self, ledger: &mut Ledger<P>, reason: Reason) {
        if ledger.soil(reason) {
            self.soiled.push(reason);
        }
    }

    /// Sees to it that the statement of this name is here, if the session has it.
    fn ensure(&mut self, ledger: &Ledger<P>, name: &[u8], out: &mut BytesMut) {
        let frame = match ledger.need(name, &self.here) {
            Need::Nothing => return,
            _ if !self.is_sure => return,
            _ if self.pending(name).is_some() => return,
            // It is to be gone by then.
            _ if self.expects.iter().any(|expect| expect.takes(name)) => return,
            Need::Parse(frame) => Some(frame),
            Need::Close(frame) => {
                frames::close(out, name);
                let before = self.here.number(name);
                let name = Some(Bytes::copy_from_slice(name));
                self.expects.push_back(Expect::Close { name, ours: true, before });
                self.sent += 1;
                frame
            }
        };
        self.here.forget(name);
        if let (Some(frame), Some(number)) = (frame, ledger.number(name)) {
            out.extend_from_slice(&frame);
            self.expect_parse(name, number, None);
            self.sent += 1;
        }
    }

    fn expect_parse(&mut self, name: &[u8], number: u64, statement: Option<Box<Statement<P>>>) {
        let before = self.here.prepare(name, number);
        let (name, index) = (Bytes::copy_from_slice(name), self.sent);
        self.expects.push_back(Expect::Parse { name, statement, index, before });
    }

    /// Prepares statements here, ahead of a query that may use them by their names.
    fn prepare_ahead(&mut self, ledger: &Ledger<P>, names: &[Bytes], out: &mut BytesMut) {
        let open = self.expects.back().is_some_and(|last| !last.is_ready());
        if open {
            return; // A failure would take the query with it.
        }
        let before = out.len();
        for name in names {
            self.ensure(ledger, name, out);
        }
        if out.len() > before {
            out.extend_from_slice(b"S\0\0\0\x04");
            self.expects.push_back(Expect::replay());
            self.sent = 0;
        }
    }

    /// A frame came in, or a piece of one; `ended` if it is the last piece. `status` is the one
    /// that a `ReadyForQuery` reports.
    pub(crate) fn hear(
        &mut self,
        ledger: &mut Ledger<P>,
        tag: u8,
        ended: bool,
        status: Option<Status>,
    ) -> Heard {
        let replaying = self.is_replaying();
        if ended && matches!(tag, b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b'I' | b's') {
            self.answered += 1;
        }
        let swallow = || if replaying { Heard::Swallow } else { Heard::Pass };
        match tag {
            b'1' | b'3' => self.hear_complete(ledger, tag, ended),
            b'E' => self.hear_error(ledger, ended, replaying),
            b'Z' if ended => {
                self.hear_ready(ledger, status);
                swallow()
            }
            b'S' => {
                self.reported |= !replaying;
                swallow()
            }
            // Somebody notifies: it is for the client whenever it comes.
            b'A' => Heard::Pass,
            _ => swallow(),
        }
    }

    fn hear_complete(&mut self, ledger: &mut Ledger<P>, tag: u8, ended: bool) -> Heard {
        let batch = self.expects.iter().take_while(|expect| !expect.is_ready());
        let at = batch.enumerate().find(|(_, expect)| expect.completes(tag)).map(|(at, _)| at);
        let Some(at) = at else { return Heard::Pass };
        if !ended {
            return if self.expects[at].is_ours() { Heard::Swallow } else { Heard::Pass };
        }
        match self.expects.remove(at) {
            Some(Expect::Parse { name, statement: Some(statement), .. }) => {
                if !ledger.prepared(&name, statement) {
                    self.soil(ledger, Reason::Bound);
                }
                Heard::Pass
            }
            Some(Expect::Close { name, ours: false, .. }) => {
                if let Some(name) = name {
                    ledger.forget(&name);
                    match self.expects.iter_mut().find_map(|expect| expect.before(&name)) {
                        // A new one is on its way, and was entered.
                        Some(before) => *before = None,
                        None => self.here.forget(&name),
                    }
                }
                Heard::Pass
            }
            _ => Heard::Swallow,
        }
    }

    fn hear_error(&mut self, ledger: &mut Ledger<P>, ended: bool, replaying: bool) -> Heard {
        if !ended {
            let instead = replaying || self.expects.front().is_some_and(Expect::is_replaced);
            return if instead { Heard::Swallow } else { Heard::Pass };
        }
        let mut heard = if replaying { Heard::Swallow } else { Heard::Pass };
        self.failed = true;
        let end = self.expects.iter().position(Expect::is_ready);
        let dropped: Vec<_> = self.expects.drain(..end.unwrap_or(self.expects.len())).collect();
        if let Some(Expect::Ready { instead, .. }) = self.expects.front_mut() {
            if let Some(error) = instead.take() {
                heard = Heard::Replace(error);
            }
        } else if self.sent > 0 {
            // What comes up to the Sync is skipped. Without a message nobody has asked for the
            // error: the server ends the session.
            self.skipping = true;
        }
        if let Some(error) = self.undo(ledger, dropped) {
            heard = Heard::Replace(error);
        }
        heard
    }

    /// Messages failed, or were skipped, whose answers were expected.
    fn undo(&mut self, ledger: &mut Ledger<P>, dropped: Vec<Expect<P>>) -> Option<Box<SqlError>> {
        let mut told = None;
        // The last one first, so that in the end everything is as it was.
        for (at, expect) in dropped.into_iter().enumerate().rev() {
            match expect {
                Expect::Parse { name, index, before, .. } => {
                    self.here.restore(&name, before);
                    if name.is_empty() && index == self.answered {
                        // The server drops the old one before it looks at the new one.
                        self.here.forget(&name);
                        ledger.forget(&name);
                    }
                }
                Expect::Fail(error) if at == 0 => {
                    self.here.forget(b"");
                    ledger.forget(b"");
                    told = Some(error);
                }
                Expect::Close { name: Some(name), ours: true, before } => {
                    self.here.restore(&name, before);
                }
                // It was done before the error, and no rollback takes it back.
                Expect::Ran { left, index } if index < self.answered => {
                    if left.effects.is_lasting() {
                        self.enter(ledger, &left);
                    }
                }
                _ => {}
            }
        }
        told
    }

    fn hear_ready(&mut self, ledger: &mut Ledger<P>, status: Option<Status>) {
        let failed = std::mem::take(&mut self.failed);
        self.answered = 0;
        while let Some(expect) = self.expects.pop_front() {
            let (left, last) = match expect {
                Expect::Ran { left, .. } => (Some(left), false),
                Expect::Ready { left, .. } => (left, true),
                _ => (None, false),
            };
            match left {
                Some(left) if !failed => self.enter(ledger, &left),
                Some(left) if left.effects.statements > 1 && left.effects.is_lasting() => {
                    self.lose_count(ledger);
                }
                _ => {}
            }
            if last {
                break;
            }
        }
        if status == Some(Status::Idle) {
            self.portals.clear();
        }
    }

    /// Enters in the ledger what a statement has left.
    fn enter(&mut self, ledger: &mut Ledger<P>, left: &Left) {
        for (effect, text) in left.effects.with_texts(&left.text) {
            match effect {
                Effect::Switch(name, value) => self.switched.push((name.clone(), value.clone())),
                Effect::DiscardAll => {
                    ledger.cleaned(left.soiled);
                    self.is_sure |= ledger.dirty().is_none();
                }
                _ => {}
            }
            if !ledger.left(effect, text, &mut self.here) {
                self.soil(ledger, Reason::Bound);
            }
        }
    }
}

/// The statements that a text may use by their names: those that it deallocates, or all of them
/// if nobody knows what it does.
fn named<P>(ledger: &Ledger<P>, effects: &Effects) -> Vec<Bytes> {
    if effects.reason().is_some() && ledger.dirty().is_none() {
        return ledger.names().cloned().collect();
    }
    let deallocated = effects.left.iter().filter_map(|effect| match effect {
        Effect::Deallocate(Some(name)) => Some(Bytes::copy_from_slice(name.as_bytes())),
        _ => None,
    });
    deallocated.collect()
}
