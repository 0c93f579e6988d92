//! Taking a server connection, giving it back, and losing it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use sortie_postgres::backend::{self, Severity, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use super::effect::{Control, Effects};
use super::failure::{self as server_failure, cancelled};
use super::frames;
use super::homes::is_apart;
use super::insight::{Foreseen, Noticed, Sighting};
use super::leased::Leased;
use super::roster::Work;
use super::session::{Session, Signals};
use super::shared::{PipeReason, Shared};
use super::stats::{Gauge, Lanes};
use crate::session::failure::{self, Failure};
use crate::sql::SqlError;

/// So many connections are taken one after the other because what others left on them can't be
/// cleaned; each is closed, so there are never that many of them in a sane pool.
pub(super) const UNCLEAN_MAX: u32 = 64;

/// Why a connection could not be made a session's own.
pub(super) enum Unready {
    /// What was left on it can't be taken away.
    Unclean(SqlError),
    /// What the session has set can't be set on it.
    Unset(SqlError),
    /// The client wants it no more: nothing that it has sent is to run.
    Cancelled,
}

/// The connection that a session holds.
pub(super) struct Held<'a> {
    pub(super) leased: Leased,
    pub(super) reason: PipeReason,
    /// A statement that would have been shared.
    pub(super) observed: Option<Sighting>,
    /// Its transaction, if it began as one that no server would have known of.
    pub(super) foreseen: Option<Foreseen>,
    /// A cancel that is on its way to the server: until its end nothing else may be sent.
    pub(super) cancelling: Option<Cancelling>,
    /// It is given back in good order, and says itself what is left on it.
    is_clean: bool,
    /// Nobody else may use it.
    pub(super) is_apart: bool,
    pub(super) _gauge: Gauge<'a>,
    /// Last, as what comes before it is still work.
    _work: Work,
}

impl<'a> Held<'a> {
    pub(super) fn new(
        (leased, work, is_apart): (Leased, Work, bool),
        reason: PipeReason,
        lanes: &'a Lanes,
    ) -> Self {
        Self {
            leased,
            reason,
            observed: None,
            foreseen: None,
            cancelling: None,
            is_clean: false,
            is_apart,
            _gauge: lanes.pinned(),
            _work: work,
        }
    }
}

pub(super) type Cancelling = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Takes a connection for what the client has sent, and begins to relay.
    pub(super) async fn pipe<D: Future<Output = ()>>(
        &mut self,
        reason: PipeReason,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        let shard = self.shard().unwrap_or(0);
        let is_elsewhere = |held: &Held<'_>| held.leased.place.shard != shard;
        if self.course.is_lacking() || self.held.as_ref().is_some_and(is_elsewhere) {
            self.release();
        }
        self.notice(reason);
        let sighting = self.sight();
        if self.rested.is_some() && self.goes_apart() {
            self.depart();
        }
        if self.held.is_none()
            && !self.resume(shard, reason)
            && !self.take(shard, reason, signals).await?
        {
            self.noticed = Noticed::default();
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            held.reason = reason;
            held.observed = sighting;
            held.foreseen = self.noticed.foreseen();
            self.seen.pipe(held.leased.place);
        }
        self.accept()?;
        let pumped = self.pump(signals).await;
        // It is of no statement that comes next.
        self.noticed = Noticed::default();
        pumped
    }

    /// Takes a connection. Returns whether there is one; the client knows if not.
    async fn take<D: Future<Output = ()>>(
        &mut self,
        shard: usize,
        reason: PipeReason,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<bool, Failure> {
        self.set_apart();
        let (cluster, login) = (Arc::clone(&self.cluster), Arc::clone(&self.account.login));
        let (prefer, at) = (self.last, (shard, self.account.target));
        let work = match self.admitted(signals).await? {
            Ok(work) => work,
            Err(error) => {
                self.fail_next(&error);
                return Ok(false);
            }
        };
        let since = self.meter.waits(false);
        let leased = loop {
            let mut seen = std::mem::take(&mut self.seen);
            let lease = cluster.lease_reached(at, &login, prefer, &mut seen);
            let leased = self.attend(lease, signals).await?;
            self.seen = seen;
            match leased {
                Ok(mut leased) if self.is_another_s(&leased) => leased.server.doom(),
                leased => break leased,
            }
        };
        self.meter.waited(since);
        match leased {
            Ok(leased) => {
                self.hold(leased, reason, work);
                Ok(true)
            }
            Err(error) => {
                self.fail_next(&error);
                Ok(false)
            }
        }
    }

    /// Whether only another session may use a connection.
    fn is_another_s(&self, leased: &Leased) -> bool {
        let residue = leased.server.residue();
        is_apart(residue) && !self.homes.is_own(leased.server.id(), residue)
    }

    /// The connection is lost: the client is told, as far as the server has not done so.
    ///
    /// A session that has nothing on its connection goes on with another one.
    pub(super) fn lose(&mut self, error: &io::Error) -> Result<(), Failure> {
        if let Some(why) = self.leaving.take() {
            return Err(why);
        }
        self.lanes.lost();
        self.out.clear();
        let cut = self.is_within_a_frame();
        let Some(held) = self.held.take() else { return Ok(()) };
        self.meter.answered(true);
        let (ready, failed, open) = self.course.outstanding();
        let is_told = !self.course.is_replaying() && !self.course.mend.has_failed();
        let told = failed && is_told;
        let server = &held.leased.server;
        let stateful = server.status() != Status::Idle || self.ledger.dirty().is_some();
        if !self.course.is_unset() {
            self.forget_cancel();
        }
        self.course.end();
        let unready = self.unready.take();
        self.unsend();
        if cut {
            // Whatever is said now would be the rest of the frame that has begun.
            return Err(Failure::Gone);
        }
        if stateful {
            // As PostgreSQL does: the client knows from the connection's end that it ended.
            let lost = || Failure::Fatal(server_failure::lost(error));
            return Err(if told { Failure::Gone } else { lost() });
        }
        if let Some(why) = unready {
            // The server has said so first. Nothing of the client's was under way.
            self.pass_over(why);
            return Ok(());
        }
        let mut told = told;
        for _ in 0..ready {
            if !std::mem::take(&mut told) {
                self.inner.stats.error();
                let error = server_failure::lost(error);
                failure::say(&mut self.client.output, Severity::Error, &error);
            }
            self.ready();
        }
        if open || self.passing > 0 {
            if !told {
                let error = server_failure::lost(error);
                failure::say(&mut self.client.output, Severity::Error, &error);
            }
            self.skipping = true;
        }
        Ok(())
    }

    /// Why the connection can't be made the session's own, once nothing of that is under way.
    pub(super) fn take_unready(&mut self) -> Option<Unready> {
        let is_over = match self.unready.as_ref()? {
            Unready::Unclean(_) => true,
            Unready::Unset(_) | Unready::Cancelled => !self.course.is_unset(),
        };
        self.unready.take_if(|_| is_over)
    }

    /// The connection can't be made the session's own; nothing that the client has sent ran.
    ///
    /// What others left is no business of the client's: another connection is taken for what it
    /// has sent. What itself has set is: the client is told so instead of an answer, unless it
    /// asks for nothing but to do without.
    pub(super) fn forsake(&mut self, why: Unready) {
        match why {
            Unready::Unclean(_) => {
                self.out.clear();
                if let Some(mut held) = self.held.take() {
                    held.leased.server.doom();
                }
                self.course.end();
                self.pass_over(why);
            }
            Unready::Unset(_) | Unready::Cancelled => {
                let is_wanted = matches!(why, Unready::Unset(_));
                if let Some(len) = self.cure().filter(|_| is_wanted) {
                    self.pass_cure(len);
                } else {
                    // Whoever has it next takes away what could be set.
                    self.release();
                    self.pass_over(why);
                }
            }
        }
    }

    /// Goes on without the connection that could not be made the session's own.
    fn pass_over(&mut self, why: Unready) {
        match why {
            Unready::Unclean(error) if self.unclean < UNCLEAN_MAX => {
                tracing::debug!(%error, "what was left on a connection can't be cleaned");
                self.unclean += 1;
            }
            Unready::Unclean(error) | Unready::Unset(error) => {
                self.unclean = 0;
                self.fail_next(&error);
            }
            Unready::Cancelled => {
                self.lanes.cancelled();
                self.key.settle();
                self.fail_next(&cancelled());
            }
        }
    }

    /// How long the batch in front is, if all it does is to change what could not be set here, or
    /// to end a transaction where there is none.
    fn cure(&self) -> Option<usize> {
        let (effects, len) = self.front()?;
        (self.course.is_cure(&effects) || ends_transaction(&effects)).then_some(len)
    }

    /// Passes on the batch in front, so long, and nothing behind it.
    fn pass_cure(&mut self, len: usize) {
        // What it changes is told by the server itself.
        self.compare(&[]);
        let behind = self.client.input.len() - len;
        while self.client.input.len() > behind
            && let Ok(Some(head)) = frames::head(&self.client.input)
            && self.forward(head)
        {}
        self.follow();
    }

    /// Fails the batch that the client has sent, of which nothing has been passed on.
    fn fail_next(&mut self, error: &SqlError) {
        let simple = matches!(self.client.input.first(), Some(b'Q' | b'F'));
        if simple {
            // Skipped like a batch, whose end it is.
            let len = frames::head(&self.client.input).ok().flatten().map_or(0, |it| it.len);
            let passed = len.min(self.client.input.len());
            self.client.input.advance(passed);
            self.passing = len - passed;
        }
        self.fail(error, simple);
    }

    /// Makes a connection the session's own.
    pub(super) fn hold(&mut self, leased: Leased, reason: PipeReason, work: Work) {
        self.meter.has(leased.server.cancel_key().process());
        let id = leased.server.id();
        let found = self.homes.arrive(id, leased.server.residue());
        let (here, replay) = self.ledger.arrive(found, &mut self.out);
        if replay.queries > 0 {
            self.lanes.replayed(replay.queries);
        }
        self.course.begin(here, replay);
        let had = Some((leased.place, Some(id)));
        let is_other = std::mem::replace(&mut self.last, had) != had;
        let taken = (leased, work, self.course.here.is_apart);
        self.held = Some(Held::new(taken, reason, self.lanes));
        if is_other && replay.queries == 0 {
            self.compare(&[]);
        }
    }

    /// Tells the client of parameters that are not, on this server, what it knows; except of
    /// those that the server itself tells it.
    pub(super) fn compare(&mut self, told: &[Bytes]) {
        let Some(held) = &self.held else { return };
        let there = held.leased.server.parameters();
        if *there == *self.known {
            return;
        }
        for (name, value) in there.iter().filter(|(name, _)| !told.contains(name)) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let name = text(name);
            if self.known.value(&name) != Some(value) {
                backend::parameter_status(&mut self.client.output, &name, &text(value));
            }
        }
        self.known = Arc::new(there.clone());
    }

    /// Whether everything is answered, and the session needs no connection.
    pub(super) fn is_at_rest(&self) -> bool {
        let Some(held) = &self.held else { return true };
        held.leased.server.is_idle()
            && self.out.is_empty()
            && self.passing == 0
            && self.course.is_clear()
            && held.cancelling.is_none()
            && self.ledger.dirty().is_none()
    }

    /// Whether the last that the client has got is the beginning of a frame.
    pub(super) fn is_within_a_frame(&self) -> bool {
        let is_between = |held: &Held<'_>| held.leased.server.is_between_received();
        !(self.course.mend.is_within() || self.held.as_ref().is_none_or(is_between))
    }

    /// Gives the connection back, if the session has one and needs it no more.
    pub(super) fn release(&mut self) {
        if !self.is_at_rest() {
            return;
        }
        let Some(mut held) = self.held.take() else { return };
        let server = &mut held.leased.server;
        let (id, before) = (server.id(), server.residue());
        let residue = self.homes.mark(self.course.here.flags(), before);
        server.set_residue(residue);
        held.is_clean = true;
        self.rested = held.leased.rest(self.account.target);
        if self.rested.is_some() {
            self.course.rest();
        } else {
            self.homes.keep(id, residue, self.course.end());
        }
    }
}

/// Whether a text is an end of a transaction, and nothing else.
fn ends_transaction(effects: &Effects) -> bool {
    matches!(effects.control(), Some(Control::Commit | Control::Rollback))
}

/// However a session ends: what it left on its connection is cleaned before anybody else has it.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.cancelling.is_some() || (self.is_apart && !self.is_clean) {
            // It may still hit, or can't be cleaned.
            self.leased.server.doom();
        } else if !self.is_clean {
            self.leased.server.soil();
        }
    }
}
