//! Errors at each position.

use super::{batch, extended};
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    let mut all = in_batches();
    all.extend(in_transactions());
    all.extend([
        Script::new("error: simple, of each class")
            .query("SELEC 1")
            .query("SELECT oops")
            .query("SELECT * FROM no_such_table")
            .query("SELECT 1 / 0")
            .query("SELECT 'x'::int4")
            .query("SELECT no_such_function(1)")
            .query("SELECT 'unterminated")
            .query("SELECT id FROM items WHERE id = (SELECT 1 UNION SELECT 2)")
            .query("SELECT pg_catalog.pg_read_file('/etc/passwd')")
            .query("SELECT 1"),
        Script::new("error: the position counts characters").query("SELECT 'é…x', oops"),
        Script::new("error: with context")
            .query("SELECT fail_at(n, 2) FROM generate_series(1, 3) n"),
        Script::new("error: in the middle of a string")
            .query("SELECT 1; SELECT 1 / 0; SELECT 2")
            .query("SELECT 1; SELECT oops; SELECT 2")
            .query("SELECT 1; SELEC 2; SELECT 3"),
        Script::new("error: after rows were sent")
            .query("SELECT fail_at(n, 500), repeat('x', 100) FROM generate_series(1, 1000) n"),
        Script::new("error: a string's own transaction is rolled back")
            .writing("TRUNCATE marks")
            .query("INSERT INTO marks VALUES (1, 1); INSERT INTO marks VALUES (2, -1)")
            .query("SELECT count(*) FROM marks")
            .query("INSERT INTO marks VALUES (1, 1); COMMIT; INSERT INTO marks VALUES (2, -1)")
            .query("SELECT count(*) FROM marks"),
        Script::new("error: raised in a block, with every field").query(
            "DO $$ BEGIN RAISE EXCEPTION 'm' USING ERRCODE = '22012', DETAIL = 'd', HINT = 'h', \
             COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'r', SCHEMA = 's'; END $$",
        ),
        Script::new("error: text that is not UTF-8")
            .ask(batch().raw(b'Q', b"SELECT '\xff\xfe'\0").query("SELECT 1"))
            .ask(
                batch()
                    .parse("", "SELECT $1::text", &[])
                    .bind("", "", (0, &[Some(b"\xc3")]), 0)
                    .execute("")
                    .sync(),
            ),
        Script::new("error: statement_timeout")
            .query("SET statement_timeout = '30ms'")
            .query("SELECT pg_sleep(5)")
            .query("RESET statement_timeout")
            .query("SELECT 1"),
        Script::new("error: statements that may not be in a transaction or a string")
            .query("SELECT 1; VACUUM items")
            .query("BEGIN")
            .query("CREATE DATABASE nowhere")
            .query("ROLLBACK"),
        Script::new("error: a write in a read-only transaction")
            .query("BEGIN READ ONLY")
            .query("DELETE FROM marks")
            .query("ROLLBACK"),
    ]);
    all
}

fn in_batches() -> Vec<Script> {
    let good = "SELECT id FROM items WHERE id < 3 ORDER BY 1";
    let rest = batch().statement(good, &[]).sync().statement(good, &[]).sync();
    vec![
        Script::new("error: in Parse, and what follows is skipped")
            .ask(batch().statement("SELECT oops", &[]).then(&rest)),
        Script::new("error: in Bind, a value that cannot be read").ask(
            batch()
                .parse("", "SELECT $1::int4", &[])
                .bind("", "", (0, &[Some(b"x")]), 0)
                .describe(b'P', "")
                .execute("")
                .then(&rest),
        ),
        Script::new("error: in Bind, too few values").ask(
            batch()
                .parse("", "SELECT $1::int4, $2::int4", &[])
                .bind("", "", (0, &[Some(b"1")]), 0)
                .execute("")
                .then(&rest),
        ),
        Script::new("error: in Bind, a binary value of the wrong length").ask(
            batch()
                .parse("", "SELECT $1::int4", &[])
                .bind("", "", (1, &[Some(&[1, 2])]), 0)
                .execute("")
                .then(&rest),
        ),
        Script::new("error: in Bind, no such statement")
            .ask(batch().bind("", "gone", (0, &[]), 0).execute("").then(&rest)),
        Script::new("error: in Bind, no such format").ask(
            batch().parse("", "SELECT 1", &[]).bind("", "", (0, &[]), 7).execute("").then(&rest),
        ),
        Script::new("error: in Describe, no such statement and no such portal")
            .ask(batch().describe(b'S', "gone").then(&rest))
            .ask(batch().describe(b'P', "gone").then(&rest))
            .ask(batch().describe(b'Z', "gone").then(&rest)),
        Script::new("error: in Execute, no such portal").ask(batch().execute("gone").then(&rest)),
        Script::new("error: in Execute, before the first row")
            .ask(batch().statement("SELECT 1 / (id - 1) FROM items WHERE id = 1", &[]).then(&rest)),
        Script::new("error: in Execute, after some rows").ask(
            batch().statement("SELECT fail_at(n, 3) FROM generate_series(1, 5) n", &[]).then(&rest),
        ),
        Script::new("error: in the second statement of a batch, the first is undone")
            .writing("TRUNCATE marks")
            .ask(
                batch()
                    .statement("INSERT INTO marks VALUES (1, 1)", &[])
                    .statement("INSERT INTO marks VALUES (2, -1)", &[])
                    .then(&rest),
            )
            .query("SELECT count(*) FROM marks"),
        Script::new("error: two statements in one Parse")
            .ask(batch().parse("", "SELECT 1; SELECT 2", &[]).then(&rest)),
        Script::new("error: a Query is skipped too")
            .send(batch().parse("", "SELECT oops", &[]).query("SELECT 1").sync())
            .until(b'Z', 1)
            .query("SELECT 2"),
        Script::new("error: Flush shows it, Sync ends it")
            .send(batch().parse("", "SELECT oops", &[]).flush())
            .until(b'E', 1)
            .send(batch().statement(good, &[]).flush())
            .ask(batch().sync())
            .query("SELECT 2"),
        Script::new("error: too many parameters announced")
            .ask(batch().parse("", "SELECT $65536", &[]).then(&rest)),
        Script::new("error: a parameter whose type nobody knows")
            .ask(batch().parse("", "SELECT $2::int4", &[]).then(&rest)),
        Script::new("error: Close of anything but a statement or a portal")
            .ask(batch().close(b'Q', "").then(&rest)),
    ]
}

fn in_transactions() -> Vec<Script> {
    vec![
        Script::new("error: in a transaction, 25P02 until its end, COMMIT answers ROLLBACK")
            .query("BEGIN")
            .query("SELECT 1 / 0")
            .query("SELECT 1")
            .query("SELECT oops")
            .query("")
            .query("COMMIT")
            .query("SELECT 1"),
        Script::new("error: in a transaction of the extended protocol")
            .ask(extended("BEGIN"))
            .ask(extended("SELECT 1 / 0"))
            .ask(extended("SELECT 1"))
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .ask(batch().parse("e", "ROLLBACK", &[]).sync())
            .ask(batch().bind("", "e", (0, &[]), 0).execute("").sync())
            .ask(extended("SELECT 1")),
        Script::new("error: COMMIT in the same batch as the error")
            .ask(
                batch()
                    .statement("BEGIN", &[])
                    .statement("SELECT 1 / 0", &[])
                    .statement("COMMIT", &[])
                    .sync(),
            )
            .ask(extended("COMMIT"))
            .ask(extended("SELECT 1")),
        Script::new("error: a deferred one at COMMIT")
            .writing("TRUNCATE marks")
            .query(
                "BEGIN; CREATE TABLE deferred (id int4 PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
            )
            .query("INSERT INTO deferred VALUES (1), (1)")
            .query("COMMIT")
            .query("SELECT 1"),
        Script::new("error: a transaction left open at the end").query("BEGIN").query("SELECT 1"),
        Script::new("error: a failed transaction left open at the end")
            .query("BEGIN")
            .query("SELECT 1 / 0"),
    ]
}
