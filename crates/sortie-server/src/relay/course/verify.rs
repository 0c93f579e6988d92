//! Statements whose clients were told of their columns, on another connection: before one is bound
//! here, the server is asked whether it gives the same ones.
//!
//! On the connection on which it was prepared PostgreSQL sees to that itself.

use bytes::{Bytes, BytesMut};

use super::Course;
use super::expect::Expect;
use crate::relay::frames;
use crate::relay::ledger::{Ledger, Need};

/// Whether a frame may go out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verified {
    /// Nothing stands against it.
    Ready,
    /// The server has been asked for the columns of its statement.
    Waits,
    /// Its statement has other columns than its client was told of.
    Changed,
}

/// The number of no statement: what has the name here is not to be used.
const NOBODY: u64 = 0;

impl<P> Course<P> {
    /// A frame is about to go out. If it is the Bind of a statement of whose columns the client was
    /// told elsewhere, appends what prepares it here and asks for those that it has.
    pub(crate) fn verify(
        &mut self,
        ledger: &Ledger<P>,
        frame: &[u8],
        out: &mut BytesMut,
    ) -> Verified {
        if frame[0] != b'B' || self.skipping || !self.is_sure {
            return Verified::Ready;
        }
        let Some((_, name)) = frames::bind(frame) else { return Verified::Ready };
        if self.expects.iter().any(|expect| expect.verifies().is_some_and(|it| it == name)) {
            return Verified::Waits;
        }
        if self.changed.take_if(|changed| *changed == name).is_some() {
            // Whoever asks next is asked for anew.
            self.here.prepare(name, NOBODY);
            return Verified::Changed;
        }
        let is_told = ledger.known(name).is_some_and(|statement| statement.told.is_some());
        if !is_told
            || self.pending(name).is_some()
            || ledger.need(name, &self.here) == Need::Nothing
        {
            return Verified::Ready;
        }
        self.oust(frame, out);
        self.ensure(ledger, name, out);
        if self.here.number(name) != ledger.number(name) {
            return Verified::Ready;
        }
        frames::describe(out, name);
        let (name, index) = (Bytes::copy_from_slice(name), self.sent);
        self.expects.push_back(Expect::Verify { name, index });
        self.sent += 1;
        self.unsynced = true;
        out.extend_from_slice(b"H\0\0\0\x04");
        Verified::Waits
    }

    /// The statement whose columns the server tells now, because the session itself has asked.
    pub(crate) fn verifying(&self) -> Option<&Bytes> {
        let mut batch = self.expects.iter().take_while(|expect| !expect.is_ready());
        batch.find_map(|expect| match expect {
            Expect::Verify { name, index } if *index == self.answered => Some(name),
            _ => None,
        })
    }

    /// They are not those that its client was told of.
    pub(crate) fn has_changed(&mut self, name: Bytes) {
        self.changed = Some(name);
    }

    /// The server has told them, or has begun to (`ended` is false).
    pub(super) fn hear_columns(&mut self, tag: u8, ended: bool) {
        if ended && tag != b't' {
            let answered = self.answered;
            self.expects.retain(|expect| match expect {
                Expect::Verify { index, .. } => *index != answered,
                _ => true,
            });
            self.answered += 1;
        }
    }
}
