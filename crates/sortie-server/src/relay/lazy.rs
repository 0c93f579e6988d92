//! Transactions that no server knows of yet.
//!
//! Drivers with autocommit off send `BEGIN` ahead of every read. In a transaction of the level
//! `READ COMMITTED` each statement has a snapshot of its own: as long as only statements come that
//! may be shared, nobody can tell whether a server has begun it. So sortie says `BEGIN` itself, and
//! goes on sharing; the first statement that needs a server finds the transaction begun there (and
//! failed there, if a shared statement has failed), and from then on the pipe has it to its end.
//!
//! # Invariants
//!
//! 1. While a session has a lazy transaction, every `ReadyForQuery` that it is told has the
//!    transaction's status; a failed one is ended by the client, or goes to a server.
//! 2. Nothing of the client's is sent to a server before its transaction has begun there.
//! 3. A session that is dirty, bound to one shard, or has switched sharing off has none: what can't
//!    be shared would gain nothing.
//!
//! # Limits
//!
//! The time that `now()` says, and that a server's timeouts of transactions count from, is that of
//! the first statement which needs a server. Who waits within a lazy transaction holds nothing.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::decide;
use super::effect::{Control, Effects};
use super::local::{Dials, Own};
use super::session::Session;
use super::shared::{PipeReason, Shared};
use super::switches::Switches;
use super::{failure, frames};
use crate::config::Mode;
use crate::sql::SqlError;

/// A transaction that was begun here.
#[derive(Debug)]
pub(super) struct Lazy {
    /// The text that began it.
    begin: Bytes,
    has_failed: bool,
    /// Something was read, or prepared: what must come before any query comes too late.
    has_read: bool,
    /// It is being begun on the server that the session holds.
    is_sent: bool,
    /// Why the server would not.
    refused: Option<SqlError>,
    /// The unnamed portal that would be there: it lives as long as the transaction.
    portal: Option<Portal>,
    /// The session's switches as they were when it began.
    before: Switches,
    /// Those that were set for it alone.
    local: Switches,
}

/// A portal that nobody knows of, and that has run to its end.
#[derive(Debug)]
enum Portal {
    /// Of the statement that began the transaction.
    Begin,
    /// Of a read: its Bind.
    Read(Bytes),
}

/// A Bind of the unnamed portal to the unnamed statement, without values.
const BIND: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";

/// An Execute of the unnamed portal, and a Sync.
const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// What the client is told of its transaction when nothing is under way.
    pub(super) fn status(&self) -> Status {
        match &self.lazy {
            None => Status::Idle,
            Some(lazy) if lazy.has_failed => Status::Failed,
            Some(_) => Status::Transaction,
        }
    }

    /// Whether the session's transaction has failed, and no server knows.
    pub(super) fn has_failed(&self) -> bool {
        self.lazy.as_ref().is_some_and(|lazy| lazy.has_failed)
    }

    /// Something has failed that no server has seen.
    pub(super) fn fail_lazy(&mut self) {
        if let Some(lazy) = &mut self.lazy {
            lazy.has_failed = true;
        }
    }

    /// Does what a statement asks of the session's transaction, if that needs no server.
    /// `portal` tells that it has one, as the extended protocol has it.
    pub(super) fn control(&mut self, effects: &Effects, text: &[u8], portal: bool) -> Option<Own> {
        let tag = match (effects.control()?, self.lazy.is_some()) {
            (Control::Begin(tag), false) if self.may_begin(text) => {
                let begin = Bytes::copy_from_slice(text);
                self.lazy = Some(Lazy {
                    begin,
                    has_failed: false,
                    has_read: false,
                    is_sent: false,
                    refused: None,
                    portal: portal.then_some(Portal::Begin),
                    before: self.switches,
                    local: Switches::default(),
                });
                tag
            }
            (end @ (Control::Commit | Control::Rollback), true) => {
                let is_kept = end == Control::Commit && !self.has_failed();
                if let Some(lazy) = self.lazy.take().filter(|_| !is_kept) {
                    self.switches = lazy.before;
                }
                self.lanes.transacted(false);
                self.meter.transacted();
                if is_kept { "COMMIT" } else { "ROLLBACK" }
            }
            _ => return None,
        };
        Some(Own::Done(tag))
    }

    /// What holds for a statement with this hint.
    pub(super) fn switches(&self, hint: Switches) -> Switches {
        let local = self.lazy.as_ref().map_or_else(Switches::default, |lazy| lazy.local);
        hint.or(local).or(self.switches).or(self.account.defaults)
    }

    /// The session's switches, to be set and shown, and where answers go.
    pub(super) fn dials(&mut self) -> (Dials<'_>, &mut BytesMut) {
        let dials = Dials {
            session: &mut self.switches,
            local: self.lazy.as_mut().map(|lazy| &mut lazy.local),
            defaults: self.account.defaults,
            shards: self.cluster.shards(),
        };
        (dials, &mut self.client.output)
    }

    /// Whether a transaction may be begun here.
    fn may_begin(&mut self, text: &[u8]) -> bool {
        if !self.is_sharing(Switches::hint(text)) {
            return false;
        }
        let Some(who) = self.who() else { return false };
        self.release();
        self.held.is_none() && self.world.lane.reads_committed(&who)
    }

    /// A batch of an idle session that is about more than one statement: where the first of them
    /// begins a transaction, as some drivers send it, it is answered, and what follows is looked
    /// at for itself. Returns whether that is so.
    pub(super) fn begin_ahead(&mut self, reason: PipeReason) -> bool {
        if reason != PipeReason::Shape
            || self.lazy.is_some()
            || !self.is_sharing(Switches::default())
        {
            return false;
        }
        let Some(single) = decide::ahead(&self.client.input) else { return false };
        let Some((name, new)) = self.subject(&single) else { return false };
        let Some(statement) = new.as_deref().or_else(|| self.ledger.known(&name)) else {
            return false;
        };
        let (effects, text) = (statement.effects.clone(), statement.text().to_owned());
        if !matches!(effects.control(), Some(Control::Begin(_))) {
            return false;
        }
        let Some(own) = self.control(&effects, &text, !single.closes) else { return false };
        self.answer_single(&own, &single, &name, new);
        true
    }

    /// Whether a statement with this hint may be shared, and not only counted as one that might.
    fn is_sharing(&self, hint: Switches) -> bool {
        self.cluster.mode(self.account.mode) != Mode::Observe && self.may_share(hint).is_ok()
    }

    /// The connection is the session's own: begins its transaction there. Returns whether that was
    /// still to be done.
    pub(super) fn begin_there(&mut self) -> bool {
        let Some(lazy) = self.lazy.as_mut().filter(|lazy| !lazy.is_sent) else { return false };
        lazy.is_sent = true;
        let portal = lazy.portal.take();
        let portal = portal.filter(|_| !lazy.has_failed && asks_portal(&self.client.input));
        if matches!(portal, Some(Portal::Begin)) {
            frames::parse_unnamed(&mut self.out, &lazy.begin);
            self.out.extend_from_slice(BIND);
            self.out.extend_from_slice(EXECUTE);
            self.course.expect_unnamed();
            return true;
        }
        frames::query(&mut self.out, &lazy.begin);
        self.course.expect_query();
        if lazy.has_failed {
            frames::query(&mut self.out, b"sortie refuses the statement");
            self.course.expect_query();
        } else if lazy.has_read {
            // A transaction in which nothing was read could still be given another level.
            frames::query(&mut self.out, b"SELECT");
            self.course.expect_query();
        }
        if let Some(Portal::Read(bind)) = portal {
            if let Some((_, name)) = frames::bind(&bind) {
                self.course.ensure_own(&self.ledger, name, &mut self.out);
            }
            self.out.extend_from_slice(&bind);
            self.out.extend_from_slice(EXECUTE);
            self.course.expect_own();
        }
        true
    }

    /// A read was answered within the transaction: its portal is there, if it has one.
    pub(super) fn keep_portal(&mut self, bind: Option<Range<usize>>) {
        if let Some(lazy) = &mut self.lazy {
            let copied = |bind| Portal::Read(Bytes::copy_from_slice(&self.client.input[bind]));
            lazy.portal = bind.map(copied);
            lazy.has_read = true;
        }
    }

    /// A statement was prepared within the transaction, if there is one.
    pub(super) fn prepared_lazily(&mut self) {
        if let Some(lazy) = &mut self.lazy {
            lazy.has_read = true;
        }
    }

    /// Whether the transaction is being begun on the server that the session holds.
    pub(super) fn is_beginning(&self) -> bool {
        self.lazy.as_ref().is_some_and(|lazy| lazy.is_sent && !lazy.has_failed)
    }

    /// The server has said an error while it is.
    pub(super) fn hear_refused(&mut self, error: SqlError) {
        if let Some(lazy) = &mut self.lazy {
            lazy.refused = Some(error);
        }
    }

    /// The server has said its status behind something of the session's own. Returns what the
    /// client is told if its transaction is not there.
    pub(super) fn hear_begun(&mut self, status: Status) -> Option<SqlError> {
        if self.course.is_replaying() {
            return None;
        }
        let lazy = self.lazy.take_if(|lazy| lazy.is_sent)?;
        let wanted = if lazy.has_failed { Status::Failed } else { Status::Transaction };
        if status == wanted {
            self.lanes.transacted(true);
            return None;
        }
        let error = lazy.refused.unwrap_or_else(|| failure::unbegun(b""));
        self.lazy = Some(Lazy { is_sent: false, refused: None, ..lazy });
        Some(error)
    }

    /// The connection is gone on which the transaction was to be begun.
    pub(super) fn unsend(&mut self) {
        if let Some(lazy) = &mut self.lazy {
            lazy.is_sent = false;
        }
    }
}

/// Whether what comes next may be about the unnamed portal that is there, and not about another
/// one.
fn asks_portal(input: &[u8]) -> bool {
    let mut rest = input;
    while let Ok(Some(head)) = frames::head(rest)
        && let Some(frame) = rest.get(..head.len)
    {
        let named = match head.tag {
            b'Q' => {
                let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |it| it.0);
                if Effects::of(text).statements > 0 {
                    return false;
                }
                None
            }
            b'B' if frames::bind(frame).is_some_and(|(portal, _)| portal.is_empty()) => {
                return false;
            }
            b'E' => frames::execute(frame).map(|(portal, _)| portal),
            b'D' | b'C' => frames::target(frame).filter(|it| it.0 == b'P').map(|it| it.1),
            _ => None,
        };
        if named.is_some_and(<[u8]>::is_empty) {
            return true;
        }
        rest = &rest[head.len..];
    }
    true
}
