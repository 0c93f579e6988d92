//! An answer past the sharing limit: what has come of it, and the rest as its reader takes it.
//!
//! # Invariants
//!
//! 1. It has one reader. The flight that met it lands with an [`Offer`]: whoever of those who
//!    waited takes it first has it, and the others ask for themselves; nobody has half of one.
//! 2. Who reads slowly keeps his server connection, as he would in the pipe lane, but not his
//!    turn: whoever waits for one waits for servers at work, and not for clients.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sortie::ShardId;
use sortie_postgres::{BodyStream, ExchangeError, Pooled};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::super::{Landed, Mark, Notices, Wish, error};
use super::Trouble;
use crate::sql::{Proof, SqlError};

/// An answer that one reader takes piece by piece.
///
/// Dropping it stops the statement on its server.
#[derive(Debug)]
pub(crate) struct Large {
    /// The `RowDescription` frame.
    pub(crate) head: Bytes,
    rest: Rest,
    shard: ShardId,
    mark: Mark,
    /// Whose text was sent, and whose places in errors are told.
    asked: Proof,
    proof: Proof,
    /// The reader's own.
    deadline: Option<Instant>,
    /// One of few that the readers of one key have at a time.
    turn: Option<OwnedSemaphorePermit>,
}

/// Who asks by himself, and what for.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) shard: ShardId,
    pub(super) proof: &'a Proof,
    pub(super) results: &'a [i16],
    pub(super) wish: &'a Wish,
}

/// The rows of a reply that are still to come.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) body: Box<BodyStream>,
    pub(super) connection: Pooled,
    pub(super) replica: String,
    /// What came ahead of the rows.
    pub(super) notices: Option<Arc<Notices>>,
}

/// A large answer for the first who takes it.
#[derive(Clone, Debug)]
pub(crate) struct Offer(Arc<Mutex<Option<Offered>>>);

/// The head, the rest, how fresh it is, and whose text was sent.
type Offered = (Bytes, Rest, Mark, Proof);

impl Offer {
    pub(super) fn new(head: Bytes, rest: Rest, mark: Mark, asked: Proof) -> Self {
        Self(Arc::new(Mutex::new(Some((head, rest, mark, asked)))))
    }

    /// What is offered, if it is fresh enough and nobody has it.
    pub(super) fn take(&self, admits: impl FnOnce(Mark) -> bool) -> Option<Offered> {
        // A lock that was poisoned holds what it held.
        let mut offered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offered.take_if(|(_, _, mark, _)| admits(*mark))
    }
}

impl Large {
    pub(super) fn new(
        (head, rest, mark, asked): Offered,
        Asking { shard, proof, wish, .. }: Asking<'_>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (proof, deadline) = (proof.clone(), wish.deadline);
        Self { head, rest, shard, mark, asked, proof, deadline, turn }
    }

    /// What the server has said ahead of the rows.
    pub(crate) fn notices(&self) -> Option<&Notices> {
        self.rest.notices.as_deref()
    }

    /// The next bytes of the rows, or `None` behind the last; they may end inside of a frame.
    ///
    /// # Errors
    ///
    /// What the server says, with places in this reader's text, 08006 when its connection is
    /// lost, and 57014 past the deadline. Rows may have come before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses rows: the answer can't be read on.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SqlError> {
        let Rest { body, connection, replica, .. } = &mut self.rest;
        let told = |error: ExchangeError| {
            let told = Trouble::Exchange(error).told(replica);
            let told = told.moved(|at| self.asked.canonical.canonical(at));
            told.moved(|at| self.proof.canonical.original(at))
        };
        let next = body.next(connection);
        let next = match self.deadline {
            None => next.await,
            Some(at) => timeout_at(at, next).await.map_err(|_late| error::statement_timeout())?,
        };
        let next = next.map_err(told)?;
        if next.is_none() {
            // It all went well: nothing is left there.
            connection.set_residue(None);
        }
        Ok(next)
    }

    /// The `CommandComplete` frame, or the `PortalSuspended`, behind the last row.
    pub(crate) fn complete(&self) -> Bytes {
        self.rest.body.complete().cloned().unwrap_or_default()
    }

    /// How fresh what has come of it is, without the rows.
    ///
    /// Of one that was left before its end only that is known which was at its beginning.
    pub(crate) fn landed(&self) -> Landed {
        let until = self.rest.body.until().or(self.mark.from);
        let marks = Arc::from([(self.shard.index() as usize, Mark { until, ..self.mark })]);
        Landed { reply: Arc::default(), marks, ended: Instant::now() }
    }

    /// Its reader is slow: somebody else may have its turn.
    pub(crate) fn give_way(&mut self) {
        self.turn = None;
    }
}
