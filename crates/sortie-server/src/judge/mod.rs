//! Judging statements: which are shared, which any one server may answer, which nobody can.
//!
//! | shards | statement | verdict |
//! |---|---|---|
//! | one | a steady query of tables, and of views of them ([`check_steady`]) | shared |
//! | one | anything else | to a server: PostgreSQL itself answers |
//! | several | such a SELECT on a sharded table, whose parts can be merged exactly | shared |
//! | several | whatever depends on no row of a sharded table ([`check_harmless`]) | to any server |
//! | several | anything else | refused: one shard's rows are never passed off as the cluster's |
//!
//! # Invariants
//!
//! 1. Doubt is never shared: what can't be read, or is not known, goes to a server, or is refused.
//! 2. A verdict depends on the canonical text, the declared types and what is known of the
//!    databases, and on nothing else; places in errors are those of the text as it was sent.

mod cache;
mod definitions;
mod hidden;
mod lane;
mod load;
mod parameters;
mod past;
mod raw;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::cache::Cache;
pub(crate) use self::lane::{ClusterServers, SharedLane};
use self::load::{Looked, look};
use crate::relay::PipeReason;
use crate::sql::{
    Canonical, Harm, Known, Placement, Prepared, Proof, Shareable, SqlError, Unsteady,
    check_harmless, check_steady, prepare, split, state,
};

const READ_ONLY: &str = state::READ_ONLY_SQL_TRANSACTION;
const SYNTAX: &str = state::SYNTAX_ERROR;

/// Judges the statements of one cluster. Bounded; shared by all sessions.
#[derive(Debug)]
pub(crate) struct Judge {
    /// More than one.
    is_sharded: bool,
    cache: Cache,
}

/// What the judge says of a statement.
#[derive(Debug)]
pub(crate) enum Opinion {
    /// It is proven to be shareable.
    Share(Arc<Proof>),
    /// Any one server may answer it.
    Pipe(PipeReason),
    /// Nobody can answer it exactly.
    Refuse(Box<SqlError>),
}

/// A verdict on a canonical text.
#[derive(Clone, Debug)]
enum Judged {
    Share(Arc<Shareable>),
    Pipe(PipeReason),
    /// With its place in the canonical text.
    Refuse(Arc<SqlError>),
}

impl Judge {
    /// Creates the judge of a cluster with so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self { is_sharded: shards > 1, cache: Cache::default() }
    }

    /// Judges one statement of a session that asks all shards, or (`alone`) is bound to one.
    ///
    /// `oids` are the types that a Parse declares, none of them for a simple query.
    pub(crate) fn judge(
        &self,
        text: &str,
        oids: &[u32],
        alone: bool,
        known: &Arc<Known>,
    ) -> Opinion {
        let spread = self.is_sharded && !alone;
        let canonical = match Canonical::new(text) {
            Ok(canonical) => canonical,
            Err(error) if spread => return Opinion::Refuse(Box::new(error)),
            Err(_) => return Opinion::Pipe(PipeReason::Grammar),
        };
        let judged = self.cache.get(&canonical.text, oids, spread, known, || {
            if spread {
                judge_spread(&canonical.text, oids, known)
            } else {
                judge_alone(&canonical.text, oids, known)
            }
        });
        match judged {
            Judged::Pipe(reason) => Opinion::Pipe(reason),
            Judged::Refuse(error) => {
                let mut error = error.as_ref().clone();
                error.position = error.position.map(|place| canonical.original(place));
                Opinion::Refuse(Box::new(error))
            }
            Judged::Share(judged) => {
                let canonical = Arc::new(canonical);
                Opinion::Share(Arc::new(Proof { judged, text: text.into(), canonical }))
            }
        }
    }
}

fn judge_alone(text: &str, oids: &[u32], known: &Known) -> Judged {
    let steady = match check_steady(text, known) {
        Ok(_) if known.vocabulary.overridden => return Judged::Pipe(PipeReason::Catalog),
        Ok(steady) => steady,
        Err(Unsteady::Command) => return Judged::Pipe(PipeReason::Command),
        Err(Unsteady::Relation) => return Judged::Pipe(PipeReason::Relation),
        Err(Unsteady::Function) => return Judged::Pipe(PipeReason::Function),
        Err(Unsteady::Grammar) => return Judged::Pipe(PipeReason::Grammar),
    };
    Judged::Share(Arc::new(Shareable {
        number: Shareable::number(),
        text: text.into(),
        oids: oids.into(),
        spread: None,
        has_params: steady.has_params,
        is_valid: prepare(text, Some(oids), &known.catalog).is_ok(),
        has_notices: AtomicBool::default(),
    }))
}

fn judge_spread(text: &str, oids: &[u32], known: &Known) -> Judged {
    let refuse = |error: SqlError| Judged::Refuse(Arc::new(error));
    if let Ok(pieces) = split(text)
        && pieces.len() > 1
    {
        // One transaction: all of them must be for any server.
        let harm = pieces.iter().find_map(|piece| {
            let harm = check_harmless(piece.text, known).err()?;
            Some(harm.error.shifted(piece.offset))
        });
        return match harm {
            None => Judged::Pipe(PipeReason::Shape),
            Some(error) if error.code == state::FEATURE_NOT_SUPPORTED => {
                refuse(error.hint("Send the statements one by one."))
            }
            Some(error) => refuse(error),
        };
    }
    let prepared = prepare(text, Some(oids), &known.catalog);
    let placement = prepared.as_ref().ok().and_then(Prepared::table).map(|table| table.placement);
    match (prepared, placement) {
        (Ok(_), Some(Placement::Sharded(_))) if known.vocabulary.overridden => {
            let reason = "operators, functions or casts are redefined in this database";
            refuse(SqlError::unsupported(reason))
        }
        (Ok(prepared), Some(Placement::Sharded(_))) => {
            match prepared.check_mergeable(known.catalog.is_bytewise()) {
                Ok(()) => spread(text, oids, prepared),
                Err(error) => refuse(error),
            }
        }
        (Ok(prepared), Some(Placement::Local)) => {
            let name = prepared.table().map_or("", |table| &table.name);
            let reason = format!("nobody has said how the rows of \"{name}\" are sharded");
            refuse(SqlError::unsupported(reason).hint("Name the table in the configuration."))
        }
        (prepared, _) => match (check_harmless(text, known), prepared) {
            (Ok(()), prepared) => {
                Judged::Pipe(prepared.err().map_or(PipeReason::Relation, |error| reason(&error)))
            }
            // What is wrong with a read of a sharded table says more than that it is one.
            (Err(Harm { private: true, .. }), Err(error)) => refuse(error),
            (Err(_), Err(error)) if [READ_ONLY, SYNTAX].contains(&error.code) => refuse(error),
            (Err(harm), _) => refuse(harm.error),
        },
    }
}

fn spread(text: &str, oids: &[u32], prepared: Prepared) -> Judged {
    Judged::Share(Arc::new(Shareable {
        number: Shareable::number(),
        text: text.into(),
        oids: oids.into(),
        has_params: !prepared.params().is_empty(),
        spread: Some(prepared),
        is_valid: true,
        has_notices: AtomicBool::default(),
    }))
}

/// Why a statement that is not understood goes to a server.
fn reason(error: &SqlError) -> PipeReason {
    match error.code {
        READ_ONLY => PipeReason::Command,
        state::FEATURE_NOT_SUPPORTED if error.message.contains("function") => PipeReason::Function,
        state::FEATURE_NOT_SUPPORTED | SYNTAX => PipeReason::Grammar,
        state::UNDEFINED_TABLE => PipeReason::Relation,
        _ => PipeReason::Types,
    }
}

#[cfg(test)]
mod tests;
