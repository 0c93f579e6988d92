//! The seam between the two lanes: who judges a statement, and who answers it when it is shared.
//!
//! The relay asks for a judgement once per text and session state, and keeps it beside the
//! prepared statement; it asks for a reply only for a single statement that no server's transaction
//! holds, of a session that is not dirty, and only if no switch forbids it.

use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::{Bind, Credential, Login};

pub(crate) use crate::read::{Description, Notices};
use crate::read::{Floors, Landed, Large, Wish};
use crate::sql::SqlError;

/// Judges statements, and reads those that can be shared. The read path, or a script in tests.
pub(crate) trait Shared: Send + Sync + 'static {
    /// A statement that may be shared, ready to be run.
    type Plan: Send + Sync + 'static;

    /// Judges one statement. Waits for nothing: what is not known yet is doubt.
    fn judge(&self, who: &Who, asked: &Asked<'_>) -> Verdict<Self::Plan>;

    /// How often what verdicts are given by has changed, for this cluster: one that was given
    /// before the last change holds no more.
    fn known_at(&self, cluster: usize) -> u64;

    /// A number that is the same for sessions whose answers to one statement are the same, and
    /// others only by chance.
    fn likeness(&self, who: &Who) -> u64;

    /// Whether a transaction that a session begins now gives every statement a snapshot of its own,
    /// unless it says otherwise itself: its default level is `READ COMMITTED`. What is not known
    /// is doubt.
    fn reads_committed(&self, who: &Who) -> bool;

    /// Whether something may run by this text that it does not say, and that may leave something on
    /// its session, as far as the cluster's databases are known: by a view, for example.
    fn hides(&self, cluster: usize, text: &[u8]) -> bool;

    /// A client has prepared the statement of a plan, as the one of this number of all: whoever
    /// reads for it relies on nothing that was found out about the statement before.
    fn prepared(&self, plan: &Self::Plan, number: u64);

    /// By which number the statement of a plan is kept prepared for reads of it, its key, which is
    /// the same for whoever shares it, and the login of the connections that keep it; `None` if it
    /// is not.
    fn kept(&self, who: &Who, plan: &Self::Plan) -> Option<(u64, u64, Arc<Login>)>;

    /// What the statement of a plan takes and gives, as a server says it that is asked now. None if
    /// no server takes it, or can be asked, that has got as far as these floors.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the flight.
    fn describe(
        &self,
        who: &Arc<Who>,
        plan: &Arc<Self::Plan>,
        floors: &Floors,
    ) -> impl Future<Output = Option<Arc<Description>>> + Send;

    /// Reads what a plan asks for, as fresh as wished.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the flight.
    fn read(
        &self,
        who: &Arc<Who>,
        plan: &Arc<Self::Plan>,
        values: &Values,
        wish: &Wish,
    ) -> impl Future<Output = Result<Outcome, SqlError>> + Send;
}

/// Whose statement it is, and all that an answer may depend on beside the statement.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Who {
    /// The cluster's place in the configuration.
    pub(crate) cluster: usize,
    /// The shard that the session is bound to; `None` means all of them.
    pub(crate) shard: Option<usize>,
    /// The role.
    pub(crate) user: Box<str>,
    /// What it logs in to servers with, if not with what their URLs have.
    pub(crate) credential: Option<Arc<Credential>>,
    /// Names, in lower case, and values of all parameters that were given at the session's start
    /// or set since then; sorted by name. A session with a parameter whose value can't be read
    /// from its text shares nothing.
    pub(crate) parameters: Vec<(Box<str>, Box<str>)>,
}

/// A statement as it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// One statement, with its comments, and perhaps a semicolon.
    pub(crate) text: &'a str,
    /// The types of the first parameters, from a Parse; 0 leaves a type to the server.
    pub(crate) oids: &'a [u32],
}

/// What becomes of a statement.
#[derive(Debug)]
pub(crate) enum Verdict<P> {
    /// It is proven to be shareable. On a cluster of several shards it concerns rows that no one
    /// server has.
    Share(Arc<P>),
    /// It goes to one server, for this reason.
    Pipe(PipeReason),
    /// It can be answered by no single server, and not by all of them together.
    Refuse(Box<SqlError>),
}

/// How a statement's parameters and formats came.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// A simple query: there are none, and the result is text.
    Simple,
    /// An extended one.
    Bound {
        /// Its parameters and formats.
        bind: Bind,
        /// How many rows are wanted at most; 0 means all.
        rows_max: u32,
    },
}

impl Values {
    /// Whether there is a format for each column: whoever says them has been told of the columns.
    pub(super) fn know_columns(&self) -> bool {
        matches!(self, Self::Bound { bind, .. } if bind.result_formats.len() > 1)
    }
}

/// What a shared read comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The answer, and how fresh it is.
    Reply(Reply, Landed),
    /// An answer that is too big to be shared: this reader's own, piece by piece.
    Large(Box<Large>),
    /// Not in this lane, for this reason: for example it takes too long.
    Pipe(PipeReason),
}

/// An answer as frames, ready to be written. Clones share the bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reply {
    /// The `RowDescription` frame, with the formats that were asked for.
    pub(crate) head: Bytes,
    /// The `DataRow` frames.
    pub(crate) rows: Bytes,
    /// The `CommandComplete` frame, or the `PortalSuspended` frame in its place.
    pub(crate) tag: Bytes,
    pub(crate) notices: Option<Arc<Notices>>,
}

/// Why a statement is not shared: for metrics, so the set is small and fixed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum PipeReason {
    /// `sortie.lane = pipe`, `mode = pipe`.
    Lane,
    /// `sortie.share = off`.
    Share,
    /// `mode = observe`: it would have been shared.
    Observe,
    /// `mode = observe`: it begins or ends a transaction that no server would have known of.
    Spared,
    /// The session is bound to one shard.
    Bound,
    /// In a transaction.
    Transaction,
    /// The session is dirty.
    Dirty,
    /// A parameter has a value that can't be read, or that may change the answer.
    Parameters,
    /// More than one statement, or other messages than those that run one.
    Shape,
    /// Rows in portions, of a portal that may live on.
    Portions,
    /// It is not a query, or one of no table.
    Command,
    /// It can't be parsed, or is not of the grammar that is proven.
    Grammar,
    /// It calls a function that is not on the list.
    Function,
    /// It reads something that is not a plain table.
    Relation,
    /// Not enough is known about what it reads.
    Catalog,
    /// Its parameters or results are not of the types that are proven.
    Types,
    /// It is too long to be read, or takes too long.
    Size,
    /// It failed where it was shared: PostgreSQL says itself how far it came, and why not further.
    Error,
    /// No replica has got as far as the session has seen, or nobody knows how far that is.
    Behind,
}

impl PipeReason {
    /// All of them, for whoever counts them.
    pub(crate) const ALL: [Self; 19] = [
        Self::Lane,
        Self::Share,
        Self::Observe,
        Self::Spared,
        Self::Bound,
        Self::Transaction,
        Self::Dirty,
        Self::Parameters,
        Self::Shape,
        Self::Portions,
        Self::Command,
        Self::Grammar,
        Self::Function,
        Self::Relation,
        Self::Catalog,
        Self::Types,
        Self::Size,
        Self::Error,
        Self::Behind,
    ];

    /// Whether it is for what a statement says that it is not shared, and not for what its session
    /// is, or has said.
    pub(crate) fn is_of_text(self) -> bool {
        match self {
            Self::Lane
            | Self::Share
            | Self::Observe
            | Self::Spared
            | Self::Bound
            | Self::Transaction
            | Self::Dirty
            | Self::Behind
            | Self::Parameters => false,
            Self::Shape
            | Self::Portions
            | Self::Command
            | Self::Grammar
            | Self::Function
            | Self::Relation
            | Self::Catalog
            | Self::Types
            | Self::Size
            | Self::Error => true,
        }
    }

    /// What it means, in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Lane => "the mode, or sortie.lane, says that everything is relayed",
            Self::Share => "sortie.share is off",
            Self::Observe => "it would have been shared: the mode is observe",
            Self::Spared => {
                "it begins or ends a transaction that no server would know of: the mode is observe"
            }
            Self::Behind => "no replica is as far as the session has written or read",
            Self::Bound => "the session is bound to one shard",
            Self::Transaction => "in a transaction that a server has begun",
            Self::Dirty => "the session has left something on its server that can't be had again",
            Self::Parameters => "a parameter of the session has a value that can't be read",
            Self::Shape => "sent with other statements, or in messages that do more than run it",
            Self::Portions => "its rows are asked for in portions",
            Self::Command => "it is no query, reads no table, or locks rows",
            Self::Grammar => "it is not of the grammar that is proven to be steady",
            Self::Function => "it calls a function that may change, or change something",
            Self::Relation => "it reads something that is not a plain table",
            Self::Catalog => "not enough is known of the database yet, or built-ins are overridden",
            Self::Types => "its parameters or results are of types that are not proven",
            Self::Size => "its answer is too big to be shared, or took too long",
            Self::Error => "it failed: the server itself says so",
        }
    }

    /// Its name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Share => "share",
            Self::Observe => "observe",
            Self::Spared => "spared",
            Self::Bound => "bound",
            Self::Transaction => "transaction",
            Self::Dirty => "dirty",
            Self::Parameters => "parameters",
            Self::Shape => "shape",
            Self::Portions => "portions",
            Self::Command => "command",
            Self::Grammar => "grammar",
            Self::Function => "function",
            Self::Relation => "relation",
            Self::Catalog => "catalog",
            Self::Types => "types",
            Self::Size => "size",
            Self::Error => "error",
            Self::Behind => "behind",
        }
    }
}
