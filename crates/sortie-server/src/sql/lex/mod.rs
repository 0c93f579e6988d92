//! PostgreSQL's lexical rules (its `scan.l`), for the whole of SQL.
//!
//! One lexer serves all uses: cutting a query string into statements, the session's small
//! statements, and the parser, which is fed with these lexemes instead of its own. So a quote, a
//! comment, an operator or a folded name means what it means to PostgreSQL, and every lexeme
//! knows its place in characters, which is what an error's position counts in.
//!
//! Strings are read as with `standard_conforming_strings = on`, the only setting there is.

mod string;

use crate::sql::error::{SqlError, state};

/// One token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    /// Byte where it begins.
    pub(crate) start: usize,
    /// Byte after its end.
    pub(crate) end: usize,
    /// Its first character, counted from 1.
    pub(crate) position: usize,
}

impl Lexeme {
    /// True for this word, not quoted.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(&self.token, Token::Word(word) if word == wanted)
    }
}

/// What a lexeme is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A keyword or a name, folded to lower case.
    Word(String),
    /// A name in double quotes, as it stands there.
    Quoted(String),
    /// A string constant, without quotes and escapes.
    String(String),
    /// A bit, hexadecimal, national or Unicode-escaped constant: read over, never understood.
    OtherString,
    Number(String),
    /// `$n`.
    Param(u32),
    Operator(String),
    /// One of `( ) [ ] , ; : .`, or `::`, `:=`, `..`, `=>`.
    Punctuation(&'static str),
    /// A character that begins nothing.
    Unknown(char),
}

/// Bytes of a name that count, PostgreSQL's `NAMEDATALEN` less one.
const NAME_BYTES_MAX: usize = 63;

/// Reads all lexemes of `text`; comments and whitespace are left out.
///
/// # Errors
///
/// 42601 for what does not end, or is followed by junk; 22021 and 22025 inside strings.
pub(crate) fn lex(text: &str) -> Result<Vec<Lexeme>, SqlError> {
    let mut lexer = Lexer { text, at: 0, character: 0 };
    let mut lexemes = Vec::new();
    while let Some(lexeme) = lexer.next()? {
        lexemes.push(lexeme);
    }
    Ok(lexemes)
}

struct Lexer<'a> {
    text: &'a str,
    /// Byte offset of what comes next.
    at: usize,
    /// Characters before it.
    character: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Lexeme>, SqlError> {
        self.skip_blank()?;
        let rest = &self.text[self.at..];
        let (start, position) = (self.at, self.character + 1);
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let following = rest[first.len_utf8()..].chars().next();
        let token = match (first, following) {
            ('\'', _) => self.string(false)?,
            ('e' | 'E', Some('\'')) => self.string(true)?,
            ('b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => self.other_string(1)?,
            ('u' | 'U', Some('&')) if rest[2..].starts_with(['\'', '"']) => self.other_string(2)?,
            ('"', _) => self.quoted()?,
            ('$', Some('0'..='9')) => self.param()?,
            ('$', _) => self.dollar()?,
            ('0'..='9', _) | ('.', Some('0'..='9')) => self.number()?,
            (first, _) if begins_name(first) => {
                let name = self.take(continues_name);
                Token::Word(truncated(&name.to_ascii_lowercase()))
            }
            _ => match punctuation(rest) {
                Some(found) => {
                    self.advance(found.len());
                    Token::Punctuation(found)
                }
                None => self.operator(first),
            },
        };
        Ok(Some(Lexeme { token, start, end: self.at, position }))
    }

    /// Skips whitespace and comments; block comments nest.
    fn skip_blank(&mut self) -> Result<(), SqlError> {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with("--") {
                self.take(|character| character != '\n' && character != '\r');
            } else if rest.starts_with("/*") {
                let length = comment(rest).ok_or_else(|| self.unterminated("/* comment"))?;
                self.advance(length);
            } else if rest.starts_with(is_space) {
                self.take(is_space);
            } else {
                return Ok(());
            }
        }
    }

    fn quoted(&mut self) -> Result<Token, SqlError> {
        let rest = &self.text[self.at..];
        let Some((length, name)) = string::enclosed(rest, '"') else {
            return Err(self.unterminated("quoted identifier"));
        };
        if name.is_empty() {
            return Err(self.error("zero-length delimited identifier", length));
        }
        self.advance(length);
        Ok(Token::Quoted(truncated(&name)))
    }

    fn param(&mut self) -> Result<Token, SqlError> {
        let rest = &self.text[self.at..];
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        self.refuse_junk("trailing junk after parameter", 1 + digits)?;
        // PostgreSQL's atol() saturates; no statement has that many parameters either way.
        let number = rest[1..=digits].parse().unwrap_or(u32::MAX);
        self.advance(1 + digits);
        Ok(Token::Param(number))
    }

    fn number(&mut self) -> Result<Token, SqlError> {
        let bytes = &self.text.as_bytes()[self.at..];
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut length = digits(0);
        if bytes.get(length) == Some(&b'.') && bytes.get(length + 1) != Some(&b'.') {
            length += 1;
            length += digits(length);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            match digits((length + 1 + sign).min(bytes.len())) {
                0 if sign == 1 => {
                    return Err(self.error("trailing junk after numeric literal", length + 2));
                }
                0 => {}
                exponent => length += 1 + sign + exponent,
            }
        }
        self.refuse_junk("trailing junk after numeric literal", length)?;
        let number = self.text[self.at..self.at + length].to_owned();
        self.advance(length);
        Ok(Token::Number(number))
    }

    /// Refuses a name that touches the end of a number or parameter of this length.
    fn refuse_junk(&self, message: &str, length: usize) -> Result<(), SqlError> {
        let rest = &self.text[self.at + length..];
        if !rest.starts_with(begins_name) {
            return Ok(());
        }
        let junk: usize = rest
            .chars()
            .take_while(|character| continues_name(*character))
            .map(char::len_utf8)
            .sum();
        Err(self.error(message, length + junk))
    }

    /// The longest operator, cut as PostgreSQL cuts it: before a comment, and before trailing
    /// signs unless one of its characters can't occur in an operator of standard SQL.
    fn operator(&mut self, first: char) -> Token {
        let is_operator = |character| "~!@#^&|`?+-*/%<>=".contains(character);
        if !is_operator(first) {
            self.advance(first.len_utf8());
            return Token::Unknown(first);
        }
        let rest = &self.text[self.at..];
        let mut found = &rest[..rest.find(|c| !is_operator(c)).unwrap_or(rest.len())];
        for comment in ["--", "/*"] {
            found = found.split(comment).next().unwrap_or(found);
        }
        if !found.contains(|character| "~!@#^&|`?%".contains(character)) {
            let trimmed = found.trim_end_matches(['+', '-']);
            found = &found[..trimmed.len().max(1)];
        }
        self.advance(found.len());
        match found {
            "=>" => Token::Punctuation("=>"),
            "!=" => Token::Operator("<>".to_owned()),
            found => Token::Operator(found.to_owned()),
        }
    }

    /// Takes characters as long as they are `wanted`.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.find(|character| !wanted(character)).unwrap_or(rest.len());
        let start = self.at;
        self.advance(length);
        &self.text[start..self.at]
    }

    fn advance(&mut self, bytes: usize) {
        self.character += self.text[self.at..self.at + bytes].chars().count();
        self.at += bytes;
    }

    /// An error about the next `length` bytes.
    fn error(&self, message: &str, length: usize) -> SqlError {
        let near = &self.text[self.at..self.at + length];
        SqlError::new(state::SYNTAX_ERROR, format!("{message} at or near \"{near}\""))
            .at(self.character + 1)
    }

    fn unterminated(&self, what: &str) -> SqlError {
        self.error(&format!("unterminated {what}"), self.text.len() - self.at)
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn begins_name(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

fn continues_name(character: char) -> bool {
    begins_name(character) || character.is_ascii_digit() || character == '$'
}

fn punctuation(rest: &str) -> Option<&'static str> {
    ["::", ":=", "..", "(", ")", "[", "]", ",", ";", ":", "."]
        .into_iter()
        .find(|found| rest.starts_with(found))
}

/// Bytes of the block comment that `text` begins with; `None` if it does not end.
pub(crate) fn comment(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match bytes.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// As PostgreSQL does: a longer name is cut, at a character.
fn truncated(name: &str) -> String {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

#[cfg(test)]
mod tests;
