//! What a session sends while it has a server, and would have none, were statements shared.
//!
//! Where statements are only observed, each batch is looked at on its way to the server, as it
//! would be if those before it had been answered here: in a transaction by the rules of
//! [lazy ones](crate::relay::lazy), until the first one comes that would have needed a server.
//!
//! # Invariants
//!
//! 1. Nothing is answered here, and nothing is sent otherwise than it came; a batch only goes out
//!    when the whole of it is there, as outside of transactions.
//! 2. What can't be told needs a server: less is said to be spared than would be.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::relay::decide::{self, Batch, Single};
use crate::relay::effect::Control;
use crate::relay::frames;
use crate::relay::insight::Noticed;
use crate::relay::session::Session;
use crate::relay::shared::{PipeReason, Shared};
use crate::relay::switches::Switches;
use sortie_postgres::backend::Status;

/// What is known of what a client sends next, while its session has a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::relay) enum Foreseen {
    /// It has no transaction, and none of what it has sent would have needed a server; so many
    /// bytes in front have been looked at.
    Outside(usize),
    /// As [`Outside`](Self::Outside), within a transaction that no server would know of.
    Unbegun(usize),
    /// Its transaction began as one that no server would have known of, and one would by now.
    Begun,
}

impl Foreseen {
    /// What is known behind a batch that would have been piped for this reason, and is so long;
    /// `within` a transaction that no server would have known of, or outside of any.
    pub(super) fn behind(reason: PipeReason, len: usize, within: bool) -> Option<Self> {
        match reason {
            PipeReason::Observe | PipeReason::Spared => {
                Some(Self::looked(len, within == (reason == PipeReason::Observe)))
            }
            _ if within => Some(Self::Begun),
            _ => None,
        }
    }

    fn looked(len: usize, within: bool) -> Self {
        if within { Self::Unbegun(len) } else { Self::Outside(len) }
    }
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// A Close in front of all else, of an idle session: whether it is of a statement that would
    /// be on no server.
    pub(in crate::relay) fn observe_close(&mut self) -> bool {
        if self.client.input.first() != Some(&b'C') || !self.observes() {
            return false;
        }
        let len = self.close_ahead();
        self.noticed = Noticed::only(len.map(Foreseen::Outside));
        len.is_some()
    }

    /// Why a batch of an idle session takes the pipe that is about more than one statement, and
    /// would for this reason: the first of them may begin a transaction.
    pub(in crate::relay) fn observe_ahead(&mut self, reason: PipeReason) -> PipeReason {
        if reason != PipeReason::Shape
            || !self.observes()
            || self.may_share(Switches::default()).is_err()
        {
            return reason;
        }
        let Some(single) = decide::ahead(&self.client.input) else { return reason };
        let Some((name, new)) = self.subject(&single) else { return reason };
        let statement = new.as_deref().or_else(|| self.ledger.known(&name));
        let control = statement.and_then(|statement| statement.effects.control());
        if !matches!(control, Some(Control::Begin(_)))
            || self.observe_single(&single) != Some(PipeReason::Spared)
        {
            self.noticed = Noticed::default();
            return reason;
        }
        PipeReason::Spared
    }

    /// So many bytes have gone out.
    pub(in crate::relay) fn pass_foreseen(&mut self, len: usize) {
        if let Some(held) = &mut self.held
            && let Some(Foreseen::Outside(looked) | Foreseen::Unbegun(looked)) = &mut held.foreseen
        {
            *looked = looked.saturating_sub(len);
        }
    }

    /// Looks at what comes next, if nothing that came before would have needed a server. Returns
    /// whether it can go out already.
    pub(in crate::relay) fn foresee(&mut self) -> bool {
        let Some(held) = &self.held else { return true };
        let within = match held.foreseen {
            Some(Foreseen::Unbegun(0)) => true,
            Some(Foreseen::Outside(0)) => false,
            _ => return true,
        };
        if self.client.input.is_empty() {
            return true;
        }
        let has_failed = within && held.leased.server.status() == Status::Failed;
        if has_failed || !self.observes() {
            return self.set_foreseen(within.then_some(Foreseen::Begun));
        }
        if let Some(len) = self.close_ahead() {
            return self.set_foreseen(Some(Foreseen::looked(len, within)));
        }
        match decide::batch(&self.client.input) {
            Batch::Partial { wanted } => {
                self.client.room_for(wanted);
                false
            }
            Batch::Terminate | Batch::Lost(_) => true,
            Batch::Sync(len) | Batch::Flush(len) => {
                self.set_foreseen(Some(Foreseen::looked(len, within)))
            }
            Batch::Simple(range) => {
                let reason = self.regard_simple(range.end, within);
                self.go_on(reason, (range.end, true), within)
            }
            Batch::Single(single) => {
                let reason = self.regard_here(&single, within);
                self.go_on(reason, (single.len, single.executes > 0), within)
            }
            Batch::Other(reason) => {
                let reason = if within { reason } else { self.observe_ahead(reason) };
                match self.noticed.foreseen() {
                    Some(Foreseen::Unbegun(len)) => self.go_on(Some(reason), (len, true), within),
                    _ => self.go_on(Some(reason), (0, true), within),
                }
            }
        }
    }

    /// The length of the Close in front, of a statement that would be on no server, if it is one.
    fn close_ahead(&self) -> Option<usize> {
        let input = &self.client.input;
        let head = frames::head(input).ok().flatten().filter(|head| head.tag == b'C')?;
        let (_, name) = frames::target(input.get(..head.len)?).filter(|it| it.0 == b'S')?;
        let (_, glance) = self.ledger.known(name)?.glance.as_ref()?;
        (glance.cause.reason == PipeReason::Observe).then_some(head.len)
    }

    fn regard_here(&mut self, single: &Single, within: bool) -> Option<PipeReason> {
        if self.subject(single).is_none() {
            return Some(PipeReason::Shape);
        }
        match self.regard_single(single, within) {
            // Nobody else has the snapshot of which the rest would be.
            Some(PipeReason::Observe) if within && single.leaves_rest() => {
                self.noticed = Noticed::default();
                Some(PipeReason::Portions)
            }
            reason => reason,
        }
    }

    /// The batch in front, so long, goes on its way: for this reason it would have needed a server,
    /// or not. `runs` tells that it is counted.
    fn go_on(
        &mut self,
        reason: Option<PipeReason>,
        (len, runs): (usize, bool),
        within: bool,
    ) -> bool {
        // About switches: those are set there, too.
        let Some(reason) = reason else {
            return self.set_foreseen(Some(Foreseen::looked(len, within)));
        };
        let foreseen = Foreseen::behind(reason, len, within);
        if reason == PipeReason::Observe && !runs {
            self.noticed = Noticed::default();
            return self.set_foreseen(foreseen);
        }
        self.notice(reason);
        self.noticed.holds_within();
        if let Some(held) = &mut self.held {
            held.reason = reason;
        }
        if reason == PipeReason::Observe {
            self.follow_sight();
        }
        self.set_foreseen(foreseen)
    }

    /// Follows the statement in front, if it is the only one under way.
    fn follow_sight(&mut self) {
        let is_alone = self.course.outstanding().0 == 0;
        let sighting = if is_alone { self.sight() } else { None };
        match &mut self.held {
            Some(held) if sighting.is_some() => held.observed = sighting,
            _ => self.cluster.insight.lose_sight(),
        }
    }

    /// Returns whether what comes next can go out: it can.
    fn set_foreseen(&mut self, foreseen: Option<Foreseen>) -> bool {
        if let Some(held) = &mut self.held {
            held.foreseen = foreseen;
        }
        true
    }
}
