//! Which functions a query calls, as far as its text says so.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::{Proven, Reason};
use crate::sql::{Lexeme, Token};

/// Built-in functions that leave nothing on a session, whatever they are called with. Those that
/// run a text as SQL are not among them, nor those that show what a session has left.
static HARMLESS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("harmless.txt").lines().collect());

/// Words that an opening parenthesis may follow without a function being called, and those that
/// are built into the grammar like a function.
const WORDS: [&str; 101] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "by",
    "case",
    "cast",
    "character",
    "check",
    "coalesce",
    "columns",
    "cube",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "dec",
    "decimal",
    "distinct",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "fetch",
    "filter",
    "first",
    "float",
    "from",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "intersect",
    "is",
    "isnull",
    "join",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "least",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "materialized",
    "national",
    "nchar",
    "next",
    "not",
    "notnull",
    "nullif",
    "offset",
    "on",
    "operator",
    "or",
    "over",
    "partition",
    "precision",
    "range",
    "real",
    "returning",
    "rollup",
    "row",
    "rows",
    "select",
    "sets",
    "similar",
    "some",
    "symmetric",
    "then",
    "to",
    "treat",
    "union",
    "user",
    "using",
    "values",
    "varying",
    "when",
    "where",
    "with",
    "xmlelement",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
    "zone",
];

/// Names of relations that show what a session has left.
const SHOWING: [&str; 2] = ["pg_prepared_statements", "pg_cursors"];

/// Whether the function of this name that PostgreSQL has made leaves nothing.
pub(crate) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(name)
}

/// Whether a function that is called by this name is not seen, or taken for PostgreSQL's own.
pub(crate) fn is_taken(name: &str) -> bool {
    is_harmless(name) || WORDS.contains(&name)
}

/// Why a statement calls something unproven, if it does.
pub(super) fn unproven(statement: &[Lexeme], proven: &Proven) -> Option<Reason> {
    (0..statement.len()).find_map(|at| unproven_at(statement, at, proven))
}

/// Why a statement that writes calls something unproven, if it does. A list of columns follows the
/// table's name there, and some words more.
pub(super) fn unproven_in_write(statement: &[Lexeme]) -> Option<Reason> {
    let words = ["conflict", "do", "insert", "set"];
    let is_call = |at: &usize| {
        !words.iter().any(|word| statement[*at].is(word)) && !is_target(statement, *at)
    };
    let none = Proven::new();
    (0..statement.len()).filter(is_call).find_map(|at| unproven_at(statement, at, &none))
}

/// Whether the table is named here that is written to: `INTO schema.name`.
fn is_target(statement: &[Lexeme], mut at: usize) -> bool {
    while at >= 2 && qualified(statement, at) {
        at -= 2;
    }
    at.checked_sub(1).is_some_and(|before| statement[before].is("into"))
}

fn unproven_at(statement: &[Lexeme], at: usize, proven: &Proven) -> Option<Reason> {
    match &statement[at].token {
        Token::Word(word) | Token::Quoted(word) if SHOWING.contains(&word.as_str()) => {
            Some(Reason::Prepare)
        }
        Token::Unknown(_) => Some(Reason::Unreadable),
        // A field, or a function that is called like one.
        Token::Word(name) | Token::Quoted(name) if is_applied(statement, at) => {
            (!is_harmless(name) && !proven.contains(name.as_str())).then(|| by_name(name))
        }
        token if is(statement.get(at + 1), "(") => match token {
            Token::Word(word) if word == "operator" => own_operator(&statement[at + 2..]),
            Token::Word(word) if WORDS.contains(&word.as_str()) && !qualified(statement, at) => {
                None
            }
            Token::Word(name) | Token::Quoted(name) if proven.contains(name.as_str()) => None,
            Token::Word(name) | Token::Quoted(name) => called(statement, at, name),
            // A quoted name with escapes.
            Token::OtherString => Some(Reason::Function),
            _ => None,
        },
        _ => None,
    }
}

/// Why calling what is named at `at` is unproven, if it is called at all.
fn called(statement: &[Lexeme], at: usize, name: &str) -> Option<Reason> {
    if qualified(statement, at) {
        let schema = at.checked_sub(2).map(|schema| &statement[schema].token);
        let Some(Token::Word(schema) | Token::Quoted(schema)) = schema else {
            return Some(Reason::Function);
        };
        match schema.as_str() {
            "pg_catalog" => {}
            "information_schema" if name.starts_with("_pg_") => return None,
            _ => return Some(Reason::Function),
        }
    } else if is_alias(statement, at) || is_common_table(statement, at) {
        return None;
    }
    (!is_harmless(name)).then(|| by_name(name))
}

/// Why calling a function of this name makes a session dirty, if that is not harmless.
fn by_name(name: &str) -> Reason {
    match name {
        "set_config" => Reason::SetConfig,
        "nextval" | "currval" | "lastval" | "setval" => Reason::Sequence,
        name if name.contains("advisory") => Reason::Lock,
        _ => Reason::Function,
    }
}

/// Whether what stands at `at` is a type, or a name given to a table and its columns.
fn is_alias(statement: &[Lexeme], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    if statement[before].is("as") || is(statement.get(before), "::") {
        return true;
    }
    if !is(statement.get(before), ")") {
        return false;
    }
    // `(SELECT …) t (a, b)` and `f(…) t (a, b)`, but not `DISTINCT ON (…) f(…)`.
    let Some(open) = opening(statement, before) else { return false };
    let query = ["select", "values", "with", "table"];
    let inside = &statement[open + 1];
    let named = open.checked_sub(1).is_some_and(|name| {
        matches!(&statement[name].token, Token::Word(word) if !WORDS.contains(&word.as_str()))
    });
    named || query.iter().any(|word| inside.is(word))
}

/// Whether what stands at `at` is the name of a common table: `WITH t (a, b) AS (SELECT …)`.
fn is_common_table(statement: &[Lexeme], at: usize) -> bool {
    let Some(close) = closing(statement, at + 1) else { return false };
    let mut rest = statement[close + 1..].iter();
    if !rest.next().is_some_and(|lexeme| lexeme.is("as")) {
        return false;
    }
    let mut rest = rest.skip_while(|lexeme| lexeme.is("not") || lexeme.is("materialized"));
    let open = rest.next();
    let begins = ["select", "with", "values", "table", "insert", "update", "delete", "merge"];
    is(open, "(") && rest.next().is_some_and(|word| begins.iter().any(|begin| word.is(begin)))
}

/// An operator by its schema: only those of the system are taken for harmless.
fn own_operator(rest: &[Lexeme]) -> Option<Reason> {
    match rest {
        [schema, dot, ..] if is(Some(dot), ".") && !schema.is("pg_catalog") => {
            Some(Reason::Function)
        }
        _ => None,
    }
}

/// Whether what stands at `at` is asked of a value: `(a).b`, `a[1].b` and `$1.b` are fields, or
/// calls of functions with one argument.
fn is_applied(statement: &[Lexeme], at: usize) -> bool {
    let Some(value) = at.checked_sub(2).filter(|_| qualified(statement, at)) else { return false };
    is(statement.get(value), ")")
        || is(statement.get(value), "]")
        || matches!(statement[value].token, Token::Param(_))
}

fn qualified(statement: &[Lexeme], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|dot| is(statement.get(dot), "."))
}

/// Where the parenthesis that opens at `at` closes.
fn closing(statement: &[Lexeme], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (at..statement.len()).find(|&at| {
        if is(statement.get(at), "(") {
            depth += 1;
        } else if is(statement.get(at), ")") {
            depth = depth.saturating_sub(1);
        }
        depth == 0
    })
}

/// Where the parenthesis that closes at `at` was opened.
fn opening(statement: &[Lexeme], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (0..=at).rev().find(|&at| {
        if is(statement.get(at), ")") {
            depth += 1;
        } else if is(statement.get(at), "(") {
            depth = depth.saturating_sub(1);
        }
        depth == 0
    })
}

fn is(lexeme: Option<&Lexeme>, text: &str) -> bool {
    matches!(lexeme, Some(Lexeme { token: Token::Punctuation(found), .. }) if *found == text)
}
