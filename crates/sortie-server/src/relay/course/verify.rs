//! Statements whose clients were told of their columns, on another connection: before one is bound
//! here, the server is asked whether it gives the same ones.
//!
//! On the connection on which it was prepared PostgreSQL sees to that itself.

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;

use super::Course;
use super::expect::Expect;
use crate::relay::ledger::{Ledger, Need, Statement};
use crate::relay::{describe, frames};
use crate::sql::{SqlError, Token, lex};

/// Whether a frame may go out.
#[derive(Debug)]
pub(crate) enum Verified {
    /// Nothing stands against it.
    Ready,
    /// The server has been asked for the columns of its statement; or what stands behind it is not
    /// there yet.
    Waits,
    /// The client is told this instead.
    Fails(Box<SqlError>),
}

/// The number of no statement: what has the name here is not to be used.
pub(crate) const NOBODY: u64 = 0;

impl<P> Course<P> {
    /// A frame is about to go out. If it is the Bind of a statement of whose columns the client was
    /// told elsewhere, appends what prepares it here and asks for those that it has; unless
    /// the client asks for them itself (`tells`; `None` if that is not known yet).
    pub(crate) fn verify(
        &mut self,
        ledger: &Ledger<P>,
        frame: &[u8],
        (status, tells): (Status, Option<bool>),
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
            return Verified::Fails(Box::new(describe::changed()));
        }
        if self.pending(name).is_some() || ledger.need(name, &self.here) == Need::Nothing {
            return Verified::Ready;
        }
        let Some(statement) = ledger.known(name) else { return Verified::Ready };
        if status == Status::Failed {
            // It can't be prepared here any more, and a server that has it counts its values first.
            let error = misbound(statement, name, frame);
            return error.map_or(Verified::Ready, |error| Verified::Fails(Box::new(error)));
        }
        if statement.told.is_none() || tells == Some(true) {
            return Verified::Ready;
        }
        if tells.is_none() {
            return Verified::Waits;
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

/// What a server says that has the statement, if a Bind has another number of values than that
/// takes: as many as it has types, and at least as many as its text names.
fn misbound<P>(statement: &Statement<P>, name: &[u8], frame: &[u8]) -> Option<SqlError> {
    let given = frames::values(frame)?;
    let lexemes = lex(str::from_utf8(statement.text()).ok()?).ok()?;
    let named = lexemes.iter().filter_map(|lexeme| match lexeme.token {
        Token::Param(number) => usize::try_from(number).ok(),
        _ => None,
    });
    let wanted = named.max().unwrap_or(0).max(statement.oids().len());
    (given != wanted).then(|| SqlError::misbound(name, wanted, given))
}
