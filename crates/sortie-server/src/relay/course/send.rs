//! Client frames on their way out.

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;

use super::Course;
use super::expect::{Expect, Left, Pending};
use crate::relay::effect::{Effect, Effects, Reason};
use crate::relay::frames;
use crate::relay::ledger::{Ledger, Statement};
use crate::sql::SqlError;

impl<P> Course<P> {
    /// A whole frame goes out: appends it to `out`, with what must go ahead of it.
    pub(crate) fn send(
        &mut self,
        ledger: &mut Ledger<P>,
        frame: &[u8],
        status: Status,
        out: &mut BytesMut,
    ) {
        if frame[0] == b'P'
            && let Some((name, _)) = frames::text(&frame[frames::HEADER_LEN..])
        {
            self.here.touch(name);
        }
        self.oust(frame, out);
        match frame[0] {
            b'S' => {
                self.skipping = false;
                self.expects.push_back(Expect::ready(None, None));
            }
            _ if self.skipping => {}
            b'P' => self.parse(ledger, frame, status, out),
            b'B' => self.bind(ledger, frame, status, out),
            b'E' => self.execute(ledger, frame, status),
            b'D' => {
                if let Some((b'S', name)) = frames::target(frame) {
                    self.ensure(ledger, name, out);
                    let (name, index) = (Bytes::copy_from_slice(name), self.sent);
                    self.expects.push_back(Expect::Describe { name, index });
                }
            }
            b'C' => {
                let name = match frames::target(frame) {
                    Some((b'S', name)) => Some(Bytes::copy_from_slice(name)),
                    _ => None,
                };
                self.named += 1;
                self.expects.push_back(Expect::Close { name, ours: false, before: None });
            }
            b'Q' => {
                let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |it| it.0);
                let effects = Effects::of(text);
                self.query(ledger, text, &effects, status, out);
            }
            b'F' => {
                self.soil(ledger, Reason::FunctionCall);
                self.expects.push_back(Expect::ready(None, None).behind(self.sent));
            }
            _ => {}
        }
        match frame[0] {
            b'P' | b'B' | b'D' | b'E' | b'C' => self.sent += 1,
            b'S' | b'Q' | b'F' => self.sent = 0,
            _ => {}
        }
        self.unsynced = frame[0] != b'S' && (self.unsynced || self.sent > 0);
        out.extend_from_slice(frame);
        if frame[0] == b'E' && self.is_lasting_open() {
            // What comes next in the batch waits to know.
            out.extend_from_slice(b"H\0\0\0\x04");
        }
    }

    /// A frame that is too long to be read is about to go out: appends to `out` what must go
    /// ahead of it. `begin` is how it begins, with the first name in it.
    pub(crate) fn send_unread(
        &mut self,
        ledger: &mut Ledger<P>,
        begin: &[u8],
        status: Status,
        out: &mut BytesMut,
    ) {
        let tag = begin[0];
        if self.skipping || !matches!(tag, b'P' | b'B' | b'Q' | b'F') {
            return;
        }
        self.oust(begin, out);
        // It may use any of them.
        self.ensure_all(ledger, matches!(tag, b'Q' | b'F'), status, out);
        self.soil(ledger, Reason::Unreadable);
        let name = frames::text(&begin[frames::HEADER_LEN..]).map(|(name, _)| name);
        match (tag, name) {
            (b'P', Some(name)) => {
                self.here.touch(name);
                self.parse_as(name, Statement::unread);
            }
            (b'B', Some(portal)) => self.portals.forget(portal),
            (b'P' | b'B', None) => self.lose_count(ledger),
            _ => {
                if tag == b'Q' {
                    self.drop_unnamed();
                }
                self.expects.push_back(Expect::ready(None, None).behind(self.sent));
                self.sent = 0;
                return;
            }
        }
        self.sent += 1;
        self.unsynced = true;
    }

    /// Sees to it that nobody finds the unnamed statement of a stranger: before the first frame
    /// that is not sure to take it away by itself.
    pub(super) fn oust(&mut self, frame: &[u8], out: &mut BytesMut) {
        if !matches!(frame[0], b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F')
            || !self.here.take_strange()
        {
            return;
        }
        let takes = match frame[0] {
            b'Q' => true,
            b'P' => frames::parse(frame).is_some_and(|it| it.name.is_empty() && it.is_whole()),
            _ => false,
        };
        if !takes {
            frames::close(out, b"");
            self.expect_close(b"", None);
        }
    }

    /// The Parse frame of the statement that a message about this name would mean.
    pub(crate) fn frame_of(&self, ledger: &Ledger<P>, name: &[u8]) -> Option<Bytes> {
        let pending = self.pending(name);
        let known = pending.map_or_else(|| ledger.known(name), Pending::statement);
        known.map(|statement| statement.frame.clone())
    }

    /// What is under way about this name, if anything is.
    pub(super) fn pending(&self, name: &[u8]) -> Option<Pending<'_, P>> {
        self.expects.iter().rev().find_map(|expect| expect.about(name))
    }

    /// A query goes out that must fail, so that its transaction does: the client is told why.
    pub(crate) fn fail(&mut self, error: SqlError, out: &mut BytesMut) {
        frames::query(out, b"sortie refuses the statement");
        self.drop_unnamed();
        let ready = Expect::ready(None, Some(Box::new(error)));
        self.expects.push_back(ready.behind(self.sent));
        self.sent = 0;
    }

    /// As [`Course::fail`], within a batch of the extended protocol.
    pub(crate) fn fail_extended(&mut self, error: SqlError, out: &mut BytesMut) {
        if !self.skipping {
            frames::parse_failing(out);
            self.expects.push_back(Expect::Fail { error: Box::new(error), index: self.sent });
            self.sent += 1;
            self.unsynced = true;
        }
    }

    /// A query's effects are known: it goes out.
    fn query(
        &mut self,
        ledger: &mut Ledger<P>,
        text: &[u8],
        effects: &Effects,
        status: Status,
        out: &mut BytesMut,
    ) {
        if effects.may_use_statements() {
            self.ensure_all(ledger, true, status, out);
        } else if status != Status::Failed {
            self.prepare_ahead(ledger, &deallocated(effects), out);
        }
        self.soil_by(ledger, effects);
        self.customize(effects.customs);
        self.drop_unnamed();
        let left = self.keep(ledger, effects, text, status);
        let ready = Expect::ready(left, None).controlling(effects.controls()).behind(self.sent);
        self.named += u32::from(ready.is_named());
        self.expects.push_back(ready);
    }

    /// A Query goes out: the server drops the unnamed statement before it looks at the text.
    fn drop_unnamed(&mut self) {
        let before = self.here.number(b"");
        self.here.forget(b"");
        let is_unsure = self.unsynced;
        self.named += u32::from(is_unsure);
        self.expects.push_back(Expect::Query { before, is_unsure });
    }

    /// Whether the batch that is being sent runs something that no rollback takes back.
    pub(super) fn is_lasting_open(&self) -> bool {
        if self.named == 0 {
            return false;
        }
        let open = self.expects.iter().rev().take_while(|expect| !expect.is_ready());
        open.into_iter()
            .any(|expect| matches!(expect, Expect::Ran { left, .. } if left.effects.is_lasting()))
    }

    fn parse(&mut self, ledger: &mut Ledger<P>, frame: &[u8], status: Status, out: &mut BytesMut) {
        let Some(parse) = frames::parse(frame) else { return };
        // Of two mistakes the server tells the one in the text.
        if !parse.name.is_empty() && status != Status::Failed {
            self.ensure(ledger, parse.name, out);
        }
        let statement = Statement::of(frame, parse.text);
        // Not when it runs: that may go by unseen.
        self.customize(statement.effects.customs);
        self.parse_as(parse.name, || statement);
    }

    /// A Parse of this name goes out.
    fn parse_as(&mut self, name: &[u8], statement: impl FnOnce() -> Statement<P>) {
        let statement = Box::new(statement());
        let number = statement.number();
        self.expect_parse(name, number, Some(statement));
    }

    fn bind(&mut self, ledger: &mut Ledger<P>, frame: &[u8], status: Status, out: &mut BytesMut) {
        let Some((portal, name)) = frames::bind(frame) else { return };
        self.ensure(ledger, name, out);
        let pending = self.expects.iter().rev().find_map(|expect| expect.about(name));
        let known = pending.map_or_else(|| ledger.known(name), Pending::statement);
        self.portals.forget(portal);
        let Some(statement) = known.filter(|statement| !statement.effects.left.is_empty()) else {
            return;
        };
        let (effects, text) = (statement.effects.clone(), Bytes::copy_from_slice(statement.text()));
        if effects.reason().is_some() {
            // One that can't be prepared any more would fail what names none of them.
            if effects.may_use_statements() {
                self.ensure_all(ledger, false, status, out);
            }
            self.soil_by(ledger, &effects);
            return;
        }
        for name in deallocated(&effects) {
            self.ensure(ledger, &name, out);
        }
        let left = Left { effects, text, soiled: 0 };
        let ahead = self.expects.iter().filter(|expect| expect.is_ready()).count();
        self.portals.bind(portal, left, ahead);
    }

    fn execute(&mut self, ledger: &mut Ledger<P>, frame: &[u8], status: Status) {
        if self.portals.is_empty() {
            return;
        }
        let Some((portal, _rows)) = frames::execute(frame) else { return };
        let Some(left) = self.portals.left(portal) else { return };
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
            let ran = Expect::Ran { left, index: self.sent };
            self.named += u32::from(ran.is_named());
            self.expects.push_back(ran);
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
    pub(crate) fn lose_count(&mut self, ledger: &mut Ledger<P>) {
        self.soil(ledger, Reason::Unknown);
        self.is_sure = false;
    }

    /// The session is dirty from now on, if that is what is left.
    fn soil_by(&mut self, ledger: &mut Ledger<P>, effects: &Effects) {
        self.is_spoiled |= effects.outlast_discard();
        if let Some(reason) = effects.reason() {
            self.soil(ledger, reason);
        }
    }

    /// The session is dirty from now on, for this reason.
    pub(crate) fn soil(&mut self, ledger: &mut Ledger<P>, reason: Reason) {
        self.is_spoiled |= reason.outlasts_discard();
        if ledger.soil(reason) {
            self.soiled.push(reason);
        }
    }
}

/// The statements that a text deallocates by their names.
fn deallocated(effects: &Effects) -> Vec<Bytes> {
    let deallocated = effects.left.iter().filter_map(|effect| match effect {
        Effect::Deallocate(Some(name)) => Some(Bytes::copy_from_slice(name.as_bytes())),
        _ => None,
    });
    deallocated.collect()
}
