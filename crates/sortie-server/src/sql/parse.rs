//! Lexemes in, syntax tree out: the one place that drives `sqlparser`.
//!
//! The parser accepts more than PostgreSQL does and less than it could; what it accepts is read
//! by a whitelist afterwards. Here its input is bounded, so that neither its recursion nor that
//! of anybody who walks its trees can exhaust the stack.

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token as Parsed, TokenWithSpan};

use crate::sql::error::{SqlError, state};
use crate::sql::lex::{Lexeme, Token, lex};

/// Bytes of one statement.
pub(crate) const STATEMENT_BYTES_MAX: usize = 256 * 1024;
/// Lexemes of one statement that can deepen its tree: all but constants, parameters and commas.
const STRUCTURE_MAX: usize = 1_000;
/// Nesting of one statement, as the parser counts it.
const NESTING_MAX: usize = 50;

/// One statement's text and its lexemes.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    /// Without the semicolon that ends the statement.
    pub(super) lexemes: Vec<Lexeme>,
    semicolon: Option<Lexeme>,
}

impl<'a> Source<'a> {
    /// # Errors
    ///
    /// 54000 and 54001 past the bounds, 42601 for more than one statement and lexical errors.
    pub(super) fn new(text: &'a str) -> Result<Self, SqlError> {
        if text.len() > STATEMENT_BYTES_MAX {
            let message = format!("a statement has at most {STATEMENT_BYTES_MAX} bytes");
            return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let mut lexemes = lex(text)?;
        let semicolon = lexemes.iter().position(|lexeme| is_semicolon(&lexeme.token));
        let mut tail = lexemes.split_off(semicolon.unwrap_or(lexemes.len()));
        if tail.iter().any(|lexeme| !is_semicolon(&lexeme.token)) {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(state::SYNTAX_ERROR, message));
        }
        let structural = |lexeme: &&Lexeme| {
            !matches!(
                lexeme.token,
                Token::String(_) | Token::Number(_) | Token::Param(_) | Token::Punctuation(",")
            )
        };
        if lexemes.iter().filter(structural).count() > STRUCTURE_MAX {
            let message = format!("a statement has at most {STRUCTURE_MAX} words and operators");
            return Err(SqlError::new(state::STATEMENT_TOO_COMPLEX, message));
        }
        Ok(Self { text, lexemes, semicolon: (!tail.is_empty()).then(|| tail.remove(0)) })
    }

    /// The statement without what surrounds it: blanks, comments, the semicolon.
    pub(super) fn trimmed(&self) -> &'a str {
        match (self.lexemes.first(), self.lexemes.last()) {
            (Some(first), Some(last)) => &self.text[first.start..last.end],
            _ => "",
        }
    }

    /// PostgreSQL's words for a statement that goes wrong at `lexeme`, or at its end.
    pub(super) fn syntax_error(&self, lexeme: Option<&Lexeme>) -> SqlError {
        match lexeme.or(self.semicolon.as_ref()) {
            Some(lexeme) => {
                let near = &self.text[lexeme.start..lexeme.end];
                let message = format!("syntax error at or near \"{near}\"");
                SqlError::new(state::SYNTAX_ERROR, message).at(lexeme.position)
            }
            None => SqlError::new(state::SYNTAX_ERROR, "syntax error at end of input").at(self
                .text
                .chars()
                .count()
                + 1),
        }
    }

    /// The first operator or word in `wanted` that stands after this place.
    pub(super) fn next_of(&self, after: usize, wanted: &[&str]) -> Option<&Lexeme> {
        self.lexemes.iter().filter(|lexeme| lexeme.position > after).find(|lexeme| {
            matches!(&lexeme.token, Token::Operator(text) | Token::Word(text)
                if wanted.contains(&text.as_str()))
        })
    }

    /// The words that the statement begins with.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.lexemes.iter().map_while(|lexeme| match &lexeme.token {
            Token::Word(word) => Some(word.as_str()),
            _ => None,
        })
    }

    /// The whole statement's syntax tree.
    ///
    /// # Errors
    ///
    /// 42601 for a syntax error, 54001 for too deep nesting, 0A000 for constants not served.
    pub(super) fn parse(&self) -> Result<Statement, SqlError> {
        let tokens = self.lexemes.iter().map(|lexeme| self.token(lexeme));
        let tokens = tokens.collect::<Result<Vec<_>, SqlError>>()?;
        let dialect = PostgreSqlDialect {};
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(NESTING_MAX)
            .with_tokens_with_locations(tokens);
        let statement = parser.parse_statement().map_err(|error| self.failed(error))?;
        let rest = parser.peek_token_ref();
        match rest.token {
            Parsed::EOF => Ok(statement),
            _ => Err(self.syntax_error(self.lexeme_at(rest.span.start.column))),
        }
    }

    fn token(&self, lexeme: &Lexeme) -> Result<TokenWithSpan, SqlError> {
        let token = match &lexeme.token {
            Token::Word(word) => Parsed::make_word(word, None),
            Token::Quoted(name) => Parsed::make_word(name, Some('"')),
            Token::String(content) => Parsed::SingleQuotedString(content.clone()),
            Token::Number(number) => Parsed::Number(number.clone(), false),
            Token::Param(number) => Parsed::Placeholder(format!("${number}")),
            Token::Operator(text) => operator(text),
            Token::Punctuation(text) => {
                punctuation(text).ok_or_else(|| self.syntax_error(Some(lexeme)))?
            }
            Token::Unknown(_) => return Err(self.syntax_error(Some(lexeme))),
            Token::OtherString => {
                let reason = "bit, hexadecimal, national and Unicode strings are not supported";
                return Err(SqlError::unsupported(reason).at(lexeme.position));
            }
        };
        // One line, whose columns are the positions that PostgreSQL counts.
        let place = |column| Location { line: 1, column };
        let start = lexeme.position as u64;
        let length = self.text[lexeme.start..lexeme.end].chars().count() as u64;
        Ok(TokenWithSpan::new(token, Span::new(place(start), place(start + length))))
    }

    fn failed(&self, error: ParserError) -> SqlError {
        let (ParserError::TokenizerError(text) | ParserError::ParserError(text)) = error else {
            let message = format!("a statement nests at most {NESTING_MAX} deep");
            return SqlError::new(state::STATEMENT_TOO_COMPLEX, message);
        };
        // The place is in the message only.
        let column = text.rsplit_once("Column: ").and_then(|(_, column)| column.parse().ok());
        match column.map(|column| self.lexeme_at(column)) {
            Some(Some(lexeme)) => self.syntax_error(Some(lexeme)),
            _ if column.is_some() || text.ends_with("EOF") => self.syntax_error(None),
            _ => SqlError::new(state::SYNTAX_ERROR, format!("syntax error: {text}")),
        }
    }

    fn lexeme_at(&self, column: u64) -> Option<&Lexeme> {
        self.lexemes.iter().find(|lexeme| lexeme.position as u64 == column)
    }
}

fn is_semicolon(token: &Token) -> bool {
    *token == Token::Punctuation(";")
}

fn operator(text: &str) -> Parsed {
    match text {
        "=" => Parsed::Eq,
        "<>" => Parsed::Neq,
        "<" => Parsed::Lt,
        ">" => Parsed::Gt,
        "<=" => Parsed::LtEq,
        ">=" => Parsed::GtEq,
        "+" => Parsed::Plus,
        "-" => Parsed::Minus,
        "*" => Parsed::Mul,
        "/" => Parsed::Div,
        "%" => Parsed::Mod,
        "^" => Parsed::Caret,
        other => Parsed::CustomBinaryOperator(other.to_owned()),
    }
}

fn punctuation(text: &str) -> Option<Parsed> {
    Some(match text {
        "(" => Parsed::LParen,
        ")" => Parsed::RParen,
        "[" => Parsed::LBracket,
        "]" => Parsed::RBracket,
        "," => Parsed::Comma,
        ":" => Parsed::Colon,
        "." => Parsed::Period,
        "::" => Parsed::DoubleColon,
        ":=" => Parsed::Assignment,
        "=>" => Parsed::RArrow,
        _ => return None,
    })
}
