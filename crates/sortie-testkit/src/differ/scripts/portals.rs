//! Portals: row limits, names, lives.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::{batch, extended};
use crate::differ::Script;

const TEN: &str = "SELECT id, label FROM items WHERE id <= 10 ORDER BY id";

pub(in crate::differ) fn all() -> Vec<Script> {
    vec![
        Script::new("portal: rows in threes within one batch").ask(
            batch()
                .parse("", TEN, &[])
                .bind("", "", (0, &[]), 0)
                .execute_some("", 3)
                .execute_some("", 3)
                .execute_some("", 3)
                .execute_some("", 3)
                .execute_some("", 3)
                .sync(),
        ),
        Script::new("portal: exactly as many rows as there are").ask(
            batch()
                .parse("", TEN, &[])
                .bind("", "", (0, &[]), 0)
                .execute_some("", 10)
                .execute_some("", 1)
                .sync(),
        ),
        Script::new("portal: suspended, looked at with Flush, then finished")
            .send(
                batch().parse("", TEN, &[]).bind("p", "", (0, &[]), 0).execute_some("p", 4).flush(),
            )
            .until(b's', 1)
            .send(batch().execute_some("p", 4).flush())
            .until(b's', 1)
            .ask(batch().execute("p").sync()),
        Script::new("portal: gone after Sync outside a transaction")
            .ask(batch().parse("", TEN, &[]).bind("p", "", (0, &[]), 0).execute_some("p", 2).sync())
            .ask(batch().execute("p").sync()),
        Script::new("portal: over Syncs inside a transaction")
            .ask(extended("BEGIN"))
            .ask(batch().parse("s", TEN, &[]).bind("p", "s", (0, &[]), 0).sync())
            .ask(batch().describe(b'P', "p").execute_some("p", 2).sync())
            .query("SELECT 1")
            .ask(batch().execute_some("p", 3).sync())
            .ask(batch().close(b'S', "s").sync())
            .ask(batch().execute("p").sync())
            .ask(extended("COMMIT"))
            .ask(batch().execute("p").sync()),
        Script::new("portal: two at once in a transaction")
            .query("BEGIN")
            .ask(
                batch()
                    .parse("s", "SELECT id FROM items WHERE id > $1 ORDER BY id", &[])
                    .bind("low", "s", (0, &[Some(b"0")]), 0)
                    .bind("high", "s", (0, &[Some(b"990")]), 0)
                    .execute_some("low", 2)
                    .execute_some("high", 2)
                    .execute_some("low", 2)
                    .sync(),
            )
            .ask(batch().execute("high").close(b'P', "low").sync())
            .ask(batch().execute("low").sync())
            .query("ROLLBACK"),
        Script::new("portal: a name in use")
            .query("BEGIN")
            .ask(batch().parse("", TEN, &[]).bind("p", "", (0, &[]), 0).sync())
            .ask(batch().bind("p", "", (0, &[]), 0).sync())
            .query("ROLLBACK"),
        Script::new("portal: FETCH from one that Bind opened")
            .query("BEGIN")
            .ask(batch().parse("s", TEN, &[]).bind("p", "s", (0, &[]), 0).sync())
            .query("FETCH 2 FROM p")
            .ask(batch().execute_some("p", 2).sync())
            .query("COMMIT"),
        Script::new("portal: one that DECLARE opened, run by Execute")
            .query("BEGIN")
            .query("DECLARE c CURSOR FOR SELECT id FROM items WHERE id < 6 ORDER BY id")
            .ask(batch().describe(b'P', "c").execute_some("c", 2).execute("c").sync())
            .query("COMMIT"),
        Script::new("portal: Execute twice of what returns no rows")
            .writing("TRUNCATE marks")
            .ask(
                batch()
                    .parse("", "INSERT INTO marks VALUES (1, 1)", &[])
                    .bind("", "", (0, &[]), 0)
                    .execute("")
                    .execute("")
                    .sync(),
            )
            .query("SELECT count(*) FROM marks"),
        Script::new("portal: RETURNING in parts")
            .writing("TRUNCATE marks; INSERT INTO marks SELECT n, n FROM generate_series(1, 5) n")
            .ask(
                batch()
                    .parse("", "UPDATE marks SET value = 0 RETURNING id", &[])
                    .bind("", "", (0, &[]), 0)
                    .execute_some("", 2)
                    .execute_some("", 2)
                    .sync(),
            )
            .query("SELECT count(*) FROM marks WHERE value = 0"),
        Script::new("portal: an error after a suspension").ask(
            batch()
                .parse("", "SELECT fail_at(n, 5) FROM generate_series(1, 9) n", &[])
                .bind("", "", (0, &[]), 0)
                .execute_some("", 3)
                .execute_some("", 3)
                .execute_some("", 3)
                .sync()
                .then(&extended("SELECT 1")),
        ),
        Script::new("portal: Close of one that is suspended").ask(
            batch()
                .parse("", TEN, &[])
                .bind("p", "", (0, &[]), 0)
                .execute_some("p", 1)
                .close(b'P', "p")
                .close(b'P', "p")
                .execute("p")
                .sync(),
        ),
        Script::new("portal: formats per column").ask(
            batch()
                .parse("", "SELECT id, label, made FROM items WHERE id = 9", &[])
                .raw(b'B', b"\0\0\0\0\0\0\0\x03\0\x01\0\0\0\x01")
                .describe(b'P', "")
                .execute("")
                .sync(),
        ),
        Script::new("portal: more formats than columns").ask(
            batch()
                .parse("", "SELECT 1", &[])
                .raw(b'B', b"\0\0\0\0\0\0\0\x03\0\x01\0\0\0\x01")
                .execute("")
                .sync(),
        ),
    ]
}
