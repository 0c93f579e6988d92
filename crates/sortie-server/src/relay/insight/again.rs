//! The batch that a session sends over and over ([`Plain`]), where statements are only observed.
//!
//! What was seen of its statement the first time is kept beside it ([`Glance`](super::Glance)), so
//! that it goes the same short way as where nothing is looked at at all.
//!
//! # Invariants
//!
//! 1. It is told here, or the long way tells it: never otherwise than that would.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Foreseen, Noticed};
use crate::relay::ledger::View;
use crate::relay::plain::Plain;
use crate::relay::session::Session;
use crate::relay::shared::{PipeReason, Shared};

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Why such a batch takes the pipe, of a statement that leaves nothing, and was seen before.
    pub(in crate::relay) fn observe_plain(&mut self, plain: &Plain) -> Option<PipeReason> {
        let statement = self.ledger.known(&self.client.input[plain.name.clone()])?;
        let (view, glance) = statement.glance.as_ref()?;
        if !plain.is_single || !self.observes() || !self.is_seen(view) {
            return None;
        }
        let cause = Arc::clone(&glance.cause);
        let reason = cause.reason;
        let bound = (0..plain.bind, plain.rows_max);
        let key = (reason == PipeReason::Observe).then(|| self.key(glance.key, Some(bound)));
        let foreseen = Foreseen::behind(reason, plain.len, false);
        self.noticed = Noticed::outside(cause, key, foreseen);
        Some(reason)
    }

    /// Whether this is what the session is looked at by now ([`Session::view`]).
    pub(in crate::relay) fn is_seen(&self, view: &View) -> bool {
        let (at, shard) = (self.ledger.at(), self.shard());
        let known_at = self.world.lane.known_at(self.cluster.index);
        // Who it was when it was looked at last.
        let who = self.who.as_ref().map(|(who_at, who_shard, _)| (*who_at, *who_shard));
        who == Some((at, shard)) && *view == (self.world.number(), at, shard, known_at)
    }
}
