//! Statements of one server whose answer may be shared: it depends on the rows of plain tables, on
//! the values in the statement and on the session's parameters, all of which are in the key.
//!
//! A statement passes if
//!
//! 1. it is a query that writes and locks nothing;
//! 2. every relation that it names, and at least one, is a plain table, or a view or a table with
//!    row security behind which there are only such, or a name given by WITH;
//! 3. every name in front of a parenthesis is a keyword, or a function of PostgreSQL's own that
//!    says the same for the same arguments and parameters ([`is_steady`]), or one whose body, in
//!    SQL, passes by these rules; and what is asked of a value like a field is none of its other
//!    functions;
//! 4. no name in it, wherever it stands, is that of any other relation, or of any other function or
//!    a type that somebody made, and no operator is one that somebody made in another language than
//!    C;
//! 5. it asks for no time, by no keyword and in no constant (`'today'`).
//!
//! Who asks is in the key: `current_user` passes, and `current_setting('app.tenant')`, of
//! parameters that somebody made.
//!
//! It is read word by word, as [`check_harmless`](super::check_harmless) does it: what is not known
//! does not pass. What is no valid statement may pass: a server says so.
//!
//! # Limits
//!
//! A time in words that stands in a row or in a parameter (`'today'`, cast to a date) is seen as a
//! text; who shares such a read gets the time of a load that began after he asked.

use std::collections::HashSet;

use super::catalog::Found;
use super::known::Known;
use super::lex::{Lexeme, Token};
use super::parse::Source;
use super::words::{self, KEYWORDS, given, listed, name, opens, word};

/// Why a statement does not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unsteady {
    /// It is no query, or writes, or locks.
    Command,
    /// It names something that is no plain table.
    Relation,
    /// It calls a function that is not on the list, or asks for the time or a name.
    Function,
    /// It can't be read, or in more than one way.
    Grammar,
}

/// What passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Steady {
    /// It has parameters.
    pub(crate) has_params: bool,
}

/// Words by which a query writes, locks, samples, or is written in a way that is not read here.
const OTHER: &str = "delete insert into merge operator table tablesample update";
/// Words that ask for a time, or for how a connection was made.
const ASKING: &str = "current_date current_time current_timestamp localtime localtimestamp \
                      system_user";
/// Words in constants that stand for a time.
const TIMES: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
/// Functions whose results depend on nothing but their arguments and on parameters of the session,
/// though PostgreSQL calls some of them stable for that.
const KEYED: &str = "array_to_json array_to_string concat concat_ws date date_part date_trunc \
                     extract format generate_series json_agg json_build_array \
                     json_build_object json_object_agg jsonb_agg jsonb_build_array \
                     jsonb_build_object jsonb_object_agg plainto_tsquery quote_literal \
                     quote_nullable row_to_json timezone to_char to_date to_json to_jsonb \
                     to_number to_timestamp to_tsquery to_tsvector websearch_to_tsquery";

/// Words that ask who and where a session is, and for what it has set.
const OF_SESSION: &str = "current_catalog current_database current_role current_schema \
                          current_schemas current_setting current_user session_user user";

/// Whether a built-in function says the same for the same arguments and parameters. `changing`: one
/// of all functions of this name is not immutable.
pub(crate) fn is_steady(name: &str, changing: bool) -> bool {
    !changing || listed(KEYED, name)
}

/// Checks a statement.
///
/// # Errors
///
/// Why it does not pass.
pub(crate) fn check_steady(text: &str, known: &Known) -> Result<Steady, Unsteady> {
    let source = Source::new(text).map_err(|_unreadable| Unsteady::Grammar)?;
    let lexemes = source.lexemes.as_slice();
    // What reads no table is cheap, or is asked for something else than its answer.
    if check(lexemes, known)? == 0 {
        return Err(Unsteady::Command);
    }
    let has_params = lexemes.iter().any(|lexeme| matches!(lexeme.token, Token::Param(_)));
    Ok(Steady { has_params })
}

/// Checks what stands behind a relation: a view's query, or one that has the condition of a policy.
///
/// # Errors
///
/// Why it does not pass.
pub(crate) fn check_definition(text: &str, known: &Known) -> Result<(), Unsteady> {
    let source = Source::new(text).map_err(|_unreadable| Unsteady::Grammar)?;
    check(&source.lexemes, known).map(drop)
}

/// Checks the body of a function that is one query. What is immutable may be computed while a
/// statement is planned, and kept in its plan: it must not depend on more than its arguments.
///
/// # Errors
///
/// Why it does not pass.
pub(crate) fn check_body(text: &str, is_immutable: bool, known: &Known) -> Result<(), Unsteady> {
    let source = Source::new(text).map_err(|_unreadable| Unsteady::Grammar)?;
    let tables = check(&source.lexemes, known)?;
    let depends = |name: &str| {
        listed(KEYED, name) || listed(OF_SESSION, name) || known.vocabulary.seen.contains(name)
    };
    if is_immutable && (tables > 0 || source.lexemes.iter().filter_map(name).any(depends)) {
        return Err(Unsteady::Function);
    }
    Ok(())
}

/// Checks a query by all rules but that it names a relation; says how many it names.
fn check(lexemes: &[Lexeme], known: &Known) -> Result<usize, Unsteady> {
    let check = Check { known, lexemes, given: given(lexemes) };
    let first = lexemes.iter().find(|lexeme| !opens(lexeme)).and_then(word);
    if !first.is_some_and(|first| listed("select values with", first)) {
        return Err(Unsteady::Command);
    }
    check.words()?;
    check.names()?;
    check.calls()?;
    check.relations()
}

struct Check<'a> {
    known: &'a Known,
    lexemes: &'a [Lexeme],
    /// Names given by WITH.
    given: HashSet<&'a str>,
}

impl Check<'_> {
    /// Rules 1 and 5.
    fn words(&self) -> Result<(), Unsteady> {
        let mut before = "";
        for lexeme in self.lexemes {
            let here = word(lexeme).unwrap_or_default();
            let locks = before == "for" && matches!(here, "share" | "no" | "key");
            if locks || listed(OTHER, here) {
                return Err(Unsteady::Command);
            }
            if listed(ASKING, here) {
                return Err(Unsteady::Function);
            }
            match &lexeme.token {
                Token::String(text) if names_time(text) => return Err(Unsteady::Function),
                Token::OtherString | Token::Unknown(_) => return Err(Unsteady::Grammar),
                _ => {}
            }
            before = here;
        }
        Ok(())
    }

    /// Rule 4.
    fn names(&self) -> Result<(), Unsteady> {
        let vocabulary = &self.known.vocabulary;
        for lexeme in self.lexemes {
            if let Token::Operator(sign) = &lexeme.token
                && vocabulary.operators.contains(sign.as_str())
            {
                return Err(Unsteady::Function);
            }
            let Some(name) = name(lexeme) else { continue };
            if vocabulary.made.contains(name) && !vocabulary.seen.contains(name) {
                return Err(Unsteady::Function);
            }
            if self.known.catalog.is_unsteady(name) {
                return Err(Unsteady::Relation);
            }
        }
        Ok(())
    }

    /// Rule 3.
    fn calls(&self) -> Result<(), Unsteady> {
        let vocabulary = &self.known.vocabulary;
        for at in 1..self.lexemes.len() {
            let called = &self.lexemes[at - 1];
            let Some(name) = name(called).filter(|_| opens(&self.lexemes[at])) else { continue };
            let schema = words::qualifier(self.lexemes, at - 1);
            let is_keyword = schema.is_none() && word(called).is_some_and(|w| listed(KEYWORDS, w));
            let is_builtin = matches!(schema, None | Some("pg_catalog"));
            let is_steady = vocabulary.seen.contains(name)
                || is_builtin && (vocabulary.steady.contains(name) || self.asks_of_session(at - 1));
            // `WITH a (b) AS`, `FROM a AS b (c)`: no call, unless there is something to be called.
            let is_alias = self.given.contains(name) || (at > 1 && self.lexemes[at - 2].is("as"));
            let is_name = is_alias && !vocabulary.unsteady.contains(name);
            if !is_keyword && !is_steady && !is_name {
                return Err(Unsteady::Function);
            }
        }
        let is_unsteady = |(_, name): (_, &str)| vocabulary.unsteady.contains(name);
        if words::applied(self.lexemes).any(is_unsteady) {
            return Err(Unsteady::Function);
        }
        Ok(())
    }

    /// Whether this is `current_setting('a.b')`: parameters that somebody made are in the key, not
    /// all of PostgreSQL's own are.
    fn asks_of_session(&self, at: usize) -> bool {
        let asks = self.lexemes[at].is("current_setting")
            && !self.known.vocabulary.made.contains("current_setting");
        let token = |at: usize| self.lexemes.get(at).map(|lexeme| &lexeme.token);
        let is = |at: usize, sign: &'static str| token(at) == Some(&Token::Punctuation(sign));
        // What follows decides what is a constant: `'a.b' || x` is none.
        let is_text = is(at + 3, "::") && self.lexemes.get(at + 4).is_some_and(|l| l.is("text"));
        let end = if is_text { at + 5 } else { at + 3 };
        let is_made =
            |name: &str| name.contains('.') && !name.to_ascii_lowercase().starts_with("sortie.");
        let named = matches!(token(at + 2), Some(Token::String(name)) if is_made(name));
        asks && named && (is(end, ")") || is(end, ","))
    }

    /// Rule 2.
    fn relations(&self) -> Result<usize, Unsteady> {
        let is_point =
            |at: usize| self.lexemes.get(at).is_some_and(|l| l.token == Token::Punctuation("."));
        let mut tables = 0;
        for at in words::relations(self.lexemes) {
            let first = name(&self.lexemes[at]).ok_or(Unsteady::Grammar)?;
            let is_long = is_point(at + 1);
            let second = if is_long { self.lexemes.get(at + 2).and_then(name) } else { None };
            let end = if is_long { at + 3 } else { at + 1 };
            let is_seen = |name: &str| self.known.vocabulary.seen.contains(name);
            if self.lexemes.get(end).is_some_and(opens) && second.is_none_or(is_seen) {
                // A function: rule 3 has it.
                continue;
            }
            let found = match second {
                _ if is_point(end) => Found::Unknown,
                None if self.given.contains(first) => continue,
                None => self.known.catalog.find(None, first),
                Some(second) => self.known.catalog.find(Some(first), second),
            };
            // By rule 4 all of several pass, and the key says in which schemas it is looked for.
            match found {
                Found::Table(_) | Found::Steady(_) | Found::Ambiguous => tables += 1,
                Found::Opaque(_) | Found::System | Found::Unknown => {
                    return Err(Unsteady::Relation);
                }
            }
        }
        Ok(tables)
    }
}

/// Whether a constant has a word in it that stands for a time.
fn names_time(text: &str) -> bool {
    let words = text.split(|character: char| !character.is_ascii_alphabetic());
    let is_time = |word: &str| TIMES.iter().any(|time| word.eq_ignore_ascii_case(time));
    words.into_iter().any(is_time)
}
