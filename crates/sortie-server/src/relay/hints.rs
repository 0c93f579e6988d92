//! Comments around a statement that tell sortie how to answer it: `/* sortie: lane=pipe */`.

use memchr::memchr2;

/// The words of the first comment around a statement that is a hint.
pub(super) fn hinted(text: &[u8]) -> Option<&str> {
    let mut front = text.trim_ascii_start();
    while let Some((comment, rest)) = first_comment(front) {
        if let Some(words) = words_of(comment) {
            return std::str::from_utf8(words).ok();
        }
        front = rest.trim_ascii_start();
    }
    let mut back = front;
    while let Some((comment, rest)) = last_comment(back) {
        if let Some(words) = words_of(comment) {
            return std::str::from_utf8(words).ok();
        }
        back = rest;
    }
    None
}

/// What is in the comment that a text begins with, and what follows it.
fn first_comment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(line) = text.strip_prefix(b"--") {
        let end = memchr2(b'\n', b'\r', line).unwrap_or(line.len());
        return Some(line.split_at(end));
    }
    let comment = text.strip_prefix(b"/*")?;
    let end = comment.windows(2).position(|window| window == b"*/")?;
    Some((&comment[..end], &comment[end + 2..]))
}

/// What is in the comment that a text ends with, and what stands in front of it.
fn last_comment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != b';')?;
    let comment = text[..=end].strip_suffix(b"*/")?;
    let start = comment.windows(2).rposition(|window| window == b"/*")?;
    Some((&comment[start + 2..], &comment[..start]))
}

/// What a comment says to sortie: by the same rule it is kept with its statement
/// ([`Canonical`](crate::sql::Canonical)).
fn words_of(comment: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"sortie";
    let (name, words) = comment.trim_ascii_start().split_at_checked(NAME.len())?;
    name.eq_ignore_ascii_case(NAME).then(|| words.trim_ascii_start().strip_prefix(b":"))?
}

#[cfg(test)]
mod tests {
    use super::super::switches::Switches;

    #[test]
    fn a_hint_is_a_comment_around_the_statement() {
        let pipe = Switches { pipe: Some(true), ..Switches::default() };
        for text in [
            "/* sortie: lane=pipe */ select 1",
            "select 1 /* sortie: lane=pipe */",
            "select 1 /* sortie: lane=pipe */;",
            "/* sortie: what=ever lane=pipe share=perhaps */ select 1",
            "/*SORTIE:lane=pipe*/ select 1",
            " /* trace */ /*\n sortie : lane=pipe*/select 1",
            "-- trace\n--sortie: lane=pipe\nselect 1",
            "select 1 /*sortie: lane=pipe*/ /* trace */ ; ",
        ] {
            assert_eq!(Switches::hint(text.as_bytes()), pipe, "{text}");
        }
        for text in [
            "select 1",
            "select '/* sortie: lane=pipe */' from t",
            "/* lane=pipe */",
            "/* sorties: lane=pipe */ select 1",
            "select 1 /* in */ + 1 */",
            "/* sortie: lane=pipe",
            "",
        ] {
            assert_eq!(Switches::hint(text.as_bytes()), Switches::default(), "{text}");
        }
    }
}
