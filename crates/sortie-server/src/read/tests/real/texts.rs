//! A canonical text means what the text means that it was made of, to PostgreSQL itself.

use super::super::generated::Dice;
use super::*;
use crate::sql::Canonical;

/// What texts are put together from: all that can hide a comment, or be hidden by one.
const PIECES: [&str; 30] = [
    " ",
    "\n",
    "1",
    "'a'",
    "'--'",
    "'/*'",
    "E'\\'/*'",
    "$$",
    "$x$",
    "/*",
    "*/",
    "/* x */",
    "-- y\n",
    "--",
    "+",
    "-",
    "*",
    "||",
    ",",
    "a",
    "\"--\"",
    "'",
    "/*+ h */",
    "/* sortie */",
    "n",
    "::text",
    "\r",
    "U&'\\0041'",
    "x'1'",
    "(",
];

/// What a server makes of a text: the values of its rows, or its error's code.
async fn meant(wire: &mut Wire, text: &str) -> Vec<String> {
    let frames = wire.simple(text).await;
    frames
        .iter()
        .filter_map(|frame| match (frame.row(), frame.report()) {
            (Some(row), _) => Some(format!("{row:?}")),
            (_, Some(report)) => Some(report.sqlstate),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_and_its_canonical_form_mean_the_same_to_postgresql() {
    let mut wire = oracle().await;
    let mut dice = Dice(3);
    let (mut read, mut valid) = (0, 0);
    for _ in 0..1_500 {
        let mut text = String::from("select 1 as a, ");
        for _ in 0..=dice.roll(9) {
            text.push_str(dice.pick(&PIECES));
        }
        if dice.roll(2) == 0 {
            text.push_str(dice.pick(&[" 'z' -- end", " 2 /* end */", " 3 ; -- end"]));
        }
        let Ok(canonical) = Canonical::new(&text) else { continue };
        read += 1;
        let expected = meant(&mut wire, &text).await;
        assert_eq!(meant(&mut wire, &canonical.text).await, expected, "{text:?}");
        // Comments of another content have the same canonical form, and the same meaning.
        valid += usize::from(expected.iter().any(|said| said.starts_with('[')));
    }
    assert!(read > 500 && valid > 100, "{read} read, {valid} valid: a weak test");
}
