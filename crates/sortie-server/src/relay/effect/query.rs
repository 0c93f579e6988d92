//! Statements that read.

use super::{Effect, Proven, Reason, call, set};
use crate::sql::{Lexeme, Token};

/// What a query begins with.
const READS: [&str; 4] = ["select", "with", "values", "table"];

/// `SELECT` and its relatives, and `WITH`, which may also write.
pub(super) fn query(statement: &[Lexeme]) -> Effect {
    if let Some(effect) = set_config(statement) {
        return effect;
    }
    if writes(statement) {
        return write(statement);
    }
    match call::unproven(statement, &Proven::new()) {
        Some(reason) => Effect::Dirty(reason),
        None => Effect::Nothing,
    }
}

/// Whether a statement is a query that writes nothing, and calls only what leaves nothing.
pub(super) fn only_reads(statement: &[Lexeme], proven: &Proven) -> bool {
    let first = statement.first();
    first.is_some_and(|first| READS.iter().any(|word| first.is(word)) || is_open(first))
        && !writes(statement)
        && call::unproven(statement, proven).is_none()
}

/// `INSERT` and its relatives, and a query that writes.
pub(super) fn write(statement: &[Lexeme]) -> Effect {
    match call::unproven_in_write(statement) {
        Some(reason) if reason.outlasts_discard() => Effect::Dirty(reason),
        _ => Effect::Dirty(Reason::Write),
    }
}

/// `EXPLAIN`, without that word. It plans, which may call functions; with `ANALYZE` it also runs.
///
/// What stands right behind the options is the statement: a word further in says nothing.
pub(super) fn explain(rest: &[Lexeme]) -> Effect {
    let is_option = |lexeme: &Lexeme| lexeme.is("verbose") || is_analyze(lexeme);
    let options = match rest.first().map(|lexeme| &lexeme.token) {
        Some(Token::Punctuation("(")) => {
            let close = |lexeme: &Lexeme| lexeme.token == Token::Punctuation(")");
            rest.iter().position(close).map_or(rest.len(), |at| at + 1)
        }
        _ => rest.iter().take_while(|lexeme| is_option(lexeme)).count(),
    };
    let (options, statement) = rest.split_at(options);
    let Some(first) = statement.first() else { return Effect::Dirty(Reason::Unknown) };
    let plans = ["insert", "update", "delete", "merge", "declare"];
    if first.is("execute") {
        return Effect::Dirty(Reason::Prepare);
    }
    if !READS.iter().chain(&plans).any(|word| first.is(word)) {
        return Effect::Dirty(Reason::Unknown);
    }
    if options.iter().any(is_analyze) {
        return super::effect(statement);
    }
    call::unproven(statement, &Proven::new()).map_or(Effect::Nothing, Effect::Dirty)
}

fn is_analyze(lexeme: &Lexeme) -> bool {
    lexeme.is("analyze") || lexeme.is("analyse")
}

/// `COPY`, without that word.
pub(super) fn copy(rest: &[Lexeme]) -> Effect {
    // A query in parentheses, or a table with its columns.
    let mut depth = 0_usize;
    let way = rest.iter().position(|lexeme| {
        match lexeme.token {
            Token::Punctuation("(") => depth += 1,
            Token::Punctuation(")") => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (lexeme.is("to") || lexeme.is("from"))
    });
    let Some(way) = way else { return Effect::Dirty(Reason::Unknown) };
    let to_client =
        rest[way].is("to") && rest.get(way + 1).is_some_and(|lexeme| lexeme.is("stdout"));
    if !to_client {
        return Effect::Dirty(Reason::Write);
    }
    match rest.first().map(|lexeme| &lexeme.token) {
        Some(Token::Punctuation("(")) => query(&rest[..way]),
        _ => Effect::Nothing,
    }
}

/// `DECLARE`, without that word: a cursor is gone with its transaction unless it is held.
pub(super) fn declare(rest: &[Lexeme]) -> Effect {
    let Some(query_at) = rest.iter().position(|lexeme| lexeme.is("for")) else {
        return Effect::Dirty(Reason::Unknown);
    };
    let (head, statement) = rest.split_at(query_at);
    if head.windows(2).any(|pair| pair[0].is("with") && pair[1].is("hold")) {
        return Effect::Dirty(Reason::Cursor);
    }
    query(&statement[1..])
}

/// `SELECT set_config('name', 'value', false)`, alone: a `SET` in other words.
fn set_config(statement: &[Lexeme]) -> Option<Effect> {
    let call = match statement {
        [select, schema, dot, call @ ..]
            if select.is("select")
                && schema.is("pg_catalog")
                && dot.token == Token::Punctuation(".") =>
        {
            call
        }
        [select, call @ ..] if select.is("select") => call,
        _ => return None,
    };
    let [function, open, name, first, value, second, local, close, alias @ ..] = call else {
        return None;
    };
    let shape = [(open, "("), (first, ","), (second, ","), (close, ")")];
    let named = match alias {
        [] => true,
        [name] => is_name(name),
        [word, name] => word.is("as") && is_name(name),
        _ => false,
    };
    let shaped = shape.iter().all(|(lexeme, text)| lexeme.token == Token::Punctuation(text));
    if !function.is("set_config") || !named || !shaped {
        return None;
    }
    let (Token::String(name), Token::String(_)) = (&name.token, &value.token) else { return None };
    if local.is("true") {
        return Some(Effect::Nothing);
    }
    let name = name.to_ascii_lowercase();
    // Sortie's own switches are set by SET only.
    let plain = local.is("false") && !name.starts_with("sortie.");
    plain.then(|| set::assign(&name, std::slice::from_ref(value)))
}

fn is_open(lexeme: &Lexeme) -> bool {
    lexeme.token == Token::Punctuation("(")
}

fn is_name(lexeme: &Lexeme) -> bool {
    matches!(lexeme.token, Token::Word(_) | Token::Quoted(_))
}

/// Whether a query writes: `WITH … AS (INSERT …)`, `SELECT … INTO`.
fn writes(statement: &[Lexeme]) -> bool {
    let writes = |(at, lexeme): (usize, &Lexeme)| {
        let Token::Word(word) = &lexeme.token else { return false };
        match word.as_str() {
            "into" | "insert" | "delete" | "merge" => true,
            // `FOR UPDATE`, `FOR NO KEY UPDATE`: locks, which end with the transaction.
            "update" => !at
                .checked_sub(1)
                .is_some_and(|at| statement[at].is("for") || statement[at].is("key")),
            _ => false,
        }
    };
    statement.iter().enumerate().any(writes)
}
