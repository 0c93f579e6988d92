//! Statements that any one shard may answer: what they say depends on no row of a sharded table.
//!
//! A statement passes if
//!
//! 1. it begins with a word of a short list;
//! 2. every name that stands where a relation stands is one of PostgreSQL's own, a reference
//!    table, or a name given by WITH;
//! 3. every name in front of a parenthesis is a keyword, or a function of PostgreSQL's own that
//!    reads no table;
//! 4. no other name in it, wherever it stands, is that of a relation, a function or a type that
//!    somebody made, and no operator is one that somebody made in a language that reads tables;
//! 5. nothing of PostgreSQL's own is asked for that tells of one server's rows, such as its
//!    statistics ([`statistics`]).
//!
//! It is read word by word, by PostgreSQL's lexical rules and not by a grammar: the last rule holds
//! whatever a word turns out to be, and what is not known is refused. What is no valid statement
//! passes as well; a server says so.

use std::collections::HashSet;

use crate::sql::catalog::Found;
use crate::sql::error::{SqlError, state};
use crate::sql::known::Known;
use crate::sql::lex::{Lexeme, Token};
use crate::sql::parse::Source;
use crate::sql::statistics;

/// Statements that hold no query: their first words.
const PLAIN: &str = "abort begin close commit deallocate discard end fetch move release reset \
                     rollback savepoint set show start unlisten";
/// Words that may begin a query.
const QUERIES: &str = "select values with";
/// Keywords that a parenthesis may follow without a function being called.
const KEYWORDS: &str = "all analyze and any array as between bit by case cast char character \
                        coalesce collate copy cube decimal dec distinct else end except exists \
                        explain extract filter float from full greatest group grouping having \
                        ilike in inner inout intersect interval is join lateral least left like \
                        limit materialized national nchar normalize not nullif numeric offset on \
                        only operator or outer over overlay partition position precision \
                        recursive right rollup row rows select sets similar some substring \
                        symmetric then time timestamp to treat trim union using values varchar \
                        varying when where window with within";
/// Words that end a FROM clause.
const AFTER_FROM: &str = "except for group having intersect limit offset order union where window";
/// Words between FROM or JOIN and a relation.
const BEFORE_RELATION: &str = "lateral only rows";

/// Why a statement does not pass.
#[derive(Debug)]
pub(crate) struct Harm {
    pub(crate) error: SqlError,
    /// It names something that only this cluster has.
    pub(crate) private: bool,
}

/// Checks a statement that is not a read of one sharded table.
///
/// # Errors
///
/// 0A000 and 25006 with the reason and its place, 42P01 for an unknown relation, 42601 for what
/// can't be read.
pub(crate) fn check_harmless(text: &str, known: &Known) -> Result<(), Harm> {
    let source = Source::new(text).map_err(Harm::of)?;
    let lexemes = source.lexemes.as_slice();
    let Some(first) = lexemes.first() else { return Ok(()) };
    let check = Check { known, lexemes, given: given(lexemes) };
    check.names()?;
    if word(first).is_some_and(|word| listed(PLAIN, word)) {
        return Ok(());
    }
    check.begins_query()?;
    check.words()?;
    statistics::check_names(lexemes).map_err(Harm::of)?;
    check.calls()?;
    let relations = check.relations()?;
    statistics::check_columns(lexemes, &relations).map_err(Harm::of)
}

struct Check<'a> {
    known: &'a Known,
    lexemes: &'a [Lexeme],
    /// Names given by WITH.
    given: HashSet<&'a str>,
}

impl Check<'_> {
    /// Rule 1, for what may hold a query.
    fn begins_query(&self) -> Result<(), Harm> {
        let at = |at: usize| self.lexemes.get(at).and_then(word).unwrap_or_default();
        let query = |at: usize| listed(QUERIES, self.first_word(at));
        let last = self.lexemes.last().and_then(word).unwrap_or_default();
        let fits = match at(0) {
            "" => query(0),
            "copy" => self.opens(1) && query(1) && last == "stdout",
            "declare" => {
                let body = self.lexemes.iter().position(|lexeme| lexeme.is("for"));
                body.is_some_and(|body| query(body + 1))
            }
            "explain" => {
                let options = "analyze verbose";
                let body = (1..self.lexemes.len()).find(|&place| listed(QUERIES, at(place)));
                let before = |body: usize| {
                    self.opens(1) || (1..body).all(|place| listed(options, at(place)))
                };
                body.is_some_and(before)
                    && !self
                        .lexemes
                        .iter()
                        .any(|lexeme| lexeme.is("execute") || lexeme.is("create"))
            }
            first => listed(QUERIES, first),
        };
        if fits {
            return Ok(());
        }
        let reason = "this statement can't be answered by one of several shards";
        let error = SqlError::unsupported(reason).at(self.lexemes[0].position);
        Err(Harm::of(error.hint(statistics::BIND)))
    }

    /// The first word at or after a place, past parentheses.
    fn first_word(&self, at: usize) -> &str {
        let mut rest = self.lexemes.get(at..).unwrap_or_default().iter();
        rest.find(|lexeme| !opens(lexeme)).and_then(word).unwrap_or_default()
    }

    fn opens(&self, at: usize) -> bool {
        self.lexemes.get(at).is_some_and(opens)
    }

    /// Rule 4.
    fn names(&self) -> Result<(), Harm> {
        for lexeme in self.lexemes {
            let private = |reason: String| {
                let error = SqlError::unsupported(reason).at(lexeme.position);
                Err(Harm { error, private: true })
            };
            match &lexeme.token {
                Token::Word(name) | Token::Quoted(name) => {
                    if self.known.catalog.is_private(name) {
                        return private(format!("\"{name}\" may have other rows on every shard"));
                    }
                    if self.known.vocabulary.made.contains(name.as_str()) {
                        return private(format!("\"{name}\" may read other rows on every shard"));
                    }
                }
                Token::Operator(sign)
                    if self.known.vocabulary.operators.contains(sign.as_str()) =>
                {
                    return private(format!("operator {sign} may read other rows on every shard"));
                }
                Token::OtherString => {
                    let reason = "this kind of constant is not supported across shards";
                    return Err(Harm::of(SqlError::unsupported(reason).at(lexeme.position)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Words by which a query writes, or names a relation in a way of its own.
    fn words(&self) -> Result<(), Harm> {
        let mut before = "";
        for lexeme in self.lexemes {
            let word = word(lexeme).unwrap_or_default();
            if matches!(word, "delete" | "insert" | "into" | "merge" | "update")
                || (before == "for" && matches!(word, "share" | "no" | "key"))
            {
                let command = if word == "into" { "SELECT INTO" } else { word };
                let command = command.to_uppercase();
                return Err(Harm::of(SqlError::read_only(&command).at(lexeme.position)));
            }
            if word == "table" {
                let reason = "TABLE is not supported across shards";
                return Err(Harm::of(SqlError::unsupported(reason).at(lexeme.position)));
            }
            before = word;
        }
        Ok(())
    }

    /// Rule 3.
    fn calls(&self) -> Result<(), Harm> {
        for at in 1..self.lexemes.len() {
            let called = &self.lexemes[at - 1];
            let Some(name) = name(called).filter(|_| self.opens(at)) else { continue };
            // A name after AS is given, a name after WITH as well.
            let is_given = at > 1 && self.lexemes[at - 2].is("as") || self.given.contains(name);
            let schema = self.qualifier(at - 1);
            let is_keyword = schema.is_none() && word(called).is_some_and(|w| listed(KEYWORDS, w));
            let is_builtin = matches!(schema, None | Some("pg_catalog" | "information_schema"))
                && self.known.vocabulary.functions.contains(name);
            if !is_given && !is_keyword && !is_builtin {
                let reason = format!("function {name}() may read other rows on every shard");
                return Err(Harm::of(SqlError::unsupported(reason).at(called.position)));
            }
        }
        Ok(())
    }

    /// The name in front of a name and a point.
    fn qualifier(&self, at: usize) -> Option<&str> {
        let point = at.checked_sub(1).map(|point| &self.lexemes[point].token);
        if point != Some(&Token::Punctuation(".")) {
            return None;
        }
        Some(at.checked_sub(2).and_then(|at| name(&self.lexemes[at])).unwrap_or_default())
    }

    /// Rule 2: what stands after FROM and JOIN, and after commas between relations. Returns the
    /// places of their names.
    fn relations(&self) -> Result<Vec<usize>, Harm> {
        let mut places = Vec::new();
        // Of each open parenthesis: whether there is a SELECT in it, and a FROM clause now.
        let mut open = vec![(false, false)];
        let mut awaited = false;
        let mut before = "";
        for (at, lexeme) in self.lexemes.iter().enumerate() {
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
                    self.relation(at)?;
                    places.push(at);
                }
                _ => {}
            }
            before = word;
        }
        Ok(places)
    }

    /// The relation, or the function, whose name begins here.
    fn relation(&self, at: usize) -> Result<(), Harm> {
        let lexeme = &self.lexemes[at];
        let refused = |error: SqlError| Err(Harm::of(error.at(lexeme.position)));
        let Some(first) = name(lexeme) else {
            return refused(SqlError::unsupported("this kind of table is not supported"));
        };
        let is_point =
            |at: usize| self.lexemes.get(at).is_some_and(|l| l.token == Token::Punctuation("."));
        let second = if is_point(at + 1) { self.lexemes.get(at + 2).and_then(name) } else { None };
        let end = if second.is_some() { at + 3 } else { at + 1 };
        if self.opens(end) {
            // A function: rule 3 has it.
            return Ok(());
        }
        let found = match second {
            _ if is_point(end) => Found::Unknown,
            None if self.given.contains(first) => return Ok(()),
            None => self.known.catalog.find(None, first),
            Some(second) => self.known.catalog.find(Some(first), second),
        };
        let shown = second.map_or_else(|| first.to_owned(), |second| format!("{first}.{second}"));
        match found {
            // Only reference tables are left: rule 4 has found the others.
            Found::System | Found::Table(_) => Ok(()),
            Found::Unknown => {
                let message = format!("relation \"{shown}\" does not exist");
                refused(SqlError::new(state::UNDEFINED_TABLE, message))
            }
            Found::Opaque(_) | Found::Ambiguous => {
                let reason = format!("\"{shown}\" may have other rows on every shard");
                refused(SqlError::unsupported(reason))
            }
        }
    }
}

/// The names that WITH gives: those in front of `AS (`, `AS MATERIALIZED (` and the like. More
/// than there are does no harm: a name that stands for a relation of the cluster never passes.
fn given(lexemes: &[Lexeme]) -> HashSet<&str> {
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

fn word(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn name(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

fn opens(lexeme: &Lexeme) -> bool {
    lexeme.token == Token::Punctuation("(")
}

fn listed(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

impl Harm {
    fn of(error: SqlError) -> Self {
        Self { error, private: false }
    }
}
