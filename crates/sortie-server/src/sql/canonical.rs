//! A statement's text without what is in its ordinary comments.
//!
//! Tracing tools write another comment into every statement; statements that differ in nothing
//! else are equal. What stands around a statement goes (blanks, comments, semicolons); a comment
//! inside is emptied (`/* 7 */` becomes `/**/`, `-- 7` becomes `--`), so that what it separates
//! stays apart by the same rules. Planner hints (`/*+ … */`) and comments that begin with `sortie`
//! are meant for somebody and stay, wherever they are.
//!
//! Comments inside of a string that goes on after a line break stay as well: they are part of one
//! constant.

use super::{Lexeme, SqlError, Token, lex};

/// A text in its canonical form, and where it was cut.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Canonical {
    pub(crate) text: String,
    /// In order.
    cuts: Vec<Cut>,
}

/// Characters that were left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cut {
    /// Characters of the canonical text before them.
    at: usize,
    /// How many.
    characters: usize,
}

impl Canonical {
    /// Reads a statement.
    ///
    /// # Errors
    ///
    /// What the lexer refuses: 42601, 22021, 22025.
    pub(crate) fn new(text: &str) -> Result<Self, SqlError> {
        let lexemes = lex(text)?;
        let is_semicolon = |lexeme: &&Lexeme| lexeme.token == Token::Punctuation(";");
        let trailing = lexemes.iter().rev().take_while(is_semicolon).count();
        let lexemes = &lexemes[..lexemes.len() - trailing];
        let mut writer =
            Writer { text: String::with_capacity(text.len()), at: 0, cuts: Vec::new() };
        let mut end = 0;
        for lexeme in lexemes {
            writer.gap(&text[end..lexeme.start], end > 0);
            writer.keep(&text[lexeme.start..lexeme.end]);
            end = lexeme.end;
        }
        writer.gap(&text[end..], false);
        Ok(Self { text: writer.text, cuts: writer.cuts })
    }

    /// A place in the canonical text, as one in the text it was made of; both from 1.
    pub(crate) fn original(&self, position: usize) -> usize {
        let before = self.cuts.iter().take_while(|cut| cut.at < position);
        position + before.map(|cut| cut.characters).sum::<usize>()
    }

    /// The reverse. What was left out has the place of what follows it.
    pub(crate) fn canonical(&self, position: usize) -> usize {
        let mut removed = 0;
        for cut in &self.cuts {
            let start = cut.at + removed;
            if position <= start {
                break;
            }
            if position <= start + cut.characters {
                return cut.at + 1;
            }
            removed += cut.characters;
        }
        position - removed
    }
}

struct Writer {
    text: String,
    /// Its length in characters.
    at: usize,
    cuts: Vec<Cut>,
}

impl Writer {
    fn keep(&mut self, text: &str) {
        self.text.push_str(text);
        self.at += text.chars().count();
    }

    fn cut(&mut self, text: &str) {
        let characters = text.chars().count();
        match self.cuts.last_mut() {
            _ if characters == 0 => {}
            Some(last) if last.at == self.at => last.characters += characters,
            _ => self.cuts.push(Cut { at: self.at, characters }),
        }
    }

    /// What stands between two lexemes, or (not `inside`) before or after all of them.
    fn gap(&mut self, mut gap: &str, inside: bool) {
        while let Some(comment) = ["--", "/*"].iter().filter_map(|begin| gap.find(begin)).min() {
            self.blank(&gap[..comment], inside);
            let rest = &gap[comment..];
            let length = if rest.starts_with("--") {
                rest.find(['\n', '\r']).unwrap_or(rest.len())
            } else {
                // The lexer has read over it, so it ends.
                crate::sql::comment(rest).unwrap_or(rest.len())
            };
            let (found, after) = rest.split_at(length);
            gap = after;
            if is_hint(found) {
                self.keep(found);
                if !inside && found.starts_with("--") {
                    // Without the end of its line it would hide what follows.
                    let line = after.chars().next().map_or(0, char::len_utf8);
                    self.keep(&after[..line]);
                    gap = &after[line..];
                }
            } else if !inside {
                self.cut(found);
            } else if let Some(content) = found.strip_prefix("--") {
                self.keep("--");
                self.cut(content);
            } else {
                self.keep("/*");
                self.cut(&found[2..found.len() - 2]);
                self.keep("*/");
            }
        }
        self.blank(gap, inside);
    }

    fn blank(&mut self, blank: &str, inside: bool) {
        if inside {
            self.keep(blank);
        } else {
            self.cut(blank);
        }
    }
}

/// Whether a comment is meant for somebody who answers the statement.
fn is_hint(comment: &str) -> bool {
    let content = &comment[2..];
    let word = content.trim_start().get(..6);
    content.starts_with('+') || word.is_some_and(|word| word.eq_ignore_ascii_case("sortie"))
}

#[cfg(test)]
mod tests;
