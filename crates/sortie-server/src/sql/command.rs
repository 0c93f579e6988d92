//! What kind of statement it is, by the word it begins with.

use crate::sql::error::SqlError;
use crate::sql::lex::{Lexeme, Token};
use crate::sql::local::{self, Local};
use crate::sql::parse::Source;

/// A statement that is not refused at once.
pub(super) enum Command {
    Local(Local),
    /// `SELECT` and its relatives: for the parser.
    Query,
}

/// Statements that are read by the parser as queries.
const QUERIES: [&str; 3] = ["select", "with", "values"];
/// Statements that change something, and are refused as in a read-only transaction.
const WRITES: [&str; 23] = [
    "alter",
    "analyze",
    "checkpoint",
    "cluster",
    "comment",
    "copy",
    "create",
    "delete",
    "drop",
    "grant",
    "import",
    "insert",
    "load",
    "merge",
    "notify",
    "reassign",
    "refresh",
    "reindex",
    "revoke",
    "security",
    "truncate",
    "update",
    "vacuum",
];
/// Those of them that the parser knows well enough to tell a syntax error.
const PARSED_WRITES: [&str; 9] =
    ["alter", "create", "delete", "drop", "grant", "insert", "revoke", "truncate", "update"];
/// Statements of PostgreSQL that are neither, and not served.
const OTHERS: [&str; 18] = [
    "call",
    "close",
    "declare",
    "do",
    "execute",
    "explain",
    "fetch",
    "listen",
    "lock",
    "move",
    "prepare",
    "release",
    "savepoint",
    "table",
    "unlisten",
    "show",
    "set",
    "reset",
];

/// Classifies a statement by its first words.
///
/// # Errors
///
/// 25006 for what writes, 0A000 for what is not served, 42601 for what is no statement.
pub(super) fn classify(source: &Source<'_>) -> Result<Command, SqlError> {
    if source.lexemes.is_empty() {
        return Ok(Command::Local(Local::Empty));
    }
    let Some(first) = source.words().next() else {
        // `(select …)`, or nothing that PostgreSQL would understand: the parser knows.
        return Ok(Command::Query);
    };
    if QUERIES.contains(&first) {
        return Ok(Command::Query);
    }
    if let Some(local) = local::parse(source)? {
        return Ok(Command::Local(local));
    }
    if WRITES.contains(&first) {
        return Err(write(source, first));
    }
    if OTHERS.contains(&first) {
        let reason = format!("{} is not supported", first.to_ascii_uppercase());
        return Err(SqlError::unsupported(reason).at(source.lexemes[0].position));
    }
    Err(source.syntax_error(source.lexemes.first()))
}

/// Why a statement that begins with a writing word is refused.
fn write(source: &Source<'_>, first: &str) -> SqlError {
    let is_query = |lexeme: &Lexeme| lexeme.token == Token::Punctuation("(");
    let to = source.next_of(0, &["from", "to"]).is_some_and(|found| found.is("to"));
    if first == "copy" && (to || source.lexemes.get(1).is_some_and(is_query)) {
        let reason = "COPY TO is not supported";
        return SqlError::unsupported(reason).at(source.lexemes[0].position);
    }
    // What the parser does not even accept as SQL is reported as such.
    if PARSED_WRITES.contains(&first)
        && let Err(error) = source.parse()
    {
        return error;
    }
    SqlError::read_only(&name(source, first))
}

/// The statement's name as PostgreSQL's command tags have it.
fn name(source: &Source<'_>, first: &str) -> String {
    const OBJECTS: [&str; 13] = [
        "database",
        "domain",
        "extension",
        "function",
        "index",
        "role",
        "schema",
        "sequence",
        "table",
        "trigger",
        "type",
        "user",
        "view",
    ];
    let command = first.to_ascii_uppercase();
    match first {
        "truncate" => "TRUNCATE TABLE".to_owned(),
        "copy" => "COPY FROM".to_owned(),
        "create" | "alter" | "drop" => {
            let object = source.words().skip(1).find(|word| OBJECTS.contains(word));
            let materialized = source.words().any(|word| word == "materialized");
            match object {
                Some("view") if materialized => format!("{command} MATERIALIZED VIEW"),
                Some("user") => format!("{command} ROLE"),
                Some(object) => format!("{command} {}", object.to_ascii_uppercase()),
                None => command,
            }
        }
        _ => command,
    }
}
