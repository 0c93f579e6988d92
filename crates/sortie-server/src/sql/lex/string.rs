//! Strings: quoted, with escapes, between dollars, continued on the next line.

use super::{Lexer, Token, begins_name, continues_name, is_space};
use crate::sql::error::{SqlError, state};
use crate::sql::utf8::utf8;

impl Lexer<'_> {
    /// A string in single quotes, continued by further ones after a line break.
    pub(super) fn string(&mut self, escapes: bool) -> Result<Token, SqlError> {
        let rest = &self.text[self.at..];
        let mut length = usize::from(escapes);
        let mut content = Vec::new();
        loop {
            let part = &rest[length..];
            let end = if escapes { end_escaped(part) } else { end_plain(part, '\'') };
            let end = end.ok_or_else(|| self.unterminated("quoted string"))?;
            let inner = &part[1..end - 1];
            if escapes {
                unescape(inner, &mut content).map_err(|error| error.at(self.character + 1))?;
            } else {
                content.extend(inner.replace("''", "'").bytes());
            }
            length += end;
            match continued(&rest[length..]) {
                Some(blank) => length += blank,
                None => break,
            }
        }
        let content = utf8(&content)?.to_owned();
        self.advance(length);
        Ok(Token::String(content))
    }

    /// A kind of constant that is not understood; only its end matters.
    pub(super) fn other_string(&mut self, prefix: usize) -> Result<Token, SqlError> {
        let rest = &self.text[self.at + prefix..];
        let quote = if rest.starts_with('"') { '"' } else { '\'' };
        let end = end_plain(rest, quote).ok_or_else(|| self.unterminated("quoted string"))?;
        self.advance(prefix + end);
        Ok(Token::OtherString)
    }

    /// `$tag$…$tag$`, or a dollar sign that begins nothing.
    pub(super) fn dollar(&mut self) -> Result<Token, SqlError> {
        let rest = &self.text[self.at..];
        let tag = rest[1..].char_indices().find(|(at, c)| {
            *c == '$' || !(if *at == 0 { begins_name(*c) } else { continues_name(*c) })
        });
        let Some((at, '$')) = tag else {
            self.advance(1);
            return Ok(Token::Unknown('$'));
        };
        let delimiter = &rest[..at + 2];
        let Some(length) = rest[delimiter.len()..].find(delimiter) else {
            return Err(self.unterminated("dollar-quoted string"));
        };
        let content = rest[delimiter.len()..delimiter.len() + length].to_owned();
        self.advance(2 * delimiter.len() + length);
        Ok(Token::String(content))
    }
}

/// What stands between `quote`s, doubled ones halved, and the bytes it took with its quotes.
pub(super) fn enclosed(text: &str, quote: char) -> Option<(usize, String)> {
    let end = end_plain(text, quote)?;
    let doubled = [quote, quote].iter().collect::<String>();
    Some((end, text[1..end - 1].replace(&doubled, &quote.to_string())))
}

/// Bytes up to and with the closing quote.
fn end_plain(text: &str, quote: char) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The same where a backslash makes the next character ordinary.
fn end_escaped(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(['\'', '\\'])? + 1;
        let escaped = text.as_bytes()[at - 1] == b'\\';
        match text[at..].chars().next() {
            Some(next) if escaped => at += next.len_utf8(),
            None if escaped => return None,
            Some('\'') => at += 1,
            _ => return Some(at),
        }
    }
}

/// Bytes between a closing quote and one that continues the string: blanks with a line break.
fn continued(text: &str) -> Option<usize> {
    let mut broken = false;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("--") {
            at += rest.find(['\n', '\r']).unwrap_or(rest.len());
        } else {
            match rest.chars().next()? {
                '\'' if broken => return Some(at),
                blank if is_space(blank) => {
                    broken |= matches!(blank, '\n' | '\r');
                    at += 1;
                }
                _ => return None,
            }
        }
    }
}

/// Appends the meaning of an escape string's inside.
fn unescape(text: &str, content: &mut Vec<u8>) -> Result<(), SqlError> {
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next == '\'' {
            // Only doubled quotes are left inside.
            content.push(b'\'');
            rest = &rest[2..];
        } else if next == '\\' {
            rest = escape(&rest[1..], content)?;
        } else {
            let plain = rest.find(['\'', '\\']).unwrap_or(rest.len());
            content.extend(rest[..plain].bytes());
            rest = &rest[plain..];
        }
    }
    Ok(())
}

/// Appends what one escape stands for, and returns what follows it.
fn escape<'a>(text: &'a str, content: &mut Vec<u8>) -> Result<&'a str, SqlError> {
    let digits = |from: usize, radix: u32, max: usize| {
        let found = text[from..].chars().take(max).take_while(|c| c.is_digit(radix)).count();
        let value = u32::from_str_radix(&text[from..from + found], radix).unwrap_or(0);
        (found, value)
    };
    let first = text.chars().next().expect("an escape string does not end in a backslash");
    let byte = match first {
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0'..='7' => {
            let (length, value) = digits(0, 8, 3);
            content.push((value & 0xff) as u8);
            return Ok(&text[length..]);
        }
        'x' if digits(1, 16, 2).0 > 0 => {
            let (length, value) = digits(1, 16, 2);
            content.push((value & 0xff) as u8);
            return Ok(&text[1 + length..]);
        }
        'u' | 'U' => {
            let (value, rest) = unicode(text)?;
            content.extend(value.encode_utf8(&mut [0; 4]).bytes());
            return Ok(rest);
        }
        other => {
            content.extend(other.encode_utf8(&mut [0; 4]).bytes());
            return Ok(&text[other.len_utf8()..]);
        }
    };
    content.push(byte);
    Ok(&text[1..])
}

/// The character that `uXXXX` or `UXXXXXXXX` stands for, or a pair of them that UTF-16 needs for
/// one, and what follows.
fn unicode(text: &str) -> Result<(char, &str), SqlError> {
    let (first, rest) = code_unit(text)?;
    let (value, rest) = match first {
        0xd800..=0xdbff => {
            let second = rest.strip_prefix('\\').filter(|rest| rest.starts_with(['u', 'U']));
            match second.map(code_unit).transpose()? {
                Some((second @ 0xdc00..=0xdfff, rest)) => {
                    (0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff), rest)
                }
                _ => return Err(SqlError::new(state::SYNTAX_ERROR, UNPAIRED)),
            }
        }
        0xdc00..=0xdfff => return Err(SqlError::new(state::SYNTAX_ERROR, UNPAIRED)),
        value => (value, rest),
    };
    let invalid = || SqlError::new(state::SYNTAX_ERROR, "invalid Unicode escape value");
    Ok((char::from_u32(value).ok_or_else(invalid)?, rest))
}

const UNPAIRED: &str = "invalid Unicode surrogate pair";

fn code_unit(text: &str) -> Result<(u32, &str), SqlError> {
    let wanted = if text.starts_with('u') { 4 } else { 8 };
    let digits = text.get(1..=wanted).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
    let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let invalid = || {
        let error = SqlError::new(state::INVALID_ESCAPE_SEQUENCE, "invalid Unicode escape");
        error.hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.")
    };
    Ok((value.ok_or_else(invalid)?, &text[1 + wanted..]))
}
