//! The extended protocol without errors.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::{batch, extended};
use crate::differ::Script;

const INT4: u32 = 23;
const TEXT: u32 = 25;

pub(in crate::differ) fn all() -> Vec<Script> {
    let mut all = named();
    all.extend([
        Script::new("extended: one statement")
            .ask(extended("SELECT id, label, price FROM items WHERE id = 7")),
        Script::new("extended: the statement ends the string").ask(extended("SELECT 1;")),
        Script::new("extended: an empty statement")
            .ask(extended(""))
            .ask(batch().parse("", ";", &[]).describe(b'S', "").sync()),
        Script::new("extended: parameters as text").ask(
            batch()
                .parse("", "SELECT $1::int4 + 1, $2::text, $3::date", &[])
                .describe(b'S', "")
                .bind("", "", (0, &[Some(b"41"), Some(b""), None]), 0)
                .execute("")
                .sync(),
        ),
        Script::new("extended: parameters and results in binary").ask(
            batch()
                .parse("", "SELECT $1, $2, NULL::int8, 1.5::numeric, now() < now()", &[INT4, TEXT])
                .bind("", "", (1, &[Some(&[0, 0, 0, 42]), Some("é".as_bytes())]), 1)
                .describe(b'P', "")
                .execute("")
                .sync(),
        ),
        Script::new("extended: parameter types from the client, some unknown").ask(
            batch()
                .parse("", "SELECT $1 + $2, $3", &[INT4, 0, TEXT])
                .describe(b'S', "")
                .bind("", "", (0, &[Some(b"1"), Some(b"2"), Some(b"3")]), 0)
                .execute("")
                .sync(),
        ),
        Script::new("extended: each piece with a Sync of its own")
            .ask(batch().parse("", "SELECT 1", &[]).sync())
            .ask(batch().describe(b'S', "").sync())
            .ask(batch().bind("", "", (0, &[]), 0).describe(b'P', "").execute("").sync()),
        Script::new("extended: nothing but Sync").ask(batch().sync()).ask(batch().sync().sync()),
        Script::new("extended: statements without rows")
            .ask(extended("BEGIN"))
            .ask(extended("SET LOCAL work_mem = '8MB'"))
            .ask(extended("SHOW work_mem"))
            .ask(extended("ROLLBACK"))
            .ask(extended("SHOW work_mem")),
        Script::new("extended: Flush instead of Sync")
            .send(batch().parse("", "SELECT id FROM items WHERE id < 3 ORDER BY 1", &[]).flush())
            .until(b'1', 1)
            .send(batch().describe(b'S', "").flush())
            .until(b'T', 1)
            .send(batch().bind("", "", (0, &[]), 0).execute("").flush())
            .until(b'C', 1)
            .ask(batch().sync()),
        Script::new("extended: Flush, and Sync only after two statements")
            .send(batch().statement("SELECT 1", &[]).flush())
            .until(b'C', 1)
            .send(batch().statement("SELECT 2", &[]).flush())
            .until(b'C', 1)
            .ask(batch().sync()),
        Script::new("extended: Flush with nothing to say")
            .send(batch().flush().flush())
            .ask(batch().sync()),
        Script::new("extended: a write that returns rows")
            .writing("TRUNCATE marks")
            .ask(extended(
                "INSERT INTO marks VALUES (1, 10, 'a'), (2, 20, NULL) RETURNING id, note",
            ))
            .ask(extended("UPDATE marks SET value = value + 1 RETURNING value"))
            .ask(extended("DELETE FROM marks WHERE id = 2"))
            .query("SELECT * FROM marks"),
        Script::new("extended: Describe alone").ask(
            batch()
                .parse("", "SELECT id, label FROM items WHERE id = $1", &[])
                .describe(b'S', "")
                .bind("", "", (0, &[Some(b"1")]), 1)
                .describe(b'P', "")
                .sync(),
        ),
        Script::new("extended: many parameters").ask(many_parameters()),
        Script::new("extended: mixed with the simple protocol")
            .ask(batch().parse("a", "SELECT 1", &[]).sync())
            .query("SELECT 2")
            .ask(batch().bind("", "a", (0, &[]), 0).execute("").sync())
            .query("BEGIN")
            .ask(extended("SELECT 3"))
            .query("COMMIT"),
    ]);
    all
}

fn many_parameters() -> crate::Batch {
    let numbers: Vec<String> = (1..=300).map(|number: u32| number.to_string()).collect();
    let values: Vec<Option<&[u8]>> = numbers.iter().map(|number| Some(number.as_bytes())).collect();
    let list: Vec<String> = (1..=300).map(|number: u32| format!("${number}::int4")).collect();
    let text = format!("SELECT id FROM items WHERE id IN ({}) ORDER BY id", list.join(", "));
    batch().statement(&text, &values).sync()
}

fn named() -> Vec<Script> {
    let point = "SELECT label FROM items WHERE id = $1";
    vec![
        Script::new("named: prepared once, run often")
            .ask(batch().parse("point", point, &[INT4]).describe(b'S', "point").sync())
            .ask(batch().bind("", "point", (0, &[Some(b"1")]), 0).execute("").sync())
            .ask(batch().bind("", "point", (0, &[Some(b"2")]), 0).execute("").sync())
            .ask(batch().bind("", "point", (1, &[Some(&[0, 0, 0, 3])]), 1).execute("").sync())
            .ask(batch().describe(b'S', "point").sync()),
        Script::new("named: prepared and run by different batches with other statements between")
            .ask(batch().parse("a", "SELECT 'a', $1::text", &[]).sync())
            .query("SELECT 1")
            .ask(batch().parse("b", "SELECT 'b', $1::text", &[]).sync())
            .query("SELECT 2")
            .ask(batch().bind("", "a", (0, &[Some(b"x")]), 0).execute("").sync())
            .ask(batch().bind("", "b", (0, &[Some(b"y")]), 0).execute("").sync()),
        Script::new("named: closed, and prepared again as something else")
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .ask(batch().close(b'S', "s").parse("s", "SELECT 'two'", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).describe(b'P', "").execute("").sync())
            .ask(batch().close(b'S', "s").sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .ask(batch().close(b'S', "s").close(b'S', "never there").sync()),
        Script::new("named: the same name twice")
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .ask(batch().parse("s", "SELECT 2", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: a name that failed to prepare is free")
            .ask(batch().parse("s", "SELECT oops", &[]).sync())
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: prepared in a transaction that fails, still there")
            .query("BEGIN")
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .query("SELECT 1 / 0")
            .query("ROLLBACK")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: a Parse skipped by an earlier error prepares nothing")
            .ask(batch().parse("", "SELECT oops", &[]).parse("s", "SELECT 1", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .ask(batch().parse("s", "SELECT 2", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: the unnamed statement goes with a simple query")
            .ask(batch().parse("", "SELECT 1", &[]).sync())
            .query("SELECT 2")
            .ask(batch().bind("", "", (0, &[]), 0).execute("").sync()),
        Script::new("named: the unnamed statement outlives a Sync")
            .ask(batch().parse("", "SELECT $1::int4", &[]).sync())
            .ask(batch().bind("", "", (0, &[Some(b"1")]), 0).execute("").sync())
            .ask(batch().bind("", "", (0, &[Some(b"2")]), 0).execute("").sync()),
        Script::new("named: PREPARE, EXECUTE and DEALLOCATE")
            .query("PREPARE p (int4) AS SELECT label FROM items WHERE id = $1")
            .query("EXECUTE p (1)")
            .query("SELECT 1")
            .ask(batch().bind("", "p", (0, &[Some(b"2")]), 0).describe(b'P', "").execute("").sync())
            .query("EXECUTE p (3)")
            .query("DEALLOCATE p")
            .query("EXECUTE p (4)")
            .query("DEALLOCATE p"),
        Script::new("named: EXECUTE of what Parse prepared")
            .ask(batch().parse("s", "SELECT $1::int4 * 2", &[]).sync())
            .query("SELECT 1")
            .query("EXECUTE s (21)")
            .query("SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY 1"),
        Script::new("named: DEALLOCATE ALL forgets all")
            .ask(batch().parse("s", "SELECT 1", &[]).sync())
            .query("PREPARE p AS SELECT 2")
            .query("DEALLOCATE ALL")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .query("EXECUTE p")
            .ask(batch().parse("s", "SELECT 3", &[]).bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: its answer depends on a setting made later")
            .ask(batch().parse("s", "SELECT '2024-02-29 12:00+00'::timestamptz", &[]).sync())
            .query("SET TimeZone = 'Asia/Tokyo'")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .query("SET TimeZone = 'UTC'")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync()),
        Script::new("named: a hundred of them").ask(hundred()).query("SELECT 1").ask(
            batch()
                .bind("", "s7", (0, &[]), 0)
                .execute("")
                .bind("", "s99", (0, &[]), 0)
                .execute("")
                .sync(),
        ),
    ]
}

fn hundred() -> crate::Batch {
    let numbers = 0..100;
    let prepared = numbers.fold(batch(), |batch, number: u32| {
        batch.parse(&format!("s{number}"), &format!("SELECT {number}"), &[])
    });
    prepared.sync()
}
