//! Statements that connections keep prepared for the reads that many may share.
//!
//! A statement that its client has prepared is prepared where it runs, too, and stays: a server
//! spends more on parsing and planning a cheap read than on running it.
//!
//! # Invariants
//!
//! 1. Only what is known to be there is relied on: when the batch that prepares one fails, or one
//!    is not heard to its end, the connection is cleaned, and nothing is kept there.
//! 2. One of them is told from all others by text and declared types. Of its text only ordinary
//!    comments may be another reader's; so an error that has a place in it is not passed on.
//! 3. It was prepared after each of its readers had prepared his: what a server finds out then
//!    (which tables and rows a role may see, which types are meant) is as new as if he had asked.
//! 4. A connection has a bounded number of them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use sortie_postgres::{Body, ExchangeError, Kept, Pooled, Reply, Request, Residue, ServerError};

use super::clean;
use super::frames::{self, Values};
use crate::read::key::{ReadKey, Shape};
use crate::relay::{APART, NAMED, parses};
use crate::sql::{Identity, Proof, state};

/// There is no prepared statement of this name.
const UNKNOWN_STATEMENT: &str = "26000";

/// There is one already.
const DUPLICATE_STATEMENT: &str = "42P05";

/// Tells the names of this process from those of others: behind a pooler that knows nothing of
/// prepared statements they may come to one server process.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Nobody's, with everything that can be left: whoever gets the connection cleans it.
pub(crate) const ANYTHING: Residue = Residue { owner: 0, version: !APART };

/// What is left with statements that are kept: whoever gets the connection and does not know of
/// them takes them away.
pub(crate) const KEPT: u64 = NAMED;

/// Places for statements, by their keys: two may have one, and are prepared more often then.
const PLACES_MAX: usize = 1 << 14;

/// Which Parse of a client, of all, was the last for each statement.
static LAST: LazyLock<Box<[AtomicU64]>> =
    LazyLock::new(|| (0..PLACES_MAX).map(|_| AtomicU64::new(0)).collect());

/// A client has prepared the statement with this key, by the Parse of this number.
pub(crate) fn prepared(key: u64, parse: u64) {
    last(key).fetch_max(parse, Relaxed);
}

fn last(key: u64) -> &'static AtomicU64 {
    &LAST[usize::try_from(key % PLACES_MAX as u64).unwrap_or_default()]
}

/// Whether a statement is kept where it is run.
pub(crate) fn is_worth_it(proof: &Proof) -> bool {
    proof.judged.spread.is_none() && !proof.judged.has_notices.load(Relaxed)
}

/// What a replica is asked, and how its answer is read.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) words: Words,
    /// How many bytes of rows are taken together.
    pub(super) whole_max: usize,
    /// The replica also says how far it is.
    pub(super) is_fenced: bool,
}

/// In which words.
#[derive(Clone)]
pub(super) enum Words {
    /// The frames of a batch that leaves nothing.
    Own(Bytes),
    /// A statement that may be prepared there already.
    Kept(Arc<Statement>),
}

/// A statement, and the values that it is run with.
pub(super) struct Statement {
    pub(super) proof: Proof,
    pub(super) key: ReadKey,
    pub(super) results: Arc<[i16]>,
}

impl Message {
    /// Asks on a connection that has nothing but what is kept there, and leaves it so if all goes
    /// well.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the exchange unfinished, and says so of what it may leave.
    pub(super) async fn exchange(&self, connection: &mut Pooled) -> Result<Reply, ExchangeError> {
        // Until all of it went well: a failure in between may leave the statement behind.
        let mut kept = connection.take_kept(ANYTHING);
        let mut added = None;
        let frames = match &self.words {
            Words::Own(frames) => frames.clone(),
            Words::Kept(statement) => {
                let judged = &statement.proof.judged;
                let after = last(judged.key()).load(Relaxed);
                if let Some((at, _)) = kept.find(judged.number, after) {
                    frames::prepared(&name(judged.number, at), &statement.values())
                } else {
                    let at = parses();
                    added = Some((judged.number, at));
                    statement.preparing(at, &mut kept)
                }
            }
        };
        let reply = match (connection.exchange(self.request(frames)).await, &self.words) {
            (Err(ExchangeError::Server(report)), Words::Kept(statement))
                if is_of_keeping(&report, added.is_none()) =>
            {
                clean::discard(connection).await?;
                let words = Words::Own(statement.own());
                return Box::pin(Self { words, ..*self }.exchange(connection)).await;
            }
            (Err(error @ ExchangeError::Server(_)), Words::Kept(_)) if added.is_none() => {
                // What is there was neither made nor taken away.
                connection.keep(kept, KEPT);
                return Err(error);
            }
            (reply, _) => reply?,
        };
        if let Words::Kept(statement) = &self.words
            && !reply.notices.is_empty()
        {
            // They may be of its planning, and are said to whoever has it planned.
            statement.proof.judged.has_notices.store(true, Relaxed);
        } else if matches!(reply.body, Body::Whole(_)) {
            if let Some((number, at)) = added {
                kept.add(number, at, reply.head.clone().unwrap_or_default());
            }
            connection.keep(kept, KEPT);
        }
        Ok(reply)
    }

    fn request(&self, frames: Bytes) -> Request {
        let request = Request::new(frames).whole_max(self.whole_max);
        if self.is_fenced { request.fenced_around() } else { request }
    }
}

impl Statement {
    /// The batch that runs it without leaving it.
    pub(super) fn own(&self) -> Bytes {
        frames::batch(&self.proof.text, &self.key.identity.oids, &self.values(), true)
    }

    /// The batch that prepares it, so late, and runs it; another one may have to go first.
    fn preparing(&self, at: u64, kept: &mut Kept) -> Bytes {
        let number = self.proof.judged.number;
        let gone = kept.make_room(number).map(|(number, at)| name(number, at));
        let text = (&*self.proof.text, &*self.key.identity.oids);
        frames::preparing(&name(number, at), text, gone.as_deref(), &self.values())
    }

    fn values(&self) -> Values<'_> {
        let Identity { formats, values, .. } = &self.key.identity;
        let rows_max = match self.key.shape {
            Shape::Extended { rows_max } => rows_max,
            Shape::Simple | Shape::Described | Shape::Merged => 0,
        };
        Values { formats, params: values, results: &self.results, rows_max }
    }
}

/// Whether there is nothing on a connection but what is kept there.
pub(crate) fn is_kept(residue: Option<Residue>) -> bool {
    residue.is_none_or(|residue| residue.owner == Residue::COMMON)
}

/// How the statement of this number is called that was prepared then: a pooler in between that
/// knows nothing of it may lead to a server that has one of before.
pub(crate) fn name(number: u64, at: u64) -> String {
    format!("sortie {:x} {number} {at}", *PROCESS)
}

/// Whether an error may be about a statement that is kept, and not about the read: about another
/// reader's text, if that is what was relied on, or about its being there.
fn is_of_keeping(report: &ServerError, was_there: bool) -> bool {
    match report.sqlstate() {
        UNKNOWN_STATEMENT | DUPLICATE_STATEMENT => true,
        state::FEATURE_NOT_SUPPORTED => was_there,
        _ => was_there && report.field(b'P').is_some(),
    }
}
