//! Statements that begin and end transactions.

use crate::sql::{Lexeme, Token};

/// What a statement does to the transaction of its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// Begins one in which every statement has a snapshot of its own, unless the session's default
    /// says otherwise, and which a standby admits; the tag of its answer.
    Begin(&'static str),
    /// Ends it, and begins no other.
    Commit,
    /// As [`Commit`](Self::Commit), and takes back what it did.
    Rollback,
    /// Anything else: savepoints, other kinds of transactions, transactions in a row.
    Other,
}

impl Control {
    /// What the statement does that begins with this word and goes on like this.
    pub(super) fn of(first: &str, rest: &[Lexeme]) -> Self {
        match first {
            "begin" if is_plain(skip(rest, &["work", "transaction"])) => Self::Begin("BEGIN"),
            "start" if rest.first().is_some_and(|word| word.is("transaction")) => {
                if is_plain(&rest[1..]) { Self::Begin("START TRANSACTION") } else { Self::Other }
            }
            "commit" | "end" if ends(rest) => Self::Commit,
            "rollback" | "abort" if ends(rest) => Self::Rollback,
            _ => Self::Other,
        }
    }
}

/// What follows a word that may be left out.
fn skip<'a>(rest: &'a [Lexeme], words: &[&str]) -> &'a [Lexeme] {
    match rest.split_first() {
        Some((first, rest)) if words.iter().any(|word| first.is(word)) => rest,
        _ => rest,
    }
}

fn ends(rest: &[Lexeme]) -> bool {
    let rest = skip(rest, &["work", "transaction"]);
    rest.is_empty() || is_words(rest, &["and", "no", "chain"])
}

fn is_words(lexemes: &[Lexeme], words: &[&str]) -> bool {
    lexemes.len() == words.len() && lexemes.iter().zip(words).all(|(it, word)| it.is(word))
}

/// Whether all modes of a transaction are of those that change nothing for a single read.
fn is_plain(mut modes: &[Lexeme]) -> bool {
    const PLAIN: [&[&str]; 3] = [
        &["read", "only"],
        &["isolation", "level", "read", "committed"],
        &["isolation", "level", "read", "uncommitted"],
    ];
    let mut is_first = true;
    while !modes.is_empty() {
        if !is_first && modes[0].token == Token::Punctuation(",") {
            modes = &modes[1..];
        }
        let found = PLAIN
            .iter()
            .find(|mode| modes.get(..mode.len()).is_some_and(|begin| is_words(begin, mode)));
        let Some(mode) = found else { return false };
        modes = &modes[mode.len()..];
        is_first = false;
    }
    true
}
