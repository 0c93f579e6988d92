//! What is known of a cluster's databases, as far as judging needs it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::sql::words::opens;
use crate::sql::{Catalog, Token, lex};

/// All that statements are judged by. Made anew whenever the databases are looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) catalog: Catalog,
    pub(crate) vocabulary: Vocabulary,
    /// Every role's transactions begin at the level `READ COMMITTED`.
    pub(crate) reads_committed: bool,
    /// What roles and databases have set on the servers, each as one word: connections that were
    /// opened when it was another one have other parameters than those that are opened now. A set:
    /// how many servers answer changes nothing.
    pub(crate) defaults: BTreeSet<Box<str>>,
}

/// The names of a cluster that mean something in a statement, besides its relations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Vocabulary {
    /// Built-in functions that are known to read no table and to leave nothing behind.
    pub(crate) functions: HashSet<Arc<str>>,
    /// Those that say the same for the same arguments and parameters of a session, and the others.
    pub(crate) steady: HashSet<Arc<str>>,
    pub(crate) unsteady: HashSet<Arc<str>>,
    /// Functions and types that somebody made: they may read any table.
    pub(crate) made: HashSet<Arc<str>>,
    /// Functions among those whose bodies say that they are as steady as PostgreSQL's own steady
    /// ones, but may read tables.
    pub(crate) seen: HashSet<Arc<str>>,
    /// Operators that somebody made in a language that can read tables.
    pub(crate) operators: HashSet<Arc<str>>,
    /// Names behind which something runs that may leave something on a session: of views, of tables
    /// with policies, and of functions that are called like columns.
    pub(crate) hiding: HashSet<Arc<str>>,
    /// Names of functions that may do so, though a call of one looks like a word of the grammar, or
    /// like a call of PostgreSQL's own.
    pub(crate) overloads: HashSet<Arc<str>>,
    /// Somebody has made operators, functions or casts of built-in types, so that comparisons and
    /// aggregates may not be PostgreSQL's own.
    pub(crate) overridden: bool,
}

/// Functions of PostgreSQL that read tables by names or statements in strings.
const READERS: [&str; 5] = ["ts_rewrite", "ts_stat", "txid_status", "pg_xact_status", "currtid2"];

/// Volatile ones that read nothing and leave nothing that another session could see.
const HARMLESS: [&str; 9] = [
    "clock_timestamp",
    "gen_random_uuid",
    "pg_advisory_unlock_all",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "set_config",
    "timeofday",
];

impl Vocabulary {
    /// Whether a text names anything by which something may run that may leave something on a
    /// session. What can't be read names nothing: its effects are not known anyway.
    pub(crate) fn hides(&self, text: &str) -> bool {
        if self.hiding.is_empty() && self.overloads.is_empty() && self.operators.is_empty() {
            return false;
        }
        let lexemes = lex(text).unwrap_or_default();
        let opens = |at: usize| lexemes.get(at).is_some_and(opens);
        lexemes.iter().enumerate().any(|(at, lexeme)| match &lexeme.token {
            Token::Word(name) | Token::Quoted(name) => {
                let name = name.as_str();
                self.hiding.contains(name) || (self.overloads.contains(name) && opens(at + 1))
            }
            Token::Operator(sign) => self.operators.contains(sign.as_str()),
            _ => false,
        })
    }

    /// Whether a built-in function may be called where the answer must not depend on any row.
    ///
    /// `volatile` holds for the worst of all functions of this name.
    pub(crate) fn is_harmless(name: &str, volatile: bool) -> bool {
        // `table_to_xml` and its kin run statements that are put together from strings.
        let reads = READERS.contains(&name) || name.contains("_to_xml");
        !reads && (!volatile || HARMLESS.contains(&name))
    }
}
