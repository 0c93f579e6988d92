//! A simple query's string, cut into its statements.

use crate::sql::error::SqlError;
use crate::sql::lex::{Token, lex};

/// One statement of a simple query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Piece<'a> {
    /// The statement with its semicolon, without the blanks and comments around it.
    pub(crate) text: &'a str,
    /// Characters before it, to shift the position of an error with.
    pub(crate) offset: usize,
}

/// Cuts a simple query into its statements; those of blanks alone are left out.
///
/// # Errors
///
/// What the lexer refuses, for the whole string: PostgreSQL runs none of it then either.
pub(crate) fn split(text: &str) -> Result<Vec<Piece<'_>>, SqlError> {
    let lexemes = lex(text)?;
    let mut pieces = Vec::new();
    let mut begin = None;
    let mut end = 0;
    for lexeme in lexemes {
        let ends = lexeme.token == Token::Punctuation(";");
        if begin.is_none() && !ends {
            begin = Some((lexeme.start, lexeme.position - 1));
        }
        end = lexeme.end;
        if ends && let Some((start, offset)) = begin.take() {
            pieces.push(Piece { text: &text[start..end], offset });
        }
    }
    if let Some((start, offset)) = begin {
        pieces.push(Piece { text: &text[start..end], offset });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, usize)]) {
        let pieces = split(text).unwrap();
        let found: Vec<_> = pieces.iter().map(|piece| (piece.text, piece.offset)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn semicolons_end_statements_where_they_are_not_quoted() {
        check("", &[]);
        check(" ; ;\n", &[]);
        check("select 1", &[("select 1", 0)]);
        check("é; select 1 ;x", &[("é;", 0), ("select 1 ;", 3), ("x", 13)]);
        check("a ';' b; c \";\" d", &[("a ';' b;", 0), ("c \";\" d", 9)]);
        check("a $$;$$ $x$;$$;$x$; b", &[("a $$;$$ $x$;$$;$x$;", 0), ("b", 20)]);
        check(r"a E'\';' ; b '\'; c", &[(r"a E'\';' ;", 0), (r"b '\';", 11), ("c", 18)]);
        check("a -- ;\n; b /* ; /* ; */ ; */ c", &[("a -- ;\n;", 0), ("b /* ; /* ; */ ; */ c", 9)]);
    }

    #[test]
    fn what_does_not_end_is_refused_at_its_beginning() {
        for (text, message, position) in [
            ("select 'x", "unterminated quoted string at or near \"'x\"", 8),
            ("é \"x", "unterminated quoted identifier at or near \"\"x\"", 3),
            ("a /* /* */", "unterminated /* comment at or near \"/* /* */\"", 3),
            ("a $x$ $", "unterminated dollar-quoted string at or near \"$x$ $\"", 3),
            ("a E'\\'", "unterminated quoted string at or near \"E'\\'\"", 3),
        ] {
            let error = split(text).unwrap_err();
            let found = (error.code, error.message.as_str(), error.position);
            assert_eq!(found, ("42601", message, Some(position)), "{text}");
        }
    }
}
