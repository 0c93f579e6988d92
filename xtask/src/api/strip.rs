//! Rust source without comments, and with the insides of its literals gone: what is left can be
//! scanned for brackets.

/// Removes comments and empties string and character literals.
pub(super) fn strip(source: &str) -> String {
    let mut rest = source;
    let mut kept = String::with_capacity(source.len());
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, &kept) {
            kept.push_str("\"\"");
            length
        } else if first == '"' {
            kept.push_str("\"\"");
            string(rest)
        } else if let Some(length) = character(rest) {
            kept.push_str("' '");
            length
        } else {
            kept.push(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    kept
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#` and the like; `before` tells them from the end of a name.
fn raw_string(text: &str, before: &str) -> Option<usize> {
    let in_name = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    let hashes = text.strip_prefix('r')?;
    let rest = hashes.trim_start_matches('#');
    if (in_name && !before.ends_with(['b', 'c'])) || !rest.starts_with('"') {
        return None;
    }
    let count = hashes.len() - rest.len();
    let end = format!("\"{}", "#".repeat(count));
    let opening = 1 + count + 1;
    Some(text[opening..].find(&end).map_or(text.len(), |at| opening + at + end.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let skip = escape.chars().next()?.len_utf8();
        return escape[skip..].find('\'').map(|at| 1 + 1 + skip + at + 1);
    }
    let one = inside.chars().next()?.len_utf8();
    inside[one..].starts_with('\'').then_some(1 + one + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(strip(source), expected);
    }

    #[test]
    fn comments_go() {
        check("a // b\nc", "a \nc");
        check("a /* b /* c */ d */ e", "a  e");
    }

    #[test]
    fn literals_are_emptied() {
        check(r#"f("a \" // b")"#, r#"f("")"#);
        check("f(r#\"a \" b\"#, br\"c\")", "f(\"\", b\"\")");
        check("f('{', '\\'', '\\u{7d}')", "f(' ', ' ', ' ')");
    }

    #[test]
    fn lifetimes_and_names_stay() {
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check("for r in r#type", "for r in r#type");
    }
}
