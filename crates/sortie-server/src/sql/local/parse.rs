//! The grammar of the session's own statements, straight from the lexemes.

use super::Local;
use crate::sql::error::SqlError;
use crate::sql::lex::{Lexeme, Token};
use crate::sql::parse::Source;

/// Reads a statement that the session answers; `None` if it begins like none of them.
///
/// # Errors
///
/// 42601 past that beginning, 0A000 for what would change more than the session can.
pub(in crate::sql) fn parse(source: &Source<'_>) -> Result<Option<Local>, SqlError> {
    let mut cursor = Cursor { source, at: 1 };
    let local = match source.words().next() {
        Some("begin") => {
            cursor.optional(&["work", "transaction"]);
            cursor.modes(Scope::Transaction)?;
            Local::Begin { start: false }
        }
        Some("start") => {
            cursor.expect("transaction")?;
            cursor.modes(Scope::Transaction)?;
            Local::Begin { start: true }
        }
        Some("commit" | "end") => Local::Commit { chain: cursor.chain()? },
        Some("rollback" | "abort") => Local::Rollback { chain: cursor.chain()? },
        Some("set") => cursor.set()?,
        Some("show") if cursor.accept("all") => Local::ShowAll,
        Some("show") => Local::Show(cursor.parameter()?),
        Some("reset") if cursor.accept("all") => Local::ResetAll,
        Some("reset") => Local::Reset(cursor.parameter()?),
        Some("discard") => match cursor.optional(&["all", "plans", "sequences", "temp"]) {
            Some("all") => Local::DiscardAll,
            Some("plans") => Local::Nothing("DISCARD PLANS"),
            Some("sequences") => Local::Nothing("DISCARD SEQUENCES"),
            Some(_) => Local::Nothing("DISCARD TEMP"),
            None => return Err(cursor.unexpected()),
        },
        Some("deallocate") => {
            cursor.accept("prepare");
            let all = cursor.accept("all");
            Local::Deallocate(if all { None } else { Some(cursor.name()?) })
        }
        Some("close") if cursor.accept("all") => Local::Nothing("CLOSE CURSOR ALL"),
        Some("unlisten") => {
            if !cursor.star() {
                cursor.name()?;
            }
            Local::Nothing("UNLISTEN")
        }
        _ => return Ok(None),
    };
    cursor.end()?;
    Ok(Some(local))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Scope {
    Transaction,
    Session,
}

struct Cursor<'a> {
    source: &'a Source<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<&'a Lexeme> {
        self.source.lexemes.get(self.at)
    }

    fn word(&self) -> Option<&'a str> {
        match &self.peek()?.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.word() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn optional(&mut self, wanted: &[&str]) -> Option<&'a str> {
        let found = self.word().filter(|word| wanted.contains(word));
        self.at += usize::from(found.is_some());
        found
    }

    fn punctuation(&mut self, wanted: &str) -> bool {
        let found = match self.peek().map(|lexeme| &lexeme.token) {
            Some(Token::Punctuation(text)) => *text == wanted,
            Some(Token::Operator(text)) => text == wanted,
            _ => false,
        };
        self.at += usize::from(found);
        found
    }

    fn star(&mut self) -> bool {
        self.punctuation("*")
    }

    fn expect(&mut self, wanted: &str) -> Result<(), SqlError> {
        if self.accept(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn end(&self) -> Result<(), SqlError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> SqlError {
        self.source.syntax_error(self.peek())
    }

    fn unsupported(&self, reason: &str) -> SqlError {
        let place = self.source.lexemes[self.at.saturating_sub(1)].position;
        SqlError::unsupported(reason).at(place)
    }

    fn name(&mut self) -> Result<String, SqlError> {
        match self.peek().map(|lexeme| &lexeme.token) {
            Some(Token::Word(name) | Token::Quoted(name)) => {
                self.at += 1;
                Ok(name.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `COMMIT [WORK | TRANSACTION] [AND [NO] CHAIN]`, and the same of `ROLLBACK`.
    fn chain(&mut self) -> Result<bool, SqlError> {
        self.optional(&["work", "transaction"]);
        if self.word() == Some("to") {
            self.at += 1;
            return Err(self.unsupported("savepoints are not supported"));
        }
        if !self.accept("and") {
            return Ok(false);
        }
        let chain = !self.accept("no");
        self.expect("chain")?;
        Ok(chain)
    }

    /// Transaction modes: none of them may promise what a cluster of shards can't keep.
    fn modes(&mut self, scope: Scope) -> Result<usize, SqlError> {
        let mut count = 0;
        loop {
            if self.accept("isolation") {
                self.expect("level")?;
                if self.accept("read") {
                    if self.optional(&["committed", "uncommitted"]).is_none() {
                        return Err(self.unexpected());
                    }
                } else if self.accept("serializable") || self.accept("repeatable") {
                    let reason = "only READ COMMITTED is supported: every statement takes a \
                                  snapshot of its own on each shard";
                    return Err(self.unsupported(reason));
                } else {
                    return Err(self.unexpected());
                }
            } else if self.accept("read") {
                match self.optional(&["only", "write"]) {
                    Some("write") if scope == Scope::Transaction => {
                        let reason = "cannot set transaction read-write mode: this endpoint only \
                                      reads";
                        return Err(self.unsupported(reason));
                    }
                    Some(_) => {}
                    None => return Err(self.unexpected()),
                }
            } else if self.accept("not") {
                self.expect("deferrable")?;
            } else if !self.accept("deferrable") {
                return if count == 0 { Ok(0) } else { Err(self.unexpected()) };
            }
            count += 1;
            if !self.punctuation(",") && self.peek().is_none() {
                return Ok(count);
            }
        }
    }

    fn set(&mut self) -> Result<Local, SqlError> {
        let scope = self.optional(&["session", "local"]);
        let local = scope == Some("local");
        if scope == Some("session") && self.accept("characteristics") {
            self.expect("as")?;
            self.expect("transaction")?;
            return self.required_modes(Scope::Session);
        }
        if self.accept("transaction") {
            return self.required_modes(Scope::Transaction);
        }
        for (word, reason) in [
            ("authorization", "SET SESSION AUTHORIZATION is not supported"),
            ("role", "SET ROLE is not supported"),
            ("constraints", "SET CONSTRAINTS is not supported"),
        ] {
            if self.accept(word) {
                return Err(self.unsupported(reason));
            }
        }
        if self.accept("names") {
            let value = self.value()?;
            return Ok(Local::Set { name: "client_encoding".into(), value, local });
        }
        let zone = self.word() == Some("time");
        let name = self.parameter()?;
        if !zone && !self.accept("to") && !self.punctuation("=") {
            return Err(self.unexpected());
        }
        let value = if zone && self.accept("local") { None } else { self.value()? };
        Ok(Local::Set { name, value, local })
    }

    fn required_modes(&mut self, scope: Scope) -> Result<Local, SqlError> {
        match self.modes(scope)? {
            0 => Err(self.unexpected()),
            _ => Ok(Local::SetTransaction),
        }
    }

    /// A parameter's name; some have two or three words.
    fn parameter(&mut self) -> Result<String, SqlError> {
        for (words, name) in [
            (&["time", "zone"][..], "timezone"),
            (&["transaction", "isolation", "level"], "transaction_isolation"),
            (&["session", "authorization"], "session_authorization"),
        ] {
            if self.word() == Some(words[0]) {
                words.iter().try_for_each(|word| self.expect(word))?;
                return Ok(name.to_owned());
            }
        }
        let mut name = self.name()?;
        while self.punctuation(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    /// A value, a list of values, or `DEFAULT` as `None`.
    fn value(&mut self) -> Result<Option<String>, SqlError> {
        if self.accept("default") {
            return Ok(None);
        }
        let mut values = Vec::new();
        loop {
            let minus = self.punctuation("-");
            let value = match self.peek().map(|lexeme| &lexeme.token) {
                Some(Token::Number(number)) => format!("{}{number}", if minus { "-" } else { "" }),
                Some(Token::Word(text) | Token::Quoted(text) | Token::String(text)) if !minus => {
                    text.clone()
                }
                _ => return Err(self.unexpected()),
            };
            self.at += 1;
            values.push(value);
            if !self.punctuation(",") {
                return Ok(Some(values.join(", ")));
            }
        }
    }
}
