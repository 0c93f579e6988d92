//! What a statement leaves on its session.

#![expect(clippy::too_many_lines, reason = "a list of scripts has no parts")]

use super::{batch, extended};
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    let mut all = settings();
    all.extend([
        Script::new("session: a temporary table")
            .writing("SELECT 1")
            .query("CREATE TEMPORARY TABLE mine (id int4, note text)")
            .query("INSERT INTO mine VALUES (1, 'a'), (2, 'b')")
            .query("SELECT * FROM mine ORDER BY id")
            .ask(extended("SELECT count(*) FROM mine"))
            .query("SELECT relpersistence FROM pg_class WHERE relname = 'mine'"),
        Script::new("session: a temporary table that goes with its transaction")
            .writing("SELECT 1")
            .query("BEGIN")
            .query("CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS x")
            .query("SELECT * FROM mine")
            .query("COMMIT")
            .query("SELECT * FROM mine"),
        Script::new("session: SELECT INTO a temporary table")
            .writing("SELECT 1")
            .query("SELECT 1 AS x INTO TEMP mine")
            .query("SELECT 2")
            .query("SELECT * FROM mine"),
        Script::new("session: sequences remember")
            .writing("SELECT 1")
            .query("CREATE TEMP SEQUENCE s")
            .query("SELECT currval('s')")
            .query("SELECT nextval('s')")
            .query("SELECT nextval('s')")
            .query("SELECT currval('s'), lastval()"),
        Script::new("session: DISCARD ALL")
            .writing("SELECT 1")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("PREPARE p AS SELECT 1")
            .query("CREATE TEMP TABLE mine (x int4)")
            .query("LISTEN discarded")
            .query("SELECT pg_try_advisory_lock(4713)")
            .query("DISCARD ALL")
            .query("SHOW TimeZone")
            .query("EXECUTE p")
            .query("SELECT * FROM mine")
            .query("SELECT pg_listening_channels()")
            .query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4713"),
        Script::new("session: DISCARD of parts")
            .query("PREPARE p AS SELECT 1")
            .query("DISCARD PLANS")
            .query("EXECUTE p")
            .query("DISCARD SEQUENCES")
            .query("DISCARD TEMP")
            .query("BEGIN")
            .query("DISCARD ALL")
            .query("ROLLBACK"),
        Script::new("session: roles")
            .query("SELECT current_user, session_user")
            .query("SET ROLE tester")
            .query("SHOW role")
            .query("RESET ROLE")
            .query("SET SESSION AUTHORIZATION postgres")
            .query("SELECT current_user"),
        Script::new("session: DDL in a transaction")
            .writing("DROP TABLE IF EXISTS made_here")
            .query("BEGIN")
            .query("CREATE TABLE made_here (id int4 PRIMARY KEY)")
            .query("ALTER TABLE made_here ADD COLUMN note text DEFAULT 'x'")
            .query("INSERT INTO made_here VALUES (1)")
            .query("SELECT * FROM made_here")
            .query("ROLLBACK")
            .query("SELECT * FROM made_here"),
        Script::new("session: a plan that DDL makes invalid")
            .writing(
                "DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT 1 AS a; \
                      ALTER TABLE changing OWNER TO tester",
            )
            .ask(batch().parse("s", "SELECT * FROM changing", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .query("ALTER TABLE changing ADD COLUMN b int4")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .ask(batch().close(b'S', "s").parse("s", "SELECT * FROM changing", &[]).sync())
            .ask(batch().bind("", "s", (0, &[]), 0).describe(b'P', "").execute("").sync())
            .query("DROP TABLE changing"),
        Script::new("session: what a block leaves behind")
            .query("DO $$ BEGIN PERFORM set_config('my.flag', 'on', false); END $$")
            .query("SELECT current_setting('my.flag')")
            .query("SELECT 1")
            .query("SELECT current_setting('my.flag')"),
        Script::new("session: writes and reads in turns")
            .writing("TRUNCATE marks")
            .query("INSERT INTO marks VALUES (1, 1)")
            .query("SELECT value FROM marks WHERE id = 1")
            .query("UPDATE marks SET value = 2 WHERE id = 1")
            .query("SELECT value FROM marks WHERE id = 1")
            .ask(extended("DELETE FROM marks"))
            .ask(extended("SELECT count(*) FROM marks")),
        Script::new("session: parse, then the table is dropped under it")
            .writing(
                "DROP TABLE IF EXISTS going; CREATE TABLE going AS SELECT 1 AS a; \
                      ALTER TABLE going OWNER TO tester",
            )
            .ask(batch().parse("s", "SELECT a FROM going", &[]).sync())
            .query("DROP TABLE going")
            .ask(batch().bind("", "s", (0, &[]), 0).execute("").sync())
            .ask(batch().describe(b'S', "s").sync())
            .query("SELECT 1"),
    ]);
    all
}

fn settings() -> Vec<Script> {
    let moment = "SELECT '2024-02-29 12:00+00'::timestamptz, '1 day 2 hours'::interval";
    vec![
        Script::new("setting: reported ones")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("SET application_name = 'differ'")
            .query("SET DateStyle = 'German, DMY'")
            .query("SET IntervalStyle = 'iso_8601'")
            .query("SET standard_conforming_strings = off")
            .query(moment)
            .query("RESET ALL")
            .query(moment),
        Script::new("setting: the same value again is not reported")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("SELECT 1"),
        Script::new("setting: client_encoding")
            .query("SET client_encoding = 'LATIN1'")
            .ask(batch().raw(b'Q', b"SELECT '\xe9', length('\xe9')\0"))
            .query("SELECT chr(8364)")
            .query("SET NAMES 'UTF8'")
            .query("SELECT chr(8364)"),
        Script::new("setting: local to a transaction")
            .query("BEGIN")
            .query("SET LOCAL TimeZone = 'Asia/Tokyo'")
            .query(moment)
            .query("COMMIT")
            .query(moment),
        Script::new("setting: undone by a rollback")
            .query("BEGIN")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("SET work_mem = '9MB'")
            .query("ROLLBACK")
            .query("SHOW TimeZone")
            .query("SHOW work_mem"),
        Script::new("setting: undone to a savepoint")
            .query("BEGIN")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("SAVEPOINT a")
            .query("SET TimeZone = 'Europe/Paris'")
            .query("ROLLBACK TO a")
            .query("SHOW TimeZone")
            .query("COMMIT")
            .query("SHOW TimeZone"),
        Script::new("setting: kept by a commit, and through reads")
            .query("BEGIN")
            .query("SET bytea_output = 'escape'")
            .query("COMMIT")
            .query("SELECT '\\x00ff'::bytea")
            .ask(extended("SELECT '\\x00ff'::bytea"))
            .query("RESET bytea_output")
            .query("SELECT '\\x00ff'::bytea"),
        Script::new("setting: unreported ones and custom ones")
            .query("SET extra_float_digits = 0; SET my.own = 'x'")
            .query("SELECT 0.1::float8 + 0.2::float8, current_setting('my.own')")
            .query("SET search_path = pg_catalog")
            .query("SELECT count(*) FROM items")
            .query("SHOW search_path")
            .query("SET search_path TO DEFAULT")
            .query("SELECT count(*) FROM items"),
        Script::new("setting: by function")
            .query("SELECT set_config('TimeZone', 'Asia/Tokyo', false)")
            .query(moment)
            .query("SELECT set_config('TimeZone', 'UTC', true)")
            .query(moment),
        Script::new("setting: refused ones")
            .query("SET no_such_parameter = 1")
            .query("SET TimeZone = 'Nowhere/Land'")
            .query("SET work_mem = 'much'")
            .query("SET shared_buffers = '1GB'")
            .query("SET session_replication_role = replica")
            .query("SHOW no_such_parameter"),
        Script::new("setting: the first of a string is reported once, at its end")
            .query("SET TimeZone = 'Asia/Tokyo'; SELECT 1; SET TimeZone = 'Europe/Paris'"),
        Script::new("setting: in a string that fails")
            .query("SET TimeZone = 'Asia/Tokyo'; SELECT 1 / 0")
            .query("SHOW TimeZone"),
        Script::new("setting: by the extended protocol, then read back")
            .ask(extended("SET TimeZone = 'Asia/Tokyo'"))
            .ask(extended("SHOW TimeZone"))
            .ask(extended(moment))
            .ask(extended("RESET TimeZone"))
            .ask(extended("SHOW TimeZone")),
        Script::new("setting: session characteristics")
            .query("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            .query("SHOW default_transaction_read_only")
            .query("SHOW transaction_read_only")
            .query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .query("SHOW transaction_isolation"),
    ]
}
