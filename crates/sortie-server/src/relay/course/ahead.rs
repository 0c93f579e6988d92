//! What goes out ahead of a client's frame: the session's statements, prepared here too.

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;

use super::Course;
use super::expect::Expect;
use crate::relay::frames;
use crate::relay::ledger::{Ledger, Need, Statement};

impl<P> Course<P> {
    /// As [`Course::ensure`], ahead of something of the session's own.
    pub(crate) fn ensure_own(&mut self, ledger: &Ledger<P>, name: &[u8], out: &mut BytesMut) {
        self.ensure(ledger, name, out);
        self.sent = 0;
    }

    /// Sees to it that the statement of this name is here, if the session has it.
    pub(super) fn ensure(&mut self, ledger: &Ledger<P>, name: &[u8], out: &mut BytesMut) {
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
                self.expect_close(name, before);
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

    pub(super) fn expect_close(&mut self, name: &[u8], before: Option<u64>) {
        let name = Some(Bytes::copy_from_slice(name));
        self.expects.push_back(Expect::Close { name, ours: true, before });
        self.named += 1;
        self.sent += 1;
    }

    pub(super) fn expect_parse(
        &mut self,
        name: &[u8],
        number: u64,
        statement: Option<Box<Statement<P>>>,
    ) {
        self.here.touch(name);
        let before = self.here.prepare(name, number);
        let (name, index) = (Bytes::copy_from_slice(name), self.sent);
        self.named += 1;
        self.expects.push_back(Expect::Parse { name, statement, index, before });
    }

    /// Sees to it that all statements of the session are here, before something goes out that may
    /// use any of them; in a batch of their own before a Query.
    pub(super) fn ensure_all(
        &mut self,
        ledger: &Ledger<P>,
        before_query: bool,
        status: Status,
        out: &mut BytesMut,
    ) {
        if self.is_whole || status == Status::Failed {
            return;
        }
        let names: Vec<Bytes> = ledger.names().cloned().collect();
        if before_query {
            self.prepare_ahead(ledger, &names, out);
        } else {
            for name in &names {
                self.ensure(ledger, name, out);
            }
        }
        self.is_whole = true;
    }

    /// Prepares statements here, ahead of a query that may use them by their names.
    pub(super) fn prepare_ahead(
        &mut self,
        ledger: &Ledger<P>,
        names: &[Bytes],
        out: &mut BytesMut,
    ) {
        // A Sync would end what the client has begun.
        let open = self.unsynced || self.sent > 0;
        let before = out.len();
        for name in names {
            self.ensure(ledger, name, out);
        }
        if out.len() > before && !open {
            out.extend_from_slice(b"S\0\0\0\x04");
            self.expects.push_back(Expect::replay());
            self.sent = 0;
        }
    }
}
