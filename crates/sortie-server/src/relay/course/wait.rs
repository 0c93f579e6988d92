//! Client frames that can't go out yet.

use sortie_postgres::backend::Status;

use super::Course;
use super::expect::Expect;
use crate::relay::frames;
use crate::relay::ledger::{Ledger, Need};

impl<P> Course<P> {
    /// Whether this frame must wait for what is under way: it depends on what becomes of a name
    /// there, or of a transaction, and that batch may fail without this one. `begin` is how the
    /// frame begins.
    ///
    /// What it waits for has been asked for to its end, and needs nothing more from the client.
    pub(crate) fn must_wait(&self, ledger: &Ledger<P>, begin: &[u8], status: Status) -> bool {
        if self.expects.is_empty() || self.skipping || !self.is_sure {
            return false;
        }
        let body = &begin[frames::HEADER_LEN..];
        let name = match begin[0] {
            b'P' => frames::text(body).map(|(name, _)| name).filter(|name| !name.is_empty()),
            b'B' => frames::bind(begin).map(|(_, name)| name),
            b'D' => frames::target(begin).filter(|(kind, _)| *kind == b'S').map(|it| it.1),
            b'Q' => None,
            _ => return false,
        };
        (self.named > 0 && (self.is_lasting_open() || self.depends(name)))
            || self.may_be_refused(ledger, name, status)
    }

    /// Whether a batch that was sent before this one decides what a name means, or whether
    /// something is here that was sent ahead in it.
    fn depends(&self, name: Option<&[u8]>) -> bool {
        let about = |expect: &Expect<P>, name| expect.about(name).is_some() || expect.takes(name);
        let mut is_earlier = false;
        for expect in self.expects.iter().rev() {
            is_earlier |= expect.is_ready();
            if name.is_some_and(|name| about(expect, name)) {
                // If something of this batch fails, this is skipped with it.
                return is_earlier;
            }
            if is_earlier && (expect.is_ours() || (name.is_none() && expect.is_named())) {
                return true;
            }
        }
        false
    }

    /// Whether something may have to be sent ahead that a transaction refuses should it have
    /// failed.
    fn may_be_refused(&self, ledger: &Ledger<P>, name: Option<&[u8]>, status: Status) -> bool {
        let missing = || match name {
            Some(name) => ledger.need(name, &self.here) != Need::Nothing,
            None => !self.is_whole && ledger.names().next().is_some(),
        };
        let block = status != Status::Idle || self.expects.iter().any(Expect::controls);
        block && self.expects.iter().any(Expect::is_ready) && missing()
    }
}
