//! Server frames on their way back.

use bytes::Bytes;
use sortie_postgres::backend::Status;

use super::expect::{Expect, Left};
use super::{Course, Heard};
use crate::relay::effect::{Effect, Reason};
use crate::relay::ledger::Ledger;
use crate::sql::SqlError;

impl<P> Course<P> {
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
        if matches!(tag, b't' | b'T' | b'n') && self.verifying().is_some() {
            self.hear_columns(tag, ended);
            return Heard::Swallow;
        }
        if ended && matches!(tag, b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b'I' | b's') {
            self.answered += 1;
        }
        let swallow = || if replaying { Heard::Swallow } else { Heard::Pass };
        match tag {
            b'1' | b'3' => match self.hear_complete(ledger, tag, ended) {
                Heard::Pass => swallow(),
                heard => heard,
            },
            b'C' if ended => {
                let first = self.expects.iter().find(|expect| expect.is_ready());
                // Of a Query, and not of a message that it was sent behind.
                self.completed += usize::from(first.is_some_and(|it| !it.is_behind(self.answered)));
                self.hear_ran(ledger);
                swallow()
            }
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

    /// The statement that the client has asked about, if what comes now says what it gives.
    pub(crate) fn take_described(&mut self) -> Option<Bytes> {
        let mut batch = self.expects.iter().take_while(|expect| !expect.is_ready());
        let at = batch.position(|expect| match expect {
            Expect::Describe { index, .. } => *index == self.answered,
            _ => false,
        })?;
        match self.expects.remove(at) {
            Some(Expect::Describe { name, .. }) => Some(name),
            _ => None,
        }
    }

    fn hear_complete(&mut self, ledger: &mut Ledger<P>, tag: u8, ended: bool) -> Heard {
        let batch = self.expects.iter().take_while(|expect| !expect.is_ready());
        let at = batch.enumerate().find(|(_, expect)| expect.completes(tag)).map(|(at, _)| at);
        let Some(at) = at else { return Heard::Pass };
        if !ended {
            return if self.expects[at].is_ours() { Heard::Swallow } else { Heard::Pass };
        }
        self.named -= 1;
        match self.expects.remove(at) {
            Some(Expect::Parse { name, statement: Some(statement), .. }) => {
                if !ledger.prepared(&name, statement) {
                    self.soil(ledger, Reason::Bound);
                    if ledger.number(&name).is_none() {
                        // Nobody knows what it leaves when it runs.
                        self.is_spoiled = true;
                        self.restore(&name, None);
                    }
                }
                Heard::Pass
            }
            Some(Expect::Close { name, ours: false, .. }) => {
                if let Some(name) = name {
                    ledger.forget(&name);
                    self.restore(&name, None);
                }
                Heard::Pass
            }
            _ => Heard::Swallow,
        }
    }

    /// A statement succeeded: what no rollback takes back is so from now on.
    fn hear_ran(&mut self, ledger: &mut Ledger<P>) {
        let mut batch = self.expects.iter().take_while(|expect| !expect.is_ready());
        let ran = batch.position(|expect| expect.is_lasting(self.answered));
        if let Some(Expect::Ran { left, .. }) = ran.and_then(|at| self.expects.remove(at)) {
            self.named -= 1;
            self.enter(ledger, &left);
        }
    }

    fn hear_error(&mut self, ledger: &mut Ledger<P>, ended: bool, replaying: bool) -> Heard {
        if !ended {
            let mut batch = self.expects.iter().take_while(|expect| !expect.is_ready());
            let begins = |expect: &&Expect<P>| matches!(expect, Expect::Query { .. });
            let instead = batch.any(|expect| expect.fails(self.answered))
                || self.expects.iter().find(|it| !begins(it)).is_some_and(Expect::is_replaced);
            return if instead || replaying { Heard::Swallow } else { Heard::Pass };
        }
        let mut heard = if replaying { Heard::Swallow } else { Heard::Pass };
        self.failed = true;
        // A Query that was sent behind the failed message is skipped with it.
        let first = self.expects.iter().find(|expect| expect.is_ready());
        let skips = first.is_some_and(|ready| ready.is_skipped(self.answered));
        let ends = |expect: &Expect<P>| match expect {
            Expect::Ready { behind, .. } => !skips || behind.is_none(),
            _ => false,
        };
        let end = self.expects.iter().position(ends);
        let dropped: Vec<_> = self.expects.drain(..end.unwrap_or(self.expects.len())).collect();
        self.portals.skip(dropped.iter().filter(|expect| expect.is_ready()).count());
        if let Some(Expect::Ready { instead, .. }) = self.expects.front_mut() {
            if let Some(error) = instead.take() {
                heard = Heard::Replace(error);
            }
        } else if self.sent > 0 || skips {
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
        let (mut told, mut ends) = (None, false);
        // What stands behind a Query that is skipped with it was skipped, too.
        let skipped_at = dropped.iter().position(Expect::is_ready).unwrap_or(dropped.len());
        // The last one first, so that in the end everything is as it was.
        for (at, expect) in dropped.into_iter().enumerate().rev() {
            let answered = (at < skipped_at).then_some(self.answered);
            let skipped = std::mem::replace(&mut ends, expect.is_ready());
            self.named -= u32::from(expect.is_named());
            self.is_whole &= !expect.is_ours();
            match expect {
                Expect::Query { before, .. } if skipped => self.restore(b"", before),
                Expect::Query { .. } => ledger.forget(b""),
                Expect::Parse { name, index, before, .. } => {
                    // The server drops an old one without a name before it looks at the new one.
                    let dropped = name.is_empty() && Some(index) == answered;
                    self.restore(&name, before.filter(|_| !dropped));
                    if dropped {
                        ledger.forget(&name);
                    }
                }
                Expect::Fail { error, index } if Some(index) == answered => {
                    self.restore(b"", None);
                    ledger.forget(b"");
                    told = Some(error);
                }
                Expect::Close { name: Some(name), ours: true, before } => {
                    self.restore(&name, before);
                }
                // It was done before the error, and no rollback takes it back.
                Expect::Ran { left, index }
                    if Some(index) < answered && left.effects.is_lasting() =>
                {
                    self.enter(ledger, &left);
                }
                _ => {}
            }
        }
        told
    }

    /// A name means what it meant before something that was dropped, or nothing any more. What
    /// was sent later about it was entered already.
    fn restore(&mut self, name: &[u8], before: Option<u64>) {
        match self.expects.iter_mut().find_map(|expect| expect.before(name)) {
            Some(later) => *later = before,
            None => self.here.restore(name, before),
        }
    }

    fn hear_ready(&mut self, ledger: &mut Ledger<P>, status: Option<Status>) {
        let failed = std::mem::take(&mut self.failed);
        self.answered = 0;
        self.is_cleaning = false;
        self.settings = self.settings.saturating_sub(1);
        while let Some(expect) = self.expects.pop_front() {
            self.named -= u32::from(expect.is_named());
            let (left, last) = match expect {
                Expect::Query { .. } => {
                    ledger.forget(b"");
                    (None, false)
                }
                Expect::Ran { left, .. } => (Some(left), false),
                Expect::Ready { left, .. } => (left, true),
                _ => (None, false),
            };
            match left {
                Some(left) if !failed => self.enter(ledger, &left),
                Some(left) if left.effects.is_lasting() => {
                    // What had been done before the error, and no rollback takes back.
                    let Left { effects, text, soiled } = *left;
                    let effects = effects.lasting(self.completed);
                    self.enter(ledger, &Left { effects, text, soiled });
                }
                _ => {}
            }
            if last {
                break;
            }
        }
        self.completed = 0;
        self.portals.ready(status == Some(Status::Idle));
        // A Query behind what succeeded ends it as a Sync does.
        self.unsynced &= !self.is_clear();
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
            let gone: Vec<_> = match effect {
                Effect::DiscardAll | Effect::Deallocate(None) => {
                    self.here.names().filter(|name| !name.is_empty()).cloned().collect()
                }
                Effect::Deallocate(Some(name)) => vec![Bytes::copy_from_slice(name.as_bytes())],
                _ => Vec::new(),
            };
            for name in gone {
                self.restore(&name, None);
            }
            if !ledger.left(effect, text, &mut self.here) {
                self.soil(ledger, Reason::Bound);
            }
        }
    }
}
