//! Functions that somebody has written in SQL: looked through where all of a name can be read, for
//! what they leave on a session as for what their results depend on.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Postgres, Server, Wire};
use tokio::time::{Instant, sleep};

use crate::relay::{count, start};
use crate::support::among_others;
use crate::unbound::set_mode;
use crate::views::{asked, endpoint, numbers, until};

/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(30);

/// Tables whose policies ask a function who is there, as its session says.
const TENANTS: &str = "
    SET check_function_bodies = off;
    CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA auth; CREATE SCHEMA other;
    GRANT USAGE ON SCHEMA auth, other TO alice, bob;
    CREATE FUNCTION auth.uid() RETURNS text LANGUAGE sql STABLE AS $$
      select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::text $$;
    CREATE TABLE notes (id int, owner text);
    INSERT INTO notes SELECT i, 't' || i % 3 FROM generate_series(1, 30) i;
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (owner = (SELECT auth.uid()));
    CREATE TABLE teams (team int, member text);
    INSERT INTO teams SELECT i, 't' || i % 3 FROM generate_series(1, 6) i;
    CREATE FUNCTION auth.my_teams() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER
      SET search_path = '' AS 'SELECT t.team FROM public.teams t WHERE t.member = auth.uid()';
    CREATE TABLE posts (id int, team int);
    INSERT INTO posts SELECT i, i % 7 FROM generate_series(1, 30) i;
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON posts USING (team IN (SELECT auth.my_teams()));
    GRANT SELECT ON notes, posts TO alice, bob;";

/// Functions that queries call by themselves.
const CALLED: &str = "
    CREATE TABLE plain (id int, name text);
    INSERT INTO plain SELECT i, 'n' || i FROM generate_series(1, 5) i;
    GRANT SELECT ON plain TO alice;
    CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
    CREATE FUNCTION titled(plain) RETURNS text LANGUAGE sql STABLE
      BEGIN ATOMIC SELECT upper(name) FROM plain p WHERE p.id = ($1).id; END;
    CREATE FUNCTION rights() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
      RETURN current_user || session_user;
    CREATE FUNCTION either(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT doubled(n) + 1';
    CREATE FUNCTION either(n text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT n || '!' $$;
    CREATE FUNCTION half(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n / 2';
    CREATE FUNCTION half(n text) RETURNS text LANGUAGE sql STABLE AS 'SELECT now()::text';
    CREATE FUNCTION late() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';
    CREATE FUNCTION mistaken() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT auth.uid()';
    CREATE FUNCTION drawn() RETURNS float LANGUAGE sql VOLATILE AS 'SELECT 0.5::float';
    CREATE FUNCTION work() RETURNS text LANGUAGE sql STABLE
      AS $$ SELECT current_setting('work_mem') $$;
    CREATE FUNCTION shown(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n; END';";

async fn dirty(server: &Server) -> i64 {
    count(&server.metrics().await, "sortie_dirty_sessions_total", &[])
}

#[tokio::test]
async fn tenants_that_a_policy_tells_apart_by_a_function_share_a_connection_and_no_rows() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(TENANTS).await;
    let url = format!("postgres://alice@{}/postgres", postgres.listen());
    let (server, _config) = start(&[url], 1).await;
    set_mode(&server, "pipe").await;
    let mut one = Wire::connect_as(server.listen(), "alice").await;
    let mut two = Wire::connect_as(server.listen(), "alice").await;
    let texts = ["SELECT id FROM notes ORDER BY id", "SELECT id FROM posts ORDER BY id"];
    for wire in [&mut one, &mut two] {
        for (at, text) in texts.into_iter().enumerate() {
            let name = format!("n{at}");
            wire.ask(&Batch::new().parse(&name, text, &[]).sync()).await;
        }
    }
    for turn in 0..12 {
        for (wire, tenant) in [(&mut one, turn % 3), (&mut two, (turn + 1) % 3)] {
            if turn % 2 == 0 {
                wire.rows(&format!("SET request.jwt.claim.sub = 't{tenant}'")).await;
            } else {
                wire.rows("SET request.jwt.claim.sub = ''").await;
                let claims = format!("{{\"sub\": \"t{tenant}\"}}");
                wire.rows(&format!("SET request.jwt.claims = '{claims}'")).await;
            }
            let notes: Vec<i32> = (1..=30).filter(|id| id % 3 == tenant).collect();
            let posts = (1..=30).filter(|id| id % 7 % 3 == tenant && id % 7 > 0).collect();
            for (at, expected) in [notes, posts].into_iter().enumerate() {
                assert_eq!(numbers(&wire.rows(texts[at]).await), expected, "turn {turn}");
                let run = Batch::new().bind("", &format!("n{at}"), (0, &[]), 0).execute("").sync();
                let rows = wire.ask(&run).await.iter().filter_map(Frame::row).count();
                assert_eq!(rows, expected.len(), "turn {turn}");
            }
        }
    }
    assert_eq!(dirty(&server).await, 0);
    drop((one, two));
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn rows_that_a_policy_chooses_by_a_function_are_shared_by_those_who_see_the_same() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(TENANTS).await;
    let (server, _folder) = endpoint(&postgres).await;
    let (notes, posts) = ("SELECT id FROM notes ORDER BY id", "SELECT id FROM posts ORDER BY id");
    let mut one = Wire::connect_as(server.listen(), "alice").await;
    let mut two = Wire::connect_as(server.listen(), "alice").await;
    until(&server, &mut one, notes, true).await;
    until(&server, &mut one, posts, true).await;
    for turn in 0..20 {
        let (first, second) = (turn % 3, (turn + 1) % 3);
        one.rows(&format!("SET request.jwt.claim.sub = 't{first}'")).await;
        two.rows(&format!("SET request.jwt.claim.sub = 't{second}'")).await;
        for text in [notes, posts] {
            let (ones, twos) = tokio::join!(one.rows(text), two.rows(text));
            for (rows, tenant) in [(ones, first), (twos, second)] {
                let of_team = |team: i32| team % 3 == tenant && team > 0;
                let is_seen = |id: &i32| {
                    if text == notes { id % 3 == tenant } else { of_team(id % 7) }
                };
                let expected: Vec<i32> = (1..=30).filter(is_seen).collect();
                assert_eq!(numbers(&rows), expected, "turn {turn}: {text}");
            }
        }
        assert!(asked(&server, &mut one, notes).await.1 && asked(&server, &mut two, posts).await.1);
    }
    assert_eq!(dirty(&server).await, 0);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn reads_that_call_functions_are_shared_where_these_depend_on_what_is_in_the_key() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(TENANTS).await;
    postgres.script(CALLED).await;
    let (server, _folder) = endpoint(&postgres).await;
    let mut alice = Wire::connect_as(server.listen(), "alice").await;
    until(&server, &mut alice, "SELECT doubled(id) FROM plain", true).await;
    drop(alice);
    for (text, expected) in [
        ("SELECT public.doubled(id) FROM plain ORDER BY 1", true),
        ("SELECT id FROM plain WHERE auth.uid() = 't' || id ORDER BY id", true),
        ("SELECT p.id, n FROM plain p, LATERAL doubled(p.id) n ORDER BY 1", true),
        ("SELECT p.id, t FROM plain p, auth.my_teams() t ORDER BY 1, 2", true),
        ("SELECT p.id, titled(p), p.titled FROM plain p ORDER BY 1", true),
        ("SELECT id, rights() FROM plain ORDER BY 1", true),
        ("SELECT id, either(id), either(id::text) FROM plain ORDER BY 1", true),
        ("SELECT doubled(1)", false),
        ("SELECT id, half(id), half(id::text) IS NULL FROM plain ORDER BY 1", false),
        ("SELECT id, late() > '2020-01-01' FROM plain ORDER BY 1", false),
        ("SELECT id, mistaken() FROM plain ORDER BY 1", false),
        ("SELECT id, drawn() < 1 FROM plain ORDER BY 1", false),
        ("SELECT id, work() <> '' FROM plain ORDER BY 1", false),
        ("SELECT id, shown(id) FROM plain ORDER BY 1", false),
    ] {
        for tenant in ["t1", "t2"] {
            let mut direct = Wire::connect_as(postgres.listen(), "alice").await;
            let mut alice = Wire::connect_as(server.listen(), "alice").await;
            let set = format!("SET request.jwt.claim.sub = '{tenant}'");
            direct.rows(&set).await;
            alice.rows(&set).await;
            let (rows, is_shared) = asked(&server, &mut alice, text).await;
            assert_eq!(rows, direct.rows(text).await, "{text}");
            assert_eq!(is_shared, expected, "{text}");
            let run = Batch::new().statement(text, &[]).sync();
            assert_eq!(alice.ask(&run).await, direct.ask(&run).await, "{text}");
        }
    }
    server.stop().await;
    postgres.stop().await;
}

/// What may happen to a function by which rows are chosen, so that they are shared no more, and how
/// that is undone.
const CHANGES: [(&str, &str); 5] = [
    (
        "CREATE OR REPLACE FUNCTION f0() RETURNS text LANGUAGE sql STABLE
         AS $$ SELECT 't' || date_part('second', now())::int * 0 $$",
        "CREATE OR REPLACE FUNCTION f0() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 't0' $$",
    ),
    (
        "CREATE FUNCTION other.f1() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 't1' $$",
        "DROP FUNCTION other.f1()",
    ),
    ("ALTER FUNCTION f2() VOLATILE", "ALTER FUNCTION f2() STABLE"),
    ("ALTER FUNCTION f3() SET work_mem = '1MB'", "ALTER FUNCTION f3() RESET ALL"),
    ("ALTER FUNCTION f4() IMMUTABLE", "ALTER FUNCTION f4() STABLE"),
];

#[tokio::test]
async fn a_function_that_changes_is_looked_at_again() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE alice LOGIN; CREATE ROLE bob; CREATE SCHEMA other").await;
    for at in 0..CHANGES.len() {
        let body = match at {
            4 => "min(owner) FROM owners",
            at => &format!("'t{at}'"),
        };
        let made = format!(
            "CREATE TABLE IF NOT EXISTS owners AS SELECT 't4' AS owner;
             CREATE FUNCTION f{at}() RETURNS text LANGUAGE sql STABLE AS $$ SELECT {body} $$;
             CREATE TABLE rows{at} AS SELECT 1 AS id, 't{at}' AS owner;
             ALTER TABLE rows{at} ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON rows{at} USING (owner = f{at}());
             GRANT SELECT ON rows{at}, owners TO alice"
        );
        postgres.script(&made).await;
    }
    let (server, _folder) = endpoint(&postgres).await;
    for turn in 0..3 {
        for (change, back) in CHANGES {
            match turn {
                0 => {}
                1 => postgres.script(change).await,
                _ => postgres.script(back).await,
            }
        }
        for at in 0..CHANGES.len() {
            let text = format!("SELECT id FROM rows{at}");
            let began = Instant::now();
            loop {
                // One that has been dirty stays so.
                let mut wire = Wire::connect_as(server.listen(), "alice").await;
                let (rows, is_shared) = asked(&server, &mut wire, &text).await;
                assert_eq!(numbers(&rows), [1], "{text}");
                if is_shared == (turn != 1) {
                    break;
                }
                assert!(began.elapsed() < LOOKED_MAX, "{text} in turn {turn}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    server.stop().await;
    postgres.stop().await;
}

/// Functions, each with whether something may be left by it, and a view that calls it: `v_name`.
const FUNCTIONS: [(&str, bool, &str); 20] = [
    ("setting()", false, "AS $$ SELECT current_setting('app.seen', true) IS NULL $$ STABLE"),
    (
        "parsed()",
        false,
        "BEGIN ATOMIC SELECT 1; SELECT current_setting('app.seen', true) = ''; END",
    ),
    ("returned(a int DEFAULT 1)", false, "RETURN a > 0"),
    ("upon(a int DEFAULT 1)", false, "AS 'SELECT setting() AND public.returned(a)'"),
    ("\"Rights\"()", false, "AS 'SELECT count(*) > 0 FROM v_setting' SECURITY DEFINER"),
    ("path()", false, "AS 'SELECT setting()' SET search_path = public, pg_temp"),
    ("sets()", true, "AS $$ SELECT set_config('app.seen', 'yes', false) = '' $$"),
    ("locally()", true, "AS $$ SELECT set_config('app.seen', 'yes', true) = '' $$"),
    ("set_too()", true, "AS $$ SET app.seen = 'yes'; SELECT true $$"),
    ("upon_sets()", true, "AS 'SELECT setting() AND sets()'"),
    ("parsed_sets()", true, "BEGIN ATOMIC SELECT set_config('app.seen', 'x', false) = ''; END"),
    ("returned_sets()", true, "RETURN pg_catalog.set_config('app.seen', 'x', false) = ''"),
    ("reads_sets()", true, "AS 'SELECT count(*) > 0 FROM v_sets'"),
    ("locks()", true, "AS 'SELECT pg_try_advisory_lock(4711)'"),
    ("counts()", true, "AS $$ SELECT nextval('counter') > 0 $$"),
    ("writes()", true, "AS 'INSERT INTO written VALUES (1) RETURNING true'"),
    ("given(a text DEFAULT set_config('app.seen', 'x', false))", true, "AS 'SELECT true'"),
    ("again(a int DEFAULT 1)", true, "AS 'SELECT a = 0 OR again(a - 1)'"),
    ("with_own()", true, "AS 'SELECT true' SET app.seen = 'x'"),
    ("checked(a checked DEFAULT '1')", true, "AS 'SELECT true'"),
];

/// What they need, and names that several functions have.
const AROUND: &str = "
    SET check_function_bodies = off;
    CREATE ROLE guest LOGIN; CREATE SEQUENCE counter; CREATE TABLE written (a int);
    CREATE FUNCTION checks(text) RETURNS bool LANGUAGE plpgsql
      AS $$ BEGIN PERFORM set_config('app.seen', 'x', false); RETURN true; END $$;
    CREATE DOMAIN checked AS text CHECK (checks(VALUE));";
const NAMED_ALIKE: &str = "
    CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO guest;
    CREATE FUNCTION twice() RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION evil.twice() RETURNS bool LANGUAGE plpgsql
      AS $$ BEGIN PERFORM set_config('app.seen', 'x', false); RETURN true; END $$;
    CREATE FUNCTION upon_twice() RETURNS bool LANGUAGE sql AS 'SELECT twice()';
    CREATE VIEW v_twice AS SELECT upon_twice();
    CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql
      AS $$ BEGIN RETURN set_config('app.seen', 'x', false); END $$;
    CREATE FUNCTION upon_lower(text) RETURNS bool LANGUAGE sql AS $$ SELECT lower($1) = '' $$;
    CREATE VIEW v_lower AS SELECT upon_lower('X');
    CREATE FUNCTION upper(text, int) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION upon_upper() RETURNS text LANGUAGE sql AS $$ SELECT upper('a') $$;
    CREATE VIEW v_upper AS SELECT upon_upper(), upper('a', 1);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest; GRANT INSERT ON written TO guest;
    GRANT USAGE ON SEQUENCE counter TO guest;";

#[tokio::test]
async fn what_functions_leave_unseen_is_left_to_nobody() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(AROUND).await;
    let mut cases = vec![("v_twice".to_owned(), true), ("v_lower".to_owned(), true)];
    cases.push(("v_upper".to_owned(), false));
    for (signature, leaves, body) in FUNCTIONS {
        let name = signature.split('(').next().unwrap();
        let made = format!("CREATE FUNCTION {signature} RETURNS bool LANGUAGE sql {body};");
        let view = format!("v_{}", name.trim_matches('"').to_lowercase());
        postgres.script(&format!("SET check_function_bodies = off; {made}")).await;
        postgres.script(&format!("CREATE VIEW {view} AS SELECT {name}() AS a")).await;
        cases.push((view, leaves));
    }
    postgres.script(NAMED_ALIKE).await;
    let url = format!("postgres://guest@{}/postgres", postgres.listen());
    let (server, _config) = start(&[url], 2).await;
    set_mode(&server, "pipe").await;
    for (view, leaves) in cases {
        for path in ["public", "evil, pg_catalog, public"] {
            let before = dirty(&server).await;
            let mut wire = Wire::connect_as(server.listen(), "guest").await;
            wire.rows(&format!("SET search_path = {path}")).await;
            // A cycle may have no end: what is said of it counts.
            let answer =
                wire.ask(&Batch::new().query(&format!("SELECT * FROM public.{view}"))).await;
            assert!(!Frame::tags(&answer).contains('E'), "{view}: {answer:?}");
            assert_eq!(dirty(&server).await > before, leaves, "{view} by way of {path}");
            drop(wire);
            for _ in 0..2 {
                let mut next = Wire::connect_as(server.listen(), "guest").await;
                let seen = "SELECT current_setting('app.seen', true) IS NULL";
                assert_eq!(next.rows(seen).await, [[Some("t".to_owned())]], "{view}");
            }
        }
    }
    // One that was harmless may be so no longer.
    let mut wire = Wire::connect_as(server.listen(), "guest").await;
    for (body, leaves) in [("set_config('app.seen', 'x', false) = ''", true), ("true", false)] {
        let replaced = format!("AS $$ SELECT {body} $$");
        let replaced = format!(
            "CREATE OR REPLACE FUNCTION setting() RETURNS bool LANGUAGE sql STABLE {replaced}"
        );
        postgres.script(&replaced).await;
        let began = Instant::now();
        loop {
            let before = dirty(&server).await;
            wire.rows("SELECT * FROM v_path").await;
            if (dirty(&server).await > before) == leaves {
                break;
            }
            wire.rows("DISCARD ALL").await;
            assert!(began.elapsed() < LOOKED_MAX, "{body}");
            sleep(Duration::from_millis(100)).await;
        }
        wire.rows("DISCARD ALL").await;
    }
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}
