//! Statements that any one shard may answer: what they say depends on no row of a sharded table.
//!
//! A statement passes if
//!
//! 1. it begins with a word of a short list;
//! 2. every name that stands where a relation stands is one of PostgreSQL's own, a reference
//!    table, or a name given by WITH;
//! 3. every name in front of a parenthesis is a keyword, or a function of PostgreSQL's own that
//!    reads no table; and what is asked of a value like a field is none of its other functions;
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
use crate::sql::words::{self, KEYWORDS, given, listed, name, opens, word};

/// Statements that hold no query: their first words.
const PLAIN: &str = "abort begin close commit deallocate discard end fetch move release reset \
                     rollback savepoint set show start unlisten";
/// Words that may begin a query.
const QUERIES: &str = "select values with";
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
            let schema = words::qualifier(self.lexemes, at - 1);
            let is_keyword = schema.is_none() && word(called).is_some_and(|w| listed(KEYWORDS, w));
            let is_builtin = matches!(schema, None | Some("pg_catalog" | "information_schema"))
                && self.known.vocabulary.functions.contains(name);
            if !is_given && !is_keyword && !is_builtin {
                return Err(unknown(called, name));
            }
        }
        let vocabulary = &self.known.vocabulary;
        let harms =
            |name: &str| vocabulary.unsteady.contains(name) && !vocabulary.functions.contains(name);
        match words::applied(self.lexemes).find(|(_, name)| harms(name)) {
            Some((called, name)) => Err(unknown(called, name)),
            None => Ok(()),
        }
    }

    /// Rule 2. Returns the places of the relations' names.
    fn relations(&self) -> Result<Vec<usize>, Harm> {
        let places = words::relations(self.lexemes);
        places.iter().try_for_each(|place| self.relation(*place))?;
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
            Found::Opaque(_) | Found::Steady(_) | Found::Ambiguous => {
                let reason = format!("\"{shown}\" may have other rows on every shard");
                refused(SqlError::unsupported(reason))
            }
        }
    }
}

/// A call of a function that is not known to read no table.
fn unknown(called: &Lexeme, name: &str) -> Harm {
    let reason = format!("function {name}() may read other rows on every shard");
    Harm::of(SqlError::unsupported(reason).at(called.position))
}

impl Harm {
    fn of(error: SqlError) -> Self {
        Self { error, private: false }
    }
}
