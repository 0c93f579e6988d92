//! SQL as this endpoint understands it: statements in, small typed forms out.
//!
//! A *statement* is classified once ([`prepare`]), then bound to the values of its parameters
//! ([`Prepared::bind`]): what comes out is either a read for the shards or something that the
//! session answers itself.
//!
//! | step | module |
//! |---|---|
//! | text to lexemes, PostgreSQL's rules | `lex`, `split` |
//! | first words: session, write, query | `command`, `local`, `settings` |
//! | lexemes to a syntax tree, bounded | `parse` |
//! | tree to the typed form, by a whitelist | `analyze`, `ir`, `types`, `catalog` |
//! | values of parameters, folding | `prepared`, `decode`, `value`, `filter` |
//! | the typed form to SQLite or PostgreSQL | `deparse` |
//! | a text without comments, what is proven of it | `canonical`, `proof` |
//!
//! # Invariants
//!
//! 1. Only what is on the list is understood: everything else is refused, never approximated.
//! 2. No text of a client reaches one of several shards: a read is written anew, its constants as
//!    parameters.
//! 3. Types, names and errors are PostgreSQL's; text is ordered by its bytes (collation `C`).

mod analyze;
mod array;
mod canonical;
mod catalog;
mod command;
mod decimal;
mod decode;
mod deparse;
mod error;
mod filter;
mod harmless;
mod ir;
mod known;
mod lex;
mod local;
mod parse;
mod prepared;
mod proof;
mod report;
mod settings;
mod split;
mod spread;
mod statistics;
mod steady;
mod types;
mod utf8;
mod value;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use self::canonical::Canonical;
pub(crate) use self::catalog::{
    Catalog, Collation, Placement, Relation, RelationKind, Table, TableColumn,
};
pub(crate) use self::decimal::Decimal;
pub(crate) use self::decode::result_formats;
pub(crate) use self::deparse::{Dialect, Query, SUM_LOW_BITS};
pub(crate) use self::error::{SqlError, state};
pub(crate) use self::filter::Keys;
pub(crate) use self::harmless::{Harm, check_harmless};
pub(crate) use self::ir::{Aggregate, Item, Scalar};
pub(crate) use self::known::{Known, Vocabulary};
pub(crate) use self::lex::{Lexeme, Token, comment, lex};
pub(crate) use self::local::{ConstItem, ConstRow, Local};
pub(crate) use self::prepared::{Bound, BoundRead, Identity, Prepared, prepare};
pub(crate) use self::proof::{Proof, Shareable};
pub(crate) use self::settings::{Decisive, Settings};
pub(crate) use self::split::{Piece, split};
pub(crate) use self::steady::{Unsteady, check_body, check_definition, check_steady, is_steady};
pub(crate) use self::types::{Column, Type};
pub(crate) use self::utf8::utf8;
pub(crate) use self::value::Datum;
