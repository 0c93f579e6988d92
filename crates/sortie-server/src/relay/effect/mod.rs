//! What a statement leaves on its session, read from its text alone.
//!
//! A session keeps a server connection between two transactions only if something was left on it
//! that can't be had again on another one. So each statement has an [`Effect`]: nothing; a
//! parameter, which can be set again; or something that makes the session *dirty*, with a
//! [`Reason`] that is counted. What is not known to be harmless is dirty.
//!
//! # Limits
//!
//! Names are read, not looked up: what rules, casts and types call by themselves is not seen. Nor
//! is it here what views, policies and operators call, and a user's function that overloads a
//! built-in name of the list in `harmless.txt`: that is [`Shared::hides`](super::Shared::hides).
//! PostgreSQL's own never leave anything on a session.
//!
//! # Invariants
//!
//! 1. Texts are read by PostgreSQL's lexical rules, with `standard_conforming_strings` on. A
//!    session that turns them off, or whose encoding has ASCII bytes inside of characters, is
//!    dirty, and its texts are not read any more.
//! 2. A text that can't be read is dirty.

mod call;
mod control;
mod query;
mod set;

pub(crate) use self::call::{is_harmless, is_taken};
pub(crate) use self::control::Control;
pub(crate) use self::set::is_readable;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::customs::Customs;
use crate::sql::{Lexeme, Token, lex};

/// What one statement leaves on its session once it has succeeded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Nothing that outlives its transaction.
    Nothing,
    /// Nothing, but it begins or ends a transaction, and with it what others left.
    Control(Control),
    /// A parameter has another value, this one if it can be read; running the text again sets it
    /// again.
    Set(Box<str>, Option<Box<str>>),
    /// A parameter has the value again that it had when the session began.
    Reset(Box<str>),
    /// All parameters have, but for the role.
    ResetAll,
    /// Everything is as when the session began.
    DiscardAll,
    /// A prepared statement is gone; all of them without a name.
    Deallocate(Option<Box<str>>),
    /// A switch of sortie's own is set, or reset without a value.
    Switch(Box<str>, Option<Box<str>>),
    /// A switch of sortie's own is set, or reset without a value, until the end of the transaction.
    SwitchLocal(Box<str>, Option<Box<str>>),
    /// A switch of sortie's own is shown.
    Show(Box<str>),
    /// Something that can't be had again on another connection.
    Dirty(Reason),
}

/// Why a session is dirty.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Reason {
    /// `PREPARE`, and `EXECUTE`, which may run anything.
    Prepare,
    /// A cursor that outlives its transaction.
    Cursor,
    /// `LISTEN`.
    Listen,
    /// `LOAD`.
    Load,
    /// An advisory lock of the session.
    Lock,
    /// A sequence, whose last value the session remembers.
    Sequence,
    /// A parameter that is set by a function, to what nobody can read from the text.
    SetConfig,
    /// A parameter that is set inside a transaction, which may still be undone.
    SetInTransaction,
    /// An encoding, or a kind of strings, by which texts can't be read safely.
    Encoding,
    /// A block or a procedure.
    Block,
    /// A write: triggers may do anything.
    Write,
    /// A definition: it may be temporary, and event triggers may do anything.
    Define,
    /// A function that is not known to be harmless.
    Function,
    /// The obsolete call of a function by its number.
    FunctionCall,
    /// More parameters or statements than are remembered.
    Bound,
    /// A statement that is not known.
    Unknown,
    /// A text that can't be read.
    Unreadable,
}

/// What a text of one or more statements leaves, in order; those that leave nothing are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Effects {
    /// How many statements there are.
    pub(crate) statements: usize,
    /// Custom parameters that they set, if only until the end of a transaction.
    pub(crate) customs: Customs,
    /// What they leave, without [`Effect::Nothing`].
    pub(crate) left: Vec<Effect>,
    /// Where in the text the statements that leave something are.
    spans: Vec<Range<usize>>,
    /// Which of the statements they are.
    places: Vec<usize>,
}

impl Reason {
    /// All of them, for whoever counts them.
    pub(crate) const ALL: [Self; 17] = [
        Self::Prepare,
        Self::Cursor,
        Self::Listen,
        Self::Load,
        Self::Lock,
        Self::Sequence,
        Self::SetConfig,
        Self::SetInTransaction,
        Self::Encoding,
        Self::Block,
        Self::Write,
        Self::Define,
        Self::Function,
        Self::FunctionCall,
        Self::Bound,
        Self::Unknown,
        Self::Unreadable,
    ];

    /// Whether something may have been left that no `DISCARD ALL` takes away: libraries, what
    /// functions keep in their languages' own memory, connections to elsewhere, a random seed.
    pub(crate) fn outlasts_discard(self) -> bool {
        match self {
            // These run anything, or may load a library.
            Self::Prepare
            | Self::Load
            | Self::Block
            | Self::Define
            | Self::Function
            | Self::FunctionCall
            | Self::Unknown
            | Self::Unreadable => true,
            // What triggers do is not looked at.
            Self::Write
            | Self::Cursor
            | Self::Listen
            | Self::Lock
            | Self::Sequence
            | Self::SetConfig
            | Self::SetInTransaction
            | Self::Encoding
            | Self::Bound => false,
        }
    }

    /// Whether what makes a session dirty may use the session's prepared statements by their names.
    pub(crate) fn may_use_statements(self) -> bool {
        match self {
            // `EXECUTE`, also where a definition or a cursor reads from it; or any code.
            Self::Prepare
            | Self::Cursor
            | Self::Block
            | Self::Define
            | Self::Function
            | Self::FunctionCall
            | Self::Unknown
            | Self::Unreadable => true,
            // What triggers do is not looked at, and that a library is loaded is all it does.
            Self::Write
            | Self::Load
            | Self::Listen
            | Self::Lock
            | Self::Sequence
            | Self::SetConfig
            | Self::SetInTransaction
            | Self::Encoding
            | Self::Bound => false,
        }
    }

    /// Its name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Cursor => "cursor",
            Self::Listen => "listen",
            Self::Load => "load",
            Self::Lock => "advisory_lock",
            Self::Sequence => "sequence",
            Self::SetConfig => "set_config",
            Self::SetInTransaction => "set_in_transaction",
            Self::Encoding => "encoding",
            Self::Block => "block",
            Self::Write => "write",
            Self::Define => "definition",
            Self::Function => "function",
            Self::FunctionCall => "function_call",
            Self::Bound => "bound",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Names of functions that somebody has made and that leave nothing.
pub(crate) type Proven = HashSet<Arc<str>>;

/// Whether a definition leaves nothing on a session, as far as it says so, not even until the end
/// of the transaction: a custom parameter would be empty then, and no longer missing.
pub(crate) fn leaves_nothing(text: &str, proven: &Proven) -> bool {
    let ends = |lexeme: &Lexeme| lexeme.token == Token::Punctuation(";");
    lex(text).is_ok_and(|lexemes| {
        let statements = lexemes.split(ends).filter(|statement| !statement.is_empty());
        statements.into_iter().all(|statement| query::only_reads(statement, proven))
    })
}

impl Effects {
    /// Reads what the statements of `text` leave.
    pub(crate) fn of(text: &[u8]) -> Self {
        let lexemes = std::str::from_utf8(text).ok().and_then(|text| lex(text).ok());
        let Some(lexemes) = lexemes else { return Self::dirty(Reason::Unreadable) };
        let mut effects = Self::default();
        let ends = |lexeme: &Lexeme| lexeme.token == Token::Punctuation(";");
        for statement in lexemes.split(ends).filter(|statement| !statement.is_empty()) {
            effects.statements += 1;
            effects.customs = effects.customs.and(set::customs(statement));
            match effect(statement) {
                Effect::Nothing => {}
                left => {
                    let last = statement.last().map_or(0, |lexeme| lexeme.end);
                    effects.spans.push(statement[0].start..last);
                    effects.places.push(effects.statements - 1);
                    effects.left.push(left);
                }
            }
        }
        effects
    }

    /// One statement that leaves this behind.
    pub(crate) fn dirty(reason: Reason) -> Self {
        let left = vec![Effect::Dirty(reason)];
        let (spans, places) = (vec![Range::default()], vec![0]);
        Self { statements: 1, customs: Customs::default(), left, spans, places }
    }

    /// What is left, each with its statement's text out of the whole one.
    pub(crate) fn with_texts<'a>(
        &'a self,
        text: &'a [u8],
    ) -> impl Iterator<Item = (&'a Effect, &'a [u8])> {
        let texts = self.spans.iter().map(|span| text.get(span.clone()).unwrap_or_default());
        self.left.iter().zip(texts)
    }

    /// Of what is left only what no rollback takes back, by the first so many statements.
    pub(crate) fn lasting(&self, statements: usize) -> Self {
        let mut lasting = Self { statements, ..Self::default() };
        for (at, effect) in self.left.iter().enumerate() {
            if is_lasting(effect) && self.places[at] < statements {
                lasting.left.push(effect.clone());
                lasting.spans.push(self.spans[at].clone());
                lasting.places.push(self.places[at]);
            }
        }
        lasting
    }

    /// Whether a statement begins or ends a transaction.
    pub(crate) fn controls(&self) -> bool {
        self.left.iter().any(|effect| matches!(effect, Effect::Control(_)))
    }

    /// What the text does to its session's transaction, if that is all it does.
    pub(crate) fn control(&self) -> Option<Control> {
        match (self.statements, &*self.left) {
            (1, [Effect::Control(control)]) => Some(*control),
            _ => None,
        }
    }

    /// Whether something is left that no rollback takes back.
    pub(crate) fn is_lasting(&self) -> bool {
        self.left.iter().any(is_lasting)
    }

    /// Whether the prepared statement of this name is gone then.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.left.iter().any(|effect| match effect {
            Effect::DiscardAll | Effect::Deallocate(None) => !name.is_empty(),
            Effect::Deallocate(Some(gone)) => gone.as_bytes() == name,
            _ => false,
        })
    }

    /// Whether a parameter is set or reset.
    pub(crate) fn sets(&self) -> bool {
        self.left
            .iter()
            .any(|effect| matches!(effect, Effect::Set(..) | Effect::Reset(_) | Effect::ResetAll))
    }

    /// Why the session is dirty after it, if it is.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reasons().next()
    }

    /// Whether a statement may use prepared ones by their names.
    pub(crate) fn may_use_statements(&self) -> bool {
        self.reasons().any(Reason::may_use_statements)
    }

    /// Whether something may be left that no `DISCARD ALL` takes away.
    pub(crate) fn outlast_discard(&self) -> bool {
        self.reasons().any(Reason::outlasts_discard)
    }

    fn reasons(&self) -> impl Iterator<Item = Reason> {
        self.left.iter().filter_map(|effect| match effect {
            Effect::Dirty(reason) => Some(*reason),
            _ => None,
        })
    }
}

fn is_lasting(effect: &Effect) -> bool {
    matches!(effect, Effect::DiscardAll | Effect::Deallocate(_))
}

/// What one statement leaves; it is not empty, and without its semicolon.
fn effect(statement: &[Lexeme]) -> Effect {
    let first = match &statement[0].token {
        Token::Word(word) => word.as_str(),
        Token::Punctuation("(") => "select",
        _ => return Effect::Dirty(Reason::Unknown),
    };
    let rest = &statement[1..];
    match first {
        "select" | "values" | "table" | "with" => query::query(statement),
        "show" => set::show(rest),
        "set" => set::set(rest),
        "reset" => set::reset(rest),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            Effect::Control(Control::of(first, rest))
        }
        "explain" => query::explain(rest),
        "copy" => query::copy(rest),
        "insert" | "update" | "delete" | "merge" => query::write(statement),
        "declare" => query::declare(rest),
        "discard" if rest.first().is_some_and(|word| word.is("all")) => Effect::DiscardAll,
        "deallocate" => set::deallocate(rest),
        // Of no consequence outside of a transaction, or not admitted there.
        "discard" | "fetch" | "move" | "close" | "unlisten" | "notify" | "lock" => Effect::Nothing,
        _ => Effect::Dirty(reason(first)),
    }
}

/// Why a statement that begins like this makes a session dirty.
fn reason(first: &str) -> Reason {
    match first {
        "prepare" | "execute" => Reason::Prepare,
        "listen" => Reason::Listen,
        "load" => Reason::Load,
        "do" | "call" => Reason::Block,
        "insert" | "update" | "delete" | "merge" | "truncate" => Reason::Write,
        "alter" | "analyze" | "checkpoint" | "cluster" | "comment" | "create" | "drop"
        | "grant" | "import" | "reassign" | "refresh" | "reindex" | "revoke" | "security"
        | "vacuum" => Reason::Define,
        _ => Reason::Unknown,
    }
}

#[cfg(test)]
mod tests;
