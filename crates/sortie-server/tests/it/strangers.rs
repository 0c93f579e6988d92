//! What a session leaves on a server connection is nobody else's business, whatever it is.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Postgres, Wire};
use tokio::time::{Instant, sleep};

use crate::relay::start;
use crate::stage::{Endpoint, Setup, Stage};
use crate::support::among_others;
use crate::unbound::set_mode;

/// An endpoint with one connection to a server, which goes from hand to hand.
async fn narrow(stage: &Stage, setup: Setup) -> Endpoint {
    stage.endpoint(Setup { mode: "pipe", connections_max: 1, ..setup }).await
}

async fn process(wire: &mut Wire) -> String {
    wire.rows("SELECT pg_backend_pid()").await[0][0].clone().unwrap()
}

#[tokio::test]
async fn a_connection_that_can_not_be_cleaned_is_not_given_to_anybody() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let replica = Setup { pipe_target: "replica", ..Setup::default() };
    let endpoint = narrow(&stage, replica).await;
    let mut one = Wire::connect(endpoint.listen()).await;
    let mut two = Wire::connect(endpoint.listen()).await;
    for _ in 0..3 {
        // On a standby nothing runs any more after this, DISCARD ALL included.
        one.rows("SET default_transaction_isolation = 'serializable'").await;
        assert_eq!(one.refusal("SELECT 1").await.sqlstate, "0A000");
        assert_eq!(two.rows("SHOW transaction_isolation").await.len(), 1);
        assert_eq!(two.rows("SELECT 2").await, [[Some("2".to_owned())]]);
    }
    one.rows("RESET default_transaction_isolation").await;
    assert_eq!(one.rows("SELECT 1").await, [[Some("1".to_owned())]]);
    // A session's start asks such a connection how it is.
    one.rows("SET default_transaction_isolation = 'serializable'").await;
    let mut three = Wire::connect(endpoint.listen()).await;
    assert_eq!(three.rows("SELECT 3").await, [[Some("3".to_owned())]]);
    drop((one, two, three));
    endpoint.stop().await;
}

#[tokio::test]
async fn what_no_cleaning_takes_away_ends_with_its_session() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = narrow(&stage, Setup::default()).await;
    let ends = ["SELECT setseed(0.5)", "SET seed TO 0.5", "DO $$ BEGIN END $$"];
    let cleaned = ["LISTEN a", "SELECT pg_advisory_lock(1)", "CREATE TEMP TABLE a AS SELECT 1"];
    let define = cleaned[2];
    for statement in ends.into_iter().chain(cleaned) {
        for discards in [false, true] {
            let mut wire = Wire::connect(endpoint.listen()).await;
            wire.simple(statement).await;
            let before = process(&mut wire).await;
            if discards {
                wire.rows("DISCARD ALL").await;
            }
            drop(wire);
            let mut next = Wire::connect(endpoint.listen()).await;
            let after = process(&mut next).await;
            // A definition may have loaded a library.
            let closed = ends.contains(&statement) || statement == define;
            assert_eq!(before != after, closed, "{statement}, {discards}");
        }
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn an_unnamed_statement_is_no_stranger_s() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = narrow(&stage, Setup::default()).await;
    let mut one = Wire::connect(endpoint.listen()).await;
    let run = || Batch::new().bind("", "", (0, &[]), 0).execute("").sync();
    let skipped = Batch::new().parse("a", "oops", &[]).query("SELECT 1").sync();
    let described = Batch::new().describe(b'P', "").sync();
    for begin in [skipped, described, Batch::new().sync(), Batch::new().close(b'S', "b").sync()] {
        one.ask(&Batch::new().parse("", "SELECT 'a stranger'", &[]).sync()).await;
        let mut two = Wire::connect(endpoint.listen()).await;
        two.ask(&begin).await;
        let bound = two.ask(&run()).await;
        let report = bound.iter().find_map(Frame::report).expect("nothing was parsed here");
        assert_eq!(report.sqlstate, "26000", "{begin:?}");
    }
    drop(one);
    endpoint.stop().await;
}

/// Code that runs without being named: by views, one upon another, a policy, an operator, and what
/// looks like a column.
const UNSEEN: &str = "
    CREATE TABLE plain (a int); INSERT INTO plain VALUES (1);
    CREATE VIEW setting AS SELECT set_config('app.seen', 'yes', false) AS was;
    CREATE VIEW upon_setting AS SELECT was FROM setting;
    CREATE VIEW locking AS SELECT pg_try_advisory_lock(4711) AS has;
    CREATE FUNCTION sets(plain) RETURNS text LANGUAGE plpgsql
      AS $$ BEGIN RETURN set_config('app.seen', 'yes', false); END $$;
    CREATE FUNCTION sets(int, int) RETURNS bool LANGUAGE plpgsql
      AS $$ BEGIN PERFORM set_config('app.seen', 'yes', false); RETURN true; END $$;
    CREATE OPERATOR === (FUNCTION = sets, LEFTARG = int, RIGHTARG = int);
    CREATE TABLE guarded (a int); INSERT INTO guarded VALUES (1);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY sets ON guarded USING (sets(a, a));
    CREATE ROLE guest LOGIN; GRANT SELECT ON guarded TO guest;
    CREATE VIEW harmless AS SELECT a, now() AS late, current_setting('app.seen', true) FROM plain;
    GRANT SELECT ON harmless TO guest;";

#[tokio::test]
async fn what_runs_unseen_leaves_nothing_to_strangers() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(UNSEEN).await;
    let mut owner = Wire::connect_as(postgres.listen(), "postgres").await;
    for mode in ["pipe", "share"] {
        for (user, statement) in [
            ("postgres", "SELECT * FROM setting"),
            ("postgres", "SELECT was FROM upon_setting"),
            ("postgres", "SELECT * FROM locking"),
            ("postgres", "SELECT plain.sets FROM plain"),
            ("postgres", "SELECT 1 WHERE 1 === 1"),
            ("postgres", "COPY (SELECT * FROM setting) TO STDOUT"),
            ("guest", "SELECT * FROM guarded"),
            ("guest", "SELECT * FROM harmless"),
        ] {
            let url = format!("postgres://{user}@{}/postgres", postgres.listen());
            let (endpoint, _config) = start(&[url], 2).await;
            set_mode(&endpoint, mode).await;
            let dirty = async || {
                let said = endpoint.metrics().await;
                said.sum("sortie_dirty_sessions_total", &["reason=\"function\""])
            };
            let named = Batch::new().parse("a", statement, &[]).sync();
            let run = Batch::new().bind("", "a", (0, &[]), 0).execute("").sync();
            for batches in [&[Batch::new().query(statement)][..], &[named, run]] {
                let before = dirty().await;
                let mut wire = Wire::connect_as(endpoint.listen(), user).await;
                for batch in batches {
                    let answer = wire.ask(batch).await;
                    assert!(!Frame::tags(&answer).contains('E'), "{statement}: {answer:?}");
                }
                let is_soiled = dirty().await > before;
                assert_eq!(is_soiled, statement != "SELECT * FROM harmless", "{statement}, {mode}");
                drop(wire);
                for _ in 0..2 {
                    let mut next = Wire::connect_as(endpoint.listen(), user).await;
                    assert!(sees_none(&mut next).await, "{statement}");
                }
                // Whoever left it is cleaned up after behind its back.
                let began = Instant::now();
                let locks = "SELECT FROM pg_locks WHERE objid = 4711";
                while !owner.rows(locks).await.is_empty() {
                    assert!(began.elapsed() < Duration::from_secs(20), "{statement}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
            endpoint.abandoned().await;
            endpoint.stop().await;
        }
    }
    drop(owner);
    postgres.stop().await;
}

/// What a session has set, or would see of another one that has.
async fn state(wire: &mut Wire) -> Vec<Option<String>> {
    let state = "SELECT current_setting('TimeZone'), nullif(current_setting('my.own', true), '')";
    wire.rows(state).await.remove(0)
}

/// Ways to run a statement behind what is not answered yet: in pieces that are sent apart.
fn behind(text: &str) -> Vec<Vec<Batch>> {
    let read = || Batch::new().statement("SELECT now()", &[]).sync();
    let bound = || Batch::new().parse("", text, &[]).bind("", "", (0, &[]), 0);
    let named = || Batch::new().parse("n", text, &[]).bind("", "n", (0, &[]), 0);
    let run = || Batch::new().execute("").sync();
    vec![
        vec![read().then(&named().describe(b'P', "").execute("")).sync()],
        vec![read().then(&bound()), run()],
        vec![Batch::new().query("SELECT now()").then(&bound()), run()],
        vec![Batch::new().sync().then(&named()), run()],
        vec![bound(), run()],
    ]
}

#[tokio::test]
async fn what_is_run_behind_an_answer_is_the_session_s_and_no_stranger_s() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = narrow(&stage, Setup::default()).await;
    let mut two = Wire::connect(endpoint.listen()).await;
    let nothing = state(&mut two).await;
    for (nth, text) in ["SET TimeZone = 'Asia/Tokyo'", "SET my.own = 'mine'"].iter().enumerate() {
        for pieces in behind(text) {
            let mut one = Wire::connect(endpoint.listen()).await;
            // It has something to be set again, whose answer comes ahead.
            one.rows("SET bytea_output = 'escape'").await;
            assert_eq!(state(&mut two).await, nothing);
            say(&mut one, &pieces).await;
            let mut three = Wire::connect(endpoint.listen()).await;
            assert_eq!(three.parameter("TimeZone"), two.parameter("TimeZone"), "{pieces:?}");
            assert_eq!(state(&mut two).await, nothing, "{pieces:?}");
            let prepared = three.rows("SELECT name FROM pg_prepared_statements").await;
            assert_eq!(prepared, [[None; 0]; 0], "{pieces:?}");
            drop(three);
            let own = state(&mut one).await;
            assert_eq!(own[nth], Some(["Asia/Tokyo", "mine"][nth].to_owned()), "{pieces:?}");
        }
    }
    for pieces in behind("DEALLOCATE ALL") {
        let mut one = Wire::connect(endpoint.listen()).await;
        one.ask(&Batch::new().parse("a", "SELECT 1", &[]).sync()).await;
        say(&mut one, &pieces).await;
        assert_eq!(state(&mut two).await, nothing, "{pieces:?}");
        let bound = one.ask(&Batch::new().bind("", "a", (0, &[]), 0).execute("").sync()).await;
        let report = bound.iter().find_map(Frame::report).expect("it was deallocated");
        assert_eq!(report.sqlstate, "26000", "{pieces:?}");
    }
    drop(two);
    endpoint.stop().await;
}

/// Sends pieces one by one, and waits until all of it is answered.
async fn say(wire: &mut Wire, pieces: &[Batch]) {
    for piece in pieces {
        wire.send(piece.bytes()).await;
        sleep(Duration::from_millis(30)).await;
    }
    for _ in 0..pieces.iter().map(Batch::ready).sum() {
        let answer = wire.until_ready().await;
        assert_eq!(answer.iter().find_map(Frame::report), None, "{pieces:?}");
    }
}

const SEES_NONE: &str = "SELECT current_setting('app.seen', true) IS NULL";

async fn sees_none(wire: &mut Wire) -> bool {
    wire.rows(SEES_NONE).await[0][0].as_deref() == Some("t")
}

#[tokio::test]
async fn a_custom_parameter_was_never_there_for_who_has_not_set_it() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = narrow(&stage, Setup::default()).await;
    let mut other = Wire::connect(endpoint.listen()).await;
    let whole = [
        "SET app.seen = 'x'; SELECT 1",
        "SET \"App\".SEEN = 'x'; RESET app.seen",
        "RESET app.seen",
        "SET app.seen = 'x'; DISCARD ALL",
        "BEGIN; SET LOCAL app.seen = 'x'; COMMIT",
        "BEGIN; SET app.seen = 'x'; ROLLBACK",
        "SELECT set_config('app.seen', 'x', true)",
        "SELECT pg_catalog.set_config('app.seen', 'x', false)",
        "SELECT 1, set_config('app.' || 'seen', 'x', false)",
        "SELECT set_config(name, 'x', true) FROM (VALUES ('app.seen')) _ (name)",
    ];
    for text in whole {
        let mut one = Wire::connect(endpoint.listen()).await;
        one.simple(text).await;
        drop(one);
        assert!(sees_none(&mut other).await, "{text}");
    }
    // With the extended protocol, and again on a connection that did not see it prepared.
    let mut one = Wire::connect(endpoint.listen()).await;
    let text = "SELECT set_config('app.seen', 'x', true)";
    one.ask(&Batch::new().parse("set", text, &[]).sync()).await;
    for _ in 0..3 {
        for _ in 0..3 {
            let run = Batch::new().bind("", "set", (0, &[]), 0).execute("").sync();
            let answer = one.ask(&run).await;
            assert_eq!(answer.iter().filter_map(Frame::row).count(), 1, "{answer:?}");
        }
        assert!(sees_none(&mut other).await);
    }
    drop((one, other));
    endpoint.stop().await;
}

#[tokio::test]
async fn who_sets_a_custom_parameter_as_well_costs_no_connection() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = narrow(&stage, Setup::default()).await;
    let mut first = Wire::connect(endpoint.listen()).await;
    first.rows("SELECT 1").await;
    first.rows("SET app.tenant = 'first'").await;
    let pid = process(&mut first).await;
    let read = "SELECT current_setting('app.tenant')";
    for turn in 0..6 {
        // Each is new, and says so first; the value is another one's before.
        let tenant = turn.to_string();
        let mut next = Wire::connect(endpoint.listen()).await;
        let set = match turn % 3 {
            0 => format!("SET app.tenant = '{tenant}'"),
            1 => format!("SET SESSION app.tenant TO '{tenant}'"),
            _ => format!("SELECT set_config('app.tenant', '{tenant}', false)"),
        };
        next.simple(&set).await;
        first.rows(&format!("SET app.tenant = 'first {turn}'")).await;
        for _ in 0..3 {
            assert_eq!(next.rows(read).await, [[Some(tenant.clone())]]);
            assert_eq!(first.rows(read).await, [[Some(format!("first {turn}"))]]);
        }
    }
    assert_eq!(process(&mut first).await, pid);
    drop(first);
    endpoint.stop().await;
}
