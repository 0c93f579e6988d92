//! The simple protocol.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::batch;
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    vec![
        Script::new("simple: one row")
            .query("SELECT id, label, price, made FROM items WHERE id = 7"),
        Script::new("simple: no row, and no column")
            .query("SELECT id FROM items WHERE id < 0")
            .query("SELECT FROM items WHERE id < 4"),
        Script::new("simple: empty strings")
            .query("")
            .query(";")
            .query(" ;; -- nothing\n")
            .query("/* nothing */"),
        Script::new("simple: nulls and empty text")
            .query("SELECT NULL, '', NULL::int4, 'x' || NULL, ARRAY[NULL, 'a']"),
        Script::new("simple: two statements in one string")
            .query("SELECT 1 AS one; SELECT 2 AS two"),
        Script::new("simple: many kinds in one string").query(
            "SELECT 1; SET application_name = 'a'; SHOW application_name; ; \
             RESET application_name; VALUES (1), (2); TABLE items LIMIT 1",
        ),
        Script::new("simple: types as text").query(
            "SELECT 1::int2, 2::int8, 1.5::float4, 'NaN'::float8, true, '\\x00ff'::bytea, \
             '2024-02-29 12:00+00'::timestamptz, '1 day 2 hours'::interval, '{\"a\": 1}'::jsonb, \
             '10.0.0.1'::inet, ARRAY[[1,2],[3,4]], '[1,5)'::int4range, 'a=>b'::text",
        ),
        Script::new("simple: a transaction")
            .query("BEGIN")
            .query("SELECT count(*) FROM items")
            .query("COMMIT"),
        Script::new("simple: a transaction in one string")
            .query("BEGIN; SELECT id FROM items WHERE id = 1; COMMIT"),
        Script::new("simple: a transaction begun in one string and ended in another")
            .query("SELECT 1; BEGIN; SELECT 2")
            .query("SELECT 3; ROLLBACK; SELECT 4"),
        Script::new("simple: warnings about transactions")
            .query("COMMIT")
            .query("ROLLBACK")
            .query("BEGIN")
            .query("BEGIN")
            .query("END")
            .query("SAVEPOINT a"),
        Script::new("simple: transaction modes")
            .query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .query("SHOW transaction_isolation")
            .query("SET TRANSACTION READ WRITE")
            .query("COMMIT AND CHAIN")
            .query("SHOW transaction_isolation")
            .query("ROLLBACK"),
        Script::new("simple: savepoints")
            .query("BEGIN")
            .query("SAVEPOINT a")
            .query("SELECT 1 / 0")
            .query("SELECT 1")
            .query("ROLLBACK TO a")
            .query("SELECT 2")
            .query("RELEASE a")
            .query("ROLLBACK TO a")
            .query("ROLLBACK"),
        Script::new("simple: cursors")
            .query("BEGIN")
            .query("DECLARE c CURSOR FOR SELECT id, label FROM items ORDER BY id")
            .query("FETCH 3 FROM c")
            .query("MOVE 5 IN c")
            .query("FETCH BACKWARD 2 FROM c")
            .query("FETCH ALL FROM c")
            .query("CLOSE c")
            .query("FETCH c")
            .query("ROLLBACK"),
        Script::new("simple: a cursor that outlives its transaction")
            .query("BEGIN")
            .query("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM items WHERE id < 6 ORDER BY 1")
            .query("COMMIT")
            .query("FETCH 2 FROM c")
            .query("SELECT 1")
            .query("FETCH 2 FROM c")
            .query("CLOSE ALL")
            .query("FETCH 2 FROM c"),
        Script::new("simple: notices").query(
            "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'a hint', \
             DETAIL = 'a detail'; RAISE INFO 'three'; END $$",
        ),
        Script::new("simple: notices between rows").query(
            "DROP TABLE IF EXISTS no_such_table; SELECT 1; DROP VIEW IF EXISTS no_such_view; \
             SELECT 2",
        ),
        Script::new("simple: queries without waiting").ask(
            batch()
                .query("SELECT 1")
                .query("SELECT 2; SELECT 3")
                .query("SELECT oops")
                .query("")
                .query("BEGIN")
                .query("SELECT 4")
                .query("COMMIT")
                .query("SELECT 5"),
        ),
        Script::new("simple: explain").query("EXPLAIN (COSTS OFF) SELECT 1"),
        Script::new("simple: catalogues").query(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relname = 'items' AND a.attnum > 0 ORDER BY a.attnum",
        ),
    ]
}
