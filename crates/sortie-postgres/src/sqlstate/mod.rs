//! What a server's error means for a read that other servers could answer too.
//!
//! One table decides, by the five characters of the SQLSTATE: first by the whole code, then by its
//! class, the first two characters. Messages are never looked at, since servers translate them;
//! where one code stands for several things, the name of the routine that raised it tells them
//! apart.
//!
//! # Examples
//!
//! ```
//! use sortie_postgres::sqlstate::{Asked, ErrorClass, classify};
//!
//! let standby = Asked::of_standby();
//! assert_eq!(classify("22012", "int4div", standby), ErrorClass::Answer);
//! assert_eq!(classify("40001", "ProcessInterrupts", standby), ErrorClass::FailOver);
//! assert_eq!(classify("25006", "PreventCommandIfReadOnly", standby), ErrorClass::NeedsPrimary);
//! // The table may have been made a moment ago, and not be there yet.
//! assert_eq!(classify("42P01", "parserOpenTable", standby), ErrorClass::LagSuspect);
//! assert_eq!(classify("42P01", "parserOpenTable", standby.fenced()), ErrorClass::Answer);
//! ```

mod table;
#[cfg(test)]
mod tests;

use sortie::Class;

use table::{Rule, rule};

/// What an error means for the read it ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Every server would say the same: the error is the answer.
    Answer,
    /// The statement as this connection prepared it is no longer good: prepare it again there,
    /// within the same attempt.
    Reprepare,
    /// The server may be behind a change of the schema: ask once more, where the change is known
    /// to have arrived. If the error comes from there too, it is the answer.
    LagSuspect,
    /// The statement needs the primary, now and the next time.
    NeedsPrimary,
    /// The server's own trouble: ask another one.
    FailOver,
    /// An internal error: another server may not have it, and more than one need not be asked.
    FailOverOnce,
    /// We cancelled it ourselves. Nobody is told.
    Ours,
}

/// Of whom, and how, the statement was asked that ended with an error.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Asked {
    standby: bool,
    fenced: bool,
    in_transaction: bool,
    cancelled: bool,
}

impl Asked {
    /// A primary, outside of a transaction.
    pub const fn of_primary() -> Self {
        Self { standby: false, fenced: false, in_transaction: false, cancelled: false }
    }

    /// A standby that may be behind, outside of a transaction.
    pub const fn of_standby() -> Self {
        Self { standby: true, ..Self::of_primary() }
    }

    /// The standby had replayed all that matters before the statement began.
    #[must_use]
    pub const fn fenced(self) -> Self {
        Self { fenced: true, ..self }
    }

    /// The statement was part of the client's own transaction, which can't be moved.
    #[must_use]
    pub const fn in_transaction(self) -> Self {
        Self { in_transaction: true, ..self }
    }

    /// We had asked the server to cancel the statement.
    #[must_use]
    pub const fn cancelled(self) -> Self {
        Self { cancelled: true, ..self }
    }
}

/// Says what an error means, by its SQLSTATE and the name of the routine that raised it (the
/// field `R` of an `ErrorResponse`; empty if the server sent none).
///
/// Codes that nobody knows, say of an extension, are answers.
pub fn classify(code: &str, routine: &str, asked: Asked) -> ErrorClass {
    match rule(code) {
        Rule::Prepared => ErrorClass::Reprepare,
        Rule::Unsupported => unsupported(routine, asked),
        Rule::Schema if asked.standby && !asked.fenced => ErrorClass::LagSuspect,
        Rule::ReadOnly if asked.standby => ErrorClass::NeedsPrimary,
        Rule::Conflict if asked.standby && !asked.in_transaction => ErrorClass::FailOver,
        Rule::Cancelled if asked.cancelled => ErrorClass::Ours,
        Rule::Answer | Rule::Schema | Rule::ReadOnly | Rule::Conflict | Rule::Cancelled => {
            ErrorClass::Answer
        }
        Rule::Server => ErrorClass::FailOver,
        Rule::Internal => ErrorClass::FailOverOnce,
    }
}

fn unsupported(routine: &str, asked: Asked) -> ErrorClass {
    match routine {
        "RevalidateCachedQuery" => ErrorClass::Reprepare,
        // A standby can't be serializable: said where the snapshot is taken, or, through the
        // machinery of settings, where the isolation level is set.
        "GetSerializableTransactionSnapshot" | "call_enum_check_hook" if asked.standby => {
            ErrorClass::NeedsPrimary
        }
        _ => ErrorClass::Answer,
    }
}

/// What a hedged read does about it. What needs the primary ends the call, since all the other
/// standbys would say the same; a statement to be prepared again is asked of another server, if
/// the attempt did not do so itself. Nothing is counted: what may come of a change of the schema,
/// or of an internal error, is asked of every other replica, as far as the call's attempts go, and
/// if all say so the call is [`Exhausted`](sortie::HedgeErrorKind::Exhausted).
impl From<ErrorClass> for Class {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Answer | ErrorClass::NeedsPrimary => Self::Answer,
            ErrorClass::Reprepare
            | ErrorClass::LagSuspect
            | ErrorClass::FailOver
            | ErrorClass::FailOverOnce => Self::FailOver,
            ErrorClass::Ours => Self::Abstain,
        }
    }
}
