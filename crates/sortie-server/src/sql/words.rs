//! Statements read word by word, by PostgreSQL's lexical rules and not by a grammar: where
//! relations are named, what is called, what WITH names.

use std::collections::HashSet;

use super::lex::{Lexeme, Token};

/// Keywords that a parenthesis may follow without a function being called.
pub(super) const KEYWORDS: &str = "all analyze and any array as between bit by case cast char \
                               character coalesce collate copy cube decimal dec distinct else end \
                               except exists explain extract filter float from full greatest \
                               group grouping having ilike in inner inout intersect interval is \
                               join lateral least left like limit materialized national nchar \
                               normalize not nullif numeric offset on only operator or outer over \
                               overlay partition position precision recursive right rollup row \
                               rows select sets similar some substring symmetric then time \
                               timestamp to treat trim union using values varchar varying when \
                               where window with within";
/// Words that end a FROM clause.
const AFTER_FROM: &str = "except for group having intersect limit offset order union where window";
/// Words between FROM or JOIN and a relation.
const BEFORE_RELATION: &str = "lateral only rows";

/// The places where relations are named, or functions that stand for one: after FROM and JOIN, and
/// after commas between relations.
pub(super) fn relations(lexemes: &[Lexeme]) -> Vec<usize> {
    let mut places = Vec::new();
    // Of each open parenthesis: whether there is a SELECT in it, and a FROM clause now.
    let mut open = vec![(false, false)];
    let mut awaited = false;
    let mut before = "";
    for (at, lexeme) in lexemes.iter().enumerate() {
        let last = open.last_mut().expect("never empty");
        let word = word(lexeme).unwrap_or_default();
        match &lexeme.token {
            Token::Punctuation("(") => {
                // `FROM (a JOIN b …)` and `FROM (SELECT …)`: relations either way.
                let nested = awaited;
                open.push((nested, nested));
                continue;
            }
            Token::Punctuation(")") => {
                open.truncate((open.len() - 1).max(1));
                awaited = false;
            }
            Token::Punctuation(",") => awaited = last.1,
            _ if word == "select" => (*last, awaited) = ((true, false), false),
            _ if word == "from" && last.0 && before != "distinct" => {
                (last.1, awaited) = (true, true);
            }
            _ if word == "join" => (last.1, awaited) = (true, true),
            _ if listed(AFTER_FROM, word) => (last.1, awaited) = (false, false),
            _ if awaited && !listed(BEFORE_RELATION, word) => {
                awaited = false;
                places.push(at);
            }
            _ => {}
        }
        before = word;
    }
    places
}

/// The name in front of a name and a point.
pub(super) fn qualifier(lexemes: &[Lexeme], at: usize) -> Option<&str> {
    let point = at.checked_sub(1).map(|point| &lexemes[point].token);
    if point != Some(&Token::Punctuation(".")) {
        return None;
    }
    Some(at.checked_sub(2).and_then(|at| name(&lexemes[at])).unwrap_or_default())
}

/// The names that are asked of a value: `(a).b`, `a[1].b` and `$1.b` are fields, or calls of
/// functions with one argument.
pub(super) fn applied(lexemes: &[Lexeme]) -> impl Iterator<Item = (&Lexeme, &str)> {
    lexemes.windows(3).filter_map(|three| {
        let is_value = matches!(three[0].token, Token::Punctuation(")" | "]") | Token::Param(_));
        let is_point = three[1].token == Token::Punctuation(".");
        if is_value && is_point { Some((&three[2], name(&three[2])?)) } else { None }
    })
}

/// The names that WITH gives: those in front of `AS (`, `AS MATERIALIZED (` and the like. More
/// than there are does no harm: a name that stands for a relation of the cluster never passes.
pub(super) fn given(lexemes: &[Lexeme]) -> HashSet<&str> {
    let with = lexemes.iter().any(|lexeme| lexeme.is("with"));
    let is_as = |at: usize| lexemes.get(at).is_some_and(|lexeme| lexeme.is("as"));
    let names = lexemes.iter().enumerate().filter(|(at, _)| {
        let listed = lexemes.get(at + 1).is_some_and(opens);
        let after = if listed {
            let close = |lexeme: &Lexeme| lexeme.token == Token::Punctuation(")");
            at + 2 + lexemes[at + 1..].iter().position(close).unwrap_or(lexemes.len())
        } else {
            at + 1
        };
        is_as(after)
    });
    names.filter(|_| with).filter_map(|(_, lexeme)| name(lexeme)).collect()
}

pub(super) fn word(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

pub(super) fn name(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

pub(super) fn opens(lexeme: &Lexeme) -> bool {
    lexeme.token == Token::Punctuation("(")
}

pub(super) fn listed(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}
