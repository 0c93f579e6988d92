use super::*;

fn check(text: &str, left: &[Effect]) {
    assert_eq!(Effects::of(text.as_bytes()).left, left, "{text}");
}

fn harmless(text: &str) {
    check(text, &[]);
}

fn dirty(text: &str, reason: Reason) {
    assert_eq!(Effects::of(text.as_bytes()).reason(), Some(reason), "{text}");
}

fn set(name: &str, value: &str) -> Effect {
    Effect::Set(name.into(), (!value.is_empty()).then(|| value.into()))
}

#[test]
fn reads_leave_nothing() {
    for text in [
        "",
        "-- nothing",
        "select 1",
        "SELECT balance FROM users WHERE user_id = $1",
        "table users",
        "values (1), (2)",
        "(select 1) union all (select 2) order by 1 limit (3)",
        "select count(*), sum(a) filter (where b) from t group by rollup (c) having (d)",
        "select a in (1, 2), b = any ($1), exists (select 1), array(select 1), row(1, 2) from t",
        "select lower(a) || upper(b), coalesce(c, 0), extract(year from d) from t for update",
        "select * from t for no key update of t nowait",
        "select rank() over (partition by a order by b), lag(a) over w from t window w as ()",
        "select '1'::numeric(10, 2), cast(a as varchar(3)), b::character varying(9) from t",
        "with recursive t(n) as (values (1) union all select n + 1 from t) select n from t",
        "with a as not materialized (select 1), b (c, d) as (select 1, 2) select * from a, b",
        "select * from generate_series(1, 3) as g(i), unnest($1::int[]) u(x), (select 1) s (y)",
        "select pg_catalog.pg_get_userbyid(10), \"lower\"('A')",
        "select information_schema._pg_truetypid(a) from t",
        "select 'set_config(1)', \"nextval\" from t -- nextval('s')",
        "select a operator(pg_catalog.=) b collate pg_catalog.\"default\" from t",
        "show search_path",
        "show transaction isolation level",
        "show all",
        "explain select 1",
        "explain (costs off, verbose) insert into t values (1)",
        "explain analyze select count(*) from t",
        "explain analyse verbose select 1",
        "explain (analyze, buffers) table t",
        "copy users to stdout",
        "COPY users (user_id, name) TO STDOUT (FORMAT csv)",
        "copy (select lower(name) from users) to stdout with csv header",
        "declare c no scroll cursor without hold for select 1",
        "fetch 10 from c",
        "close all",
        "unlisten *",
        "notify a, 'b'",
        "lock table users in share mode",
        "set local search_path = a",
        "set transaction isolation level serializable",
        "set constraints all deferred",
        "select set_config('a.b', 'c', true)",
        "select pg_advisory_xact_lock(1), pg_notify('a', 'b'), pg_sleep(0.1)",
        "discard plans",
        "select (a).lower, $1.upper, s.t.u from t",
    ] {
        harmless(text);
    }
}

#[test]
fn what_drivers_ask_for_at_their_start_leaves_nothing() {
    harmless(include_str!("drivers/psql.sql"));
    harmless(include_str!("drivers/asyncpg.sql"));
    for text in [
        // SQLAlchemy.
        "select pg_catalog.version()",
        "select current_schema()",
        "show standard_conforming_strings",
        "SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1",
        "SELECT t.oid, typarray, t.typname = 'hstore' FROM pg_type t JOIN pg_namespace ns \
         ON typnamespace = ns.oid WHERE typname = 'hstore'",
        // psycopg.
        "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, \
         typdelim AS delimiter FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid",
        // sqlx, tokio-postgres.
        "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, \
         t.typrelid FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_range r ON \
         r.rngtypid = t.oid INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid \
         WHERE t.oid = $1",
        // JDBC.
        "SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM \
         pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid",
        "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid \
         FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from \
         pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname from \
         generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using \
         ( nspname )) as sp ON sp.nspoid = typnamespace WHERE typname = $1 ORDER BY sp.r",
        // Rails.
        "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, \
         t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE \
         t.typname IN ('int2', 'int4')",
        "SHOW max_identifier_length",
    ] {
        harmless(text);
    }
}

#[test]
fn what_drivers_set_at_their_start_can_be_set_again() {
    for (text, name, value) in [
        ("SET extra_float_digits = 3", "extra_float_digits", "3"),
        (
            "SET application_name = 'PostgreSQL JDBC Driver'",
            "application_name",
            "PostgreSQL JDBC Driver",
        ),
        ("SET client_min_messages TO 'warning'", "client_min_messages", "warning"),
        ("SET standard_conforming_strings = on", "standard_conforming_strings", "on"),
        ("SET SESSION timezone TO 'UTC'", "timezone", "UTC"),
        ("SET intervalstyle = iso_8601", "intervalstyle", "iso_8601"),
        ("SELECT set_config('TimeZone', 'UTC', false)", "timezone", "UTC"),
        ("SELECT pg_catalog.set_config('search_path', '', false);", "search_path", ""),
        ("set client_encoding to 'UTF8'", "client_encoding", "UTF8"),
        ("set names 'latin1'", "client_encoding", "latin1"),
        ("SET TIME ZONE 'Europe/Berlin'", "timezone", "Europe/Berlin"),
        ("SET TIME ZONE LOCAL", "timezone", ""),
        ("SET TIME ZONE -7", "timezone", ""),
        ("set schema 'a'", "search_path", ""),
        ("set search_path to a, b, c", "search_path", ""),
        ("set search_path to a", "search_path", "a"),
        ("set search_path to 'A, b'", "search_path", ""),
        ("set search_path = \"MySchema\"", "search_path", ""),
        ("set role bob", "role", ""),
        ("set role = bob", "role", ""),
        ("set session authorization bob", "session_authorization", ""),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "session characteristics", ""),
        ("set \"App\".user_id = 7", "app.user_id", "7"),
    ] {
        check(text, &[set(name, value)]);
    }
    check("reset DateStyle", &[Effect::Reset("datestyle".into())]);
    check("set datestyle to default", &[Effect::Reset("datestyle".into())]);
    check("reset session authorization", &[Effect::Reset("session_authorization".into())]);
    let pool = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
    let effects = Effects::of(pool.as_bytes());
    assert_eq!((effects.statements, effects.left), (4, vec![Effect::ResetAll]));
}

#[test]
fn transactions_are_seen_and_leave_nothing() {
    let (begin, start) = (Control::Begin("BEGIN"), Control::Begin("START TRANSACTION"));
    for (text, control) in [
        ("begin", begin),
        ("BEGIN WORK READ ONLY", begin),
        ("begin isolation level read committed, read only;", begin),
        ("START TRANSACTION READ ONLY ISOLATION LEVEL READ UNCOMMITTED", start),
        ("start", Control::Other),
        ("begin read write", Control::Other),
        ("begin isolation level repeatable read", Control::Other),
        ("begin , read only", Control::Other),
        ("begin read only,", Control::Other),
        ("begin transaction deferrable", Control::Other),
        ("commit", Control::Commit),
        ("END transaction and no chain", Control::Commit),
        ("commit and chain", Control::Other),
        ("commit prepared 'a'", Control::Other),
        ("abort work", Control::Rollback),
        ("rollback to savepoint a", Control::Other),
        ("rollback to a", Control::Other),
        ("savepoint a", Control::Other),
        ("release a", Control::Other),
    ] {
        check(text, &[Effect::Control(control)]);
    }
}

#[test]
fn statements_of_sortie_and_about_prepared_ones_are_told() {
    let switch =
        |name: &str, value: Option<&str>| Effect::Switch(name.into(), value.map(Into::into));
    check("set sortie.lane = pipe", &[switch("sortie.lane", Some("pipe"))]);
    check("SET Sortie.Shard TO 1", &[switch("sortie.shard", Some("1"))]);
    check("reset sortie.share", &[switch("sortie.share", None)]);
    check("show sortie.lane", &[Effect::Show("sortie.lane".into())]);
    check("deallocate prepare all", &[Effect::Deallocate(None)]);
    check("DEALLOCATE _pg3_0", &[Effect::Deallocate(Some("_pg3_0".into()))]);
    check("discard all", &[Effect::DiscardAll]);
}

#[test]
fn what_can_not_be_had_again_is_dirty() {
    for (text, reason) in [
        ("prepare a as select 1", Reason::Prepare),
        ("execute a", Reason::Prepare),
        ("explain execute a", Reason::Prepare),
        ("select * from pg_prepared_statements", Reason::Prepare),
        ("declare c cursor with hold for select 1", Reason::Cursor),
        ("listen a", Reason::Listen),
        ("load 'auto_explain'", Reason::Load),
        ("select pg_advisory_lock(1)", Reason::Lock),
        ("select pg_try_advisory_lock_shared(1)", Reason::Lock),
        ("select nextval('s')", Reason::Sequence),
        ("select ('s').nextval", Reason::Sequence),
        ("select (1::int8).pg_advisory_lock", Reason::Lock),
        ("select (array[1])[1].\"pg_advisory_lock\", $1.lower", Reason::Lock),
        ("select $1.f from t", Reason::Function),
        ("select set_config('a.b', $1, false)", Reason::SetConfig),
        ("select set_config('a.b', 'c', false) from t", Reason::SetConfig),
        ("select set_config('sortie.lane', 'pipe', false)", Reason::SetConfig),
        ("select lower(set_config('a.b', 'c', false))", Reason::SetConfig),
        ("set standard_conforming_strings = off", Reason::Encoding),
        ("set client_encoding = 'SJIS'", Reason::Encoding),
        ("set names gbk", Reason::Encoding),
        ("select set_config('client_encoding', 'big5', false)", Reason::Encoding),
        ("do $$ begin end $$", Reason::Block),
        ("call p()", Reason::Block),
        ("insert into t values (1)", Reason::Write),
        ("with a as (delete from t returning *) select * from a", Reason::Write),
        ("with a as (update t set b = 1 returning *) select * from a", Reason::Write),
        ("select * into temp a from t", Reason::Write),
        ("explain analyze insert into t values (1)", Reason::Write),
        ("explain (analyze) insert into t values (1)", Reason::Write),
        ("explain analyze create temp table a as select 1", Reason::Unknown),
        ("explain analyse create table a as table t", Reason::Unknown),
        ("explain (analyze) create materialized view a as select 1", Reason::Unknown),
        ("explain (analyze", Reason::Unknown),
        ("copy t from stdin", Reason::Write),
        ("copy t to '/tmp/a'", Reason::Write),
        ("copy (select f()) to stdout", Reason::Function),
        ("create temp table a (b int)", Reason::Define),
        ("select mine(1)", Reason::Function),
        ("select pg_catalog.mine(1)", Reason::Function),
        ("select public.lower(1)", Reason::Function),
        ("select \"Lower\"(1)", Reason::Function),
        ("select \"coalesce\"(1)", Reason::Function),
        ("select public.in(1)", Reason::Function),
        ("select U&\"m\\0069ne\"(1)", Reason::Function),
        ("select distinct on (a) mine(b) from t", Reason::Function),
        ("select a operator(public.=) b from t", Reason::Function),
        ("select * from a, mine(1) as (b int, c text)", Reason::Function),
        ("select ts_stat('select mine()')", Reason::Function),
        ("select query_to_xml('select mine()', true, true, '')", Reason::Function),
        ("set x", Reason::Unknown),
        ("set seed to 0.5", Reason::Unknown),
        ("frobnicate", Reason::Unknown),
        ("select 'a", Reason::Unreadable),
        ("select 1; select $$ a", Reason::Unreadable),
    ] {
        dirty(text, reason);
    }
    assert_eq!(Effects::of(b"select '\xff'").reason(), Some(Reason::Unreadable));
}

#[test]
fn each_statement_of_a_text_is_read() {
    let (begin, commit) = (Control::Begin("BEGIN"), Control::Commit);
    let (begin, commit) = (Effect::Control(begin), Effect::Control(commit));
    let left = [begin, set("a", "1"), Effect::Dirty(Reason::Write), commit];
    check("begin; set a = 1; ; select 1; delete from t; commit;", &left);
}

#[test]
fn what_a_discard_leaves_is_known() {
    for text in [
        "load 'a'",
        "select mine(1)",
        "select setseed(0.5)",
        "set seed to 0.5",
        "do $$ begin end $$",
        "create extension a",
        "execute a",
        "listen a; load 'a'",
        "insert into t values (mine(1))",
        "insert into a.t (b, c) select mine(1), 2",
        "update t set (a, b) = (mine(1), 2)",
        "with a as (insert into t (b) values (mine(1)) returning b) select * from a",
    ] {
        assert!(Effects::of(text.as_bytes()).outlast_discard(), "{text}");
    }
    for text in [
        "listen a",
        "select nextval('s')",
        "select pg_advisory_lock(1)",
        "insert into t (a, b) values (lower($1), now()) on conflict (a) do update set (b) = (1)",
        "insert into \"A\".\"B\" (a) select b from c returning (a)",
        "merge into t using s on (t.a = s.a) when not matched then insert (a) values (1)",
        "delete from t where a in (1, 2)",
    ] {
        let effects = Effects::of(text.as_bytes());
        assert!(effects.reason().is_some() && !effects.outlast_discard(), "{text}");
    }
}

#[test]
fn labels_are_distinct() {
    let labels: HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
    assert_eq!(labels.len(), Reason::ALL.len());
}
