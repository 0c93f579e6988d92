//! Much of everything.

use super::batch;
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    let text = format!("SELECT length('{}')", "q".repeat(300_000));
    let value = vec![b'v'; 500_000];
    vec![
        Script::new("large: a row of four mebibytes")
            .query("SELECT repeat('x', 4194304) AS big, 1 AS small")
            .query("SELECT 1"),
        Script::new("large: a row of three mebibytes, in binary, among small ones").ask(
            batch()
                .parse("", "SELECT decode(repeat('ab', 3145728), 'hex')", &[])
                .bind("", "", (0, &[]), 1)
                .execute("")
                .statement("SELECT 1", &[])
                .sync()
                .statement("SELECT 2", &[])
                .sync(),
        ),
        Script::new("large: many rows").query("SELECT n, n * 2 FROM generate_series(1, 40000) n"),
        Script::new("large: many rows of very different lengths")
            .query("SELECT n, repeat('z', (n * 7919) % 20000) FROM generate_series(1, 300) n"),
        Script::new("large: many columns").query(&format!(
            "SELECT {}",
            (1..=1600).map(|n: u32| n.to_string()).collect::<Vec<_>>().join(", ")
        )),
        Script::new("large: a long statement")
            .query(&text)
            .ask(batch().statement(&text, &[]).sync()),
        Script::new("large: a long parameter").ask(
            batch()
                .statement("SELECT $1::text, length($1::text)", &[Some(&value)])
                .sync()
                .statement("SELECT 1", &[])
                .sync(),
        ),
        Script::new("large: two big answers on their way at once").ask(
            batch()
                .query("SELECT repeat('a', 1000000)")
                .query("SELECT repeat('b', 1000000)")
                .query("SELECT 1"),
        ),
        Script::new("large: many notices")
            .query("DO $$ BEGIN FOR n IN 1..500 LOOP RAISE NOTICE 'notice %', n; END LOOP; END $$"),
        Script::new("large: an error of a hundred kibibytes")
            .query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('e', 100000); END $$")
            .query("SELECT 1"),
    ]
}
