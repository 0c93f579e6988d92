//! The texts that a session has sent lately, by which it is told at once what the next one is.
//!
//! Clients send the same statements over and over, and write values into them, or a comment of
//! their own for each. So the next text is laid beside those of before: where they have constants
//! and comments it may have others.
//!
//! # Invariants
//!
//! 1. What is said of a text is what [`scan::read`] says of it.
//! 2. A text that names sortie, wherever it does, is none of these: it may be about the session.
//! 3. Of texts, their lengths and their holes no more are kept than `_MAX` says.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::memchr2_iter;

use super::scan::{self, Constants, Frame, Hole, Scan};

/// Texts that are kept.
const TEXTS_MAX: usize = 8;
const TEXT_BYTES_MAX: usize = 2 << 10;
const HOLES_MAX: usize = 64;

/// What is remembered of a session from one statement to the next.
#[derive(Debug, Default)]
pub(in crate::relay) struct Lately {
    /// What tells it from others, at this change of its parameters.
    pub(in crate::relay) likeness: Option<((u64, Option<usize>), u64)>,
    /// The oldest first.
    patterns: VecDeque<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: Vec<u8>,
    holes: Vec<(Hole, Range<usize>)>,
    frame: Frame,
}

impl Lately {
    /// What a text is, if it is one of these but for its constants and comments.
    pub(super) fn again(&self, text: &[u8]) -> Option<Scan> {
        self.patterns.iter().find_map(|pattern| pattern.scan(text))
    }

    /// What a text is.
    pub(super) fn scan(&mut self, text: &[u8]) -> Scan {
        self.again(text).unwrap_or_else(|| self.read(text))
    }

    /// Reads a text, and keeps it.
    fn read(&mut self, text: &[u8]) -> Scan {
        if text.len() > TEXT_BYTES_MAX || names_us(text) {
            return scan::read(text, |_hole, _at| {}).1;
        }
        // The place of the one that has been here longest, with its room.
        let is_full = self.patterns.len() == TEXTS_MAX;
        let old = if is_full { self.patterns.pop_front() } else { None };
        let (mut kept, mut holes) = old.map_or_else(Default::default, |old| (old.text, old.holes));
        holes.clear();
        let mut has_more = false;
        let (frame, scan) = scan::read(text, |hole, at| {
            has_more = holes.len() == HOLES_MAX;
            if !has_more {
                holes.push((hole, at));
            }
        });
        if !has_more {
            kept.clear();
            kept.extend_from_slice(text);
            self.patterns.push_back(Pattern { text: kept, holes, frame });
        }
        scan
    }
}

impl Pattern {
    fn scan(&self, text: &[u8]) -> Option<Scan> {
        let (mut from, mut rest) = (0, text);
        let mut constants = Constants::none();
        for (hole, at) in &self.holes {
            rest = rest.strip_prefix(&self.text[from..at.start])?;
            // What is in front of a hole is read by how the hole begins.
            let is_alike = match (self.text[at.start], *rest.first()?) {
                (b'0'..=b'9', b'0'..=b'9') => true,
                (known, found) => known == found,
            };
            let len = if is_alike { hole.fits(rest)? } else { return None };
            let (found, behind) = rest.split_at(len);
            if names_us(found) {
                return None;
            }
            if *hole != Hole::Comment {
                constants.take(*hole, found);
            }
            (from, rest) = (at.end, behind);
        }
        (*rest == self.text[from..]).then(|| self.frame.with(&constants))
    }
}

/// Whether a text names sortie.
fn names_us(text: &[u8]) -> bool {
    let name = b"sortie";
    let is_name =
        |at: usize| text.get(at..at + name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name));
    text.len() >= name.len() && memchr2_iter(b's', b'S', text).any(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What texts are made of: what begins, ends or hides a constant or a comment, and the rest.
    const PARTS: [&str; 44] = [
        "SELECT",
        "a",
        "e",
        "E'",
        "'",
        "''",
        "\\",
        "\"",
        "$",
        "$$",
        "$a$",
        "$1",
        "1",
        "27",
        ".",
        ".5",
        "-",
        "--",
        "- -",
        "/",
        "*",
        "/*",
        "*/",
        "/*+",
        "/* x */",
        "/* y z */",
        ",",
        " , ",
        " ",
        "\n",
        "(",
        ")",
        "=",
        "'x'",
        "'y'",
        "b'0'",
        "n'é'",
        "é",
        "_",
        ";",
        "1e5",
        "+",
        "0x1f",
        "--x\n",
    ];

    /// Numbers of no pattern.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, max: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % max
        }

        fn text(&mut self) -> Vec<&'static str> {
            let len = self.below(9);
            (0..len).map(|_| PARTS[self.below(PARTS.len())]).collect()
        }
    }

    fn alone(text: &[u8]) -> Scan {
        scan::read(text, |_hole, _at| {}).1
    }

    #[test]
    fn a_text_like_one_of_before_is_what_it_is_alone() {
        let mut dice = Dice(7);
        let (mut again, mut other) = (0, 0);
        for _ in 0..60_000 {
            let mut parts = dice.text();
            let mut lately = Lately::default();
            lately.scan(parts.concat().as_bytes());
            for _ in 0..3 {
                if !parts.is_empty() {
                    let at = dice.below(parts.len());
                    parts[at] = PARTS[dice.below(PARTS.len())];
                }
                let text = parts.concat();
                let Some(found) = lately.again(text.as_bytes()) else { continue };
                assert_eq!(found, alone(text.as_bytes()), "{text:?} in {lately:?}");
                again += 1;
                other += usize::from(lately.patterns[0].text != text.as_bytes());
            }
        }
        assert!(again > 1_000 && other > 200, "{again} were found, {other} of them others");
    }

    #[test]
    fn other_values_and_comments_are_no_other_statement() {
        let mut lately = Lately::default();
        let first = lately.scan(b"SELECT a FROM t WHERE b = 7 AND c = 'x' /* trace 1 */");
        for (text, is_same) in [
            ("SELECT a FROM t WHERE b = 12345 AND c = 'it''s' /* trace 27 */", true),
            ("SELECT a FROM t WHERE b = 7 AND c = 'x' /* trace 2 */", true),
            ("SELECT a FROM t WHERE b = 7 AND c = 'x'", false),
            ("SELECT a FROM t WHERE b = 7 AND c = E'x' /* trace 1 */", false),
            ("SELECT a FROM t WHERE b = 7 AND c = 'x' /*+ hint */", false),
            ("SELECT a FROM u WHERE b = 7 AND c = 'x' /* trace 1 */", false),
            ("SELECT a FROM t WHERE b = 7 AND c = 'x' /* sortie:lane=pipe */", false),
            ("SELECT a FROM t WHERE b = 7 AND c = 'sortie.x' /* trace 1 */", false),
        ] {
            let found = lately.again(text.as_bytes());
            assert_eq!(found.is_some(), is_same, "{text}");
            assert!(found.is_none_or(|found| found.shape == first.shape), "{text}");
        }
        let second = lately.again(b"SELECT a FROM t WHERE b = 7 AND c = 'y' /* trace 1 */");
        assert_ne!(second.unwrap().exact, first.exact);
    }

    #[test]
    fn few_texts_are_kept_and_none_that_names_sortie() {
        let mut lately = Lately::default();
        let long = format!("SELECT '{}'", "x".repeat(TEXT_BYTES_MAX));
        let holes = format!("SELECT {}", "1+".repeat(HOLES_MAX + 1));
        for text in ["SET Sortie.lane = pipe", &long, &holes] {
            assert_eq!(lately.scan(text.as_bytes()), alone(text.as_bytes()));
            assert_eq!(lately.again(text.as_bytes()), None);
        }
        for number in 0..3 * TEXTS_MAX {
            lately.scan(format!("SELECT a{number}").as_bytes());
            assert!(lately.patterns.len() <= TEXTS_MAX);
        }
        let last = format!("SELECT a{}", 3 * TEXTS_MAX - 1);
        assert!(lately.again(last.as_bytes()).is_some());
        assert!(lately.again(b"SELECT a1").is_none(), "it was the second one");
    }
}
