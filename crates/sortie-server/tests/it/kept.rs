//! Statements that the shared lane keeps prepared on its connections.

use std::time::Duration;

use futures_util::future::join_all;
use sortie_testkit::{Batch, Frame, Postgres, Server, Wire};
use tokio::time::sleep;

use crate::lazy::{attempts, before_with};
use crate::lone::lone;
use crate::missing::sqlstate;
use crate::pgbouncer::PgBouncer;
use crate::support::among_others;

const STATEMENT: &str = "SELECT * FROM known WHERE a = $1";

fn bound(name: &str, value: &str) -> Batch {
    Batch::new().bind("", name, (0, &[Some(value.as_bytes())]), 0)
}

/// As most drivers run it.
fn told(name: &str, value: &str) -> Batch {
    bound(name, value).describe(b'P', "").execute("").sync()
}

fn untold(name: &str, value: &str) -> Batch {
    bound(name, value).execute("").sync()
}

const TABLES: &str = "CREATE TABLE known (a int4, b int4);
    INSERT INTO known SELECT n, n * n FROM generate_series(1, 100) AS n;
    GRANT ALL ON known TO reader;
    CREATE TABLE users (user_id int8, name text, balance int8);
    INSERT INTO users VALUES (1, 'x', 1); GRANT ALL ON users TO reader;";

/// Rows that those of a group see.
const HELD: &str = "CREATE TABLE held (a int4, said text); INSERT INTO held VALUES (1, 'secret');
    ALTER TABLE held ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON held TO grp USING (true);";

async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.script(&format!("CREATE ROLE reader LOGIN; {TABLES}")).await;
    postgres
}

fn url(postgres: &Postgres) -> String {
    format!("postgres://reader@{}/postgres", postgres.listen())
}

fn row(answer: &[Frame]) -> Vec<Option<String>> {
    answer.iter().find_map(Frame::row).unwrap_or_else(|| panic!("{answer:?}"))
}

fn texts(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

#[tokio::test]
async fn what_its_client_has_prepared_is_parsed_once_and_is_no_sessions() {
    let _others = among_others().await;
    let postgres = postgres().await;
    postgres
        .script(
            "ALTER SYSTEM SET log_min_duration_statement = 0;
SELECT pg_reload_conf();",
        )
        .await;
    let (server, _config) = before_with(url(&postgres), "reader", 1).await;
    let mut wires = Vec::new();
    for name in ["one", "two"] {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        wire.ask(&Batch::new().parse(name, STATEMENT, &[23]).sync()).await;
        wires.push((name, wire));
    }
    let asked = async || {
        let said = server.metrics().await;
        attempts(&said) + lone(&said)
    };
    let before = asked().await;
    for nth in 1..=10 {
        for (name, wire) in &mut wires {
            let value = nth.to_string();
            let answer = wire.ask(&told(name, &value)).await;
            assert_eq!(row(&answer), texts(&[&value, &(nth * nth).to_string()]));
        }
    }
    assert_eq!(asked().await - before, 20);
    let log = postgres.log();
    let parsed = log.lines().filter(|line| line.contains("parse sortie ")).count();
    assert!((1..=2).contains(&parsed), "{parsed} times: {log}");
    // Whoever gets the connection finds nothing that he has not prepared himself.
    let mut stranger = Wire::connect_as(server.listen(), "reader").await;
    let there = stranger.rows("SELECT count(*) FROM pg_prepared_statements").await;
    assert_eq!(there, [texts(&["0"])]);
    // It keeps the only connection for that, until it goes.
    stranger.simple("PREPARE \"sortie 1\" AS SELECT 1").await;
    drop(stranger);
    let answer = wires[0].1.ask(&told("one", "7")).await;
    assert_eq!(row(&answer), texts(&["7", "49"]));
    drop(wires);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn a_changed_table_is_noticed_and_an_error_is_ones_own() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before_with(url(&postgres), "reader", 1).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let mut other = Wire::connect_as(server.listen(), "reader").await;
    wire.ask(&Batch::new().parse("s", STATEMENT, &[23]).sync()).await;
    let said = format!("/* somebody else's */ {STATEMENT}");
    other.ask(&Batch::new().parse("t", &said, &[23]).describe(b'S', "t").sync()).await;
    for round in 0..40 {
        // So often that it is read alone at last.
        assert_eq!(row(&wire.ask(&told("s", "3")).await), texts(&["3", "9"]), "{round}");
        assert_eq!(row(&other.ask(&untold("t", "3")).await), texts(&["3", "9"]), "{round}");
    }
    assert_eq!(sqlstate(&wire.ask(&told("s", "x")).await), "22P02");
    assert_eq!(row(&wire.ask(&told("s", "3")).await), texts(&["3", "9"]));
    postgres.script("ALTER TABLE known ADD c text DEFAULT 'c'").await;
    for _ in 0..40 {
        let answer = wire.ask(&told("s", "3")).await;
        assert_eq!(row(&answer), texts(&["3", "9", "c"]), "{answer:?}");
    }
    // Who is not told with the rows would take them for what it was told before.
    assert_eq!(sqlstate(&other.ask(&untold("t", "3")).await), "0A000");
    postgres.script("ALTER TABLE known DROP b").await;
    let place = |answer: &[Frame]| answer.iter().find_map(Frame::report).map(|it| it.sqlstate);
    assert_eq!(place(&wire.ask(&told("s", "x")).await), Some("22P02".into()));
    assert_eq!(row(&wire.ask(&told("s", "3")).await), texts(&["3", "c"]));
    drop((wire, other));
    server.abandoned().await;
    server.stop().await;
}

/// PostgreSQL names the statement.
#[tokio::test]
async fn a_wrong_number_of_values_is_told_of_the_statement_that_its_client_has() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before_with(url(&postgres), "reader", 2).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    wire.ask(&Batch::new().parse("mine", STATEMENT, &[23]).sync()).await;
    let none = Batch::new().bind("", "mine", (0, &[]), 0).describe(b'P', "").execute("").sync();
    // As it flies, and as it is read alone.
    for _ in 0..2 {
        let answer = wire.ask(&none).await;
        let report = answer.iter().find_map(Frame::report).expect("it takes a value");
        let said =
            r#"bind message supplies 0 parameters, but prepared statement "mine" requires 1"#;
        assert_eq!((&*report.sqlstate, &*report.message), ("08P01", said));
        for _ in 0..10 {
            assert_eq!(row(&wire.ask(&told("mine", "3")).await), texts(&["3", "9"]));
        }
    }
    drop(wire);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn there_are_a_bounded_number_of_them() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before_with(url(&postgres), "reader", 1).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    for round in 0..2 {
        for nth in 1..=200 {
            let name = format!("s{nth}");
            if round == 0 {
                let text = format!("SELECT a, b FROM known WHERE a = $1 AND b < {nth} + 10000");
                wire.ask(&Batch::new().parse(&name, &text, &[23]).sync()).await;
            }
            assert_eq!(row(&wire.ask(&told(&name, "5")).await), texts(&["5", "25"]));
        }
    }
    drop(wire);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn a_pooler_that_knows_nothing_of_them_changes_no_answer() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    let database = "CREATE ROLE reader; CREATE ROLE grp; CREATE ROLE bench LOGIN;\n\
        GRANT reader, grp TO bench; CREATE DATABASE bench;\n\\connect bench\n";
    postgres.script(&format!("{database}{TABLES}{HELD} GRANT ALL ON held TO bench;")).await;
    let held = "SELECT count(*), min(said) FROM held WHERE a = $1";
    let pooler = PgBouncer::pooling("transaction", postgres.listen(), 3).await;
    let url = format!("postgres://bench@{}/bench", pooler.listen());
    let (server, _config) = before_with(url, "bench", 4).await;
    let mut wires = Vec::new();
    for (name, text) in [("a", STATEMENT), ("b", "SELECT b, a FROM known WHERE a = $1")] {
        let mut wire = Wire::connect_as(server.listen(), "bench").await;
        wire.ask(&Batch::new().parse(name, text, &[23]).sync()).await;
        wires.push((name, wire));
    }
    for nth in 1..=60 {
        let asked = wires.iter_mut().map(|(name, wire)| {
            let batch = told(name, &nth.to_string());
            async move { row(&wire.ask(&batch).await) }
        });
        let (one, two) = (nth.to_string(), (nth * nth).to_string());
        assert_eq!(join_all(asked).await, [texts(&[&one, &two]), texts(&[&two, &one])], "{nth}");
    }
    // Nor that of who prepares after a change: a server process may have one of before.
    let mut before = Vec::new();
    for _ in 0..4 {
        before.push(newcomer(&server, "bench", held).await.0);
    }
    for _ in 0..30 {
        let asked = before.iter_mut().map(|wire| async { row(&wire.ask(&told("s", "1")).await) });
        assert!(join_all(asked).await.iter().all(|it| *it == texts(&["1", "secret"])));
    }
    postgres.script("REVOKE grp FROM bench").await;
    for _ in 0..20 {
        let mut after = Vec::new();
        for _ in 0..4 {
            after.push(newcomer(&server, "bench", held).await.0);
        }
        for _ in 0..3 {
            let asked =
                after.iter_mut().map(|wire| async { row(&wire.ask(&told("s", "1")).await) });
            let none = [Some("0".to_owned()), None];
            assert!(join_all(asked).await.iter().all(|it| *it == none));
        }
    }
    drop((wires, before));
    server.abandoned().await;
    server.stop().await;
}

/// A new session that prepares and describes a statement, and the types of its parameters.
async fn newcomer(server: &Server, user: &str, text: &str) -> (Wire, Vec<u8>) {
    let mut wire = Wire::connect_as(server.listen(), user).await;
    let said = wire.ask(&Batch::new().parse("s", text, &[]).describe(b'S', "s").sync()).await;
    let types = said.iter().find(|frame| frame.tag == b't').unwrap_or_else(|| panic!("{said:?}"));
    (wire, types.body.to_vec())
}

#[tokio::test]
async fn who_prepares_after_a_change_is_not_answered_by_what_was_prepared_before() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let tables = "CREATE ROLE grp; GRANT grp TO reader;
        CREATE TABLE seen (at timestamp); INSERT INTO seen VALUES ('2026-01-01 12:00');
        CREATE SCHEMA front; GRANT USAGE, CREATE ON SCHEMA front TO reader;
        ALTER ROLE reader SET search_path = front, public; SET timezone = 'UTC';
        GRANT ALL ON seen TO reader;";
    postgres.script(&format!("{tables}{HELD} GRANT ALL ON held TO reader;")).await;
    let (server, _config) = before_with(url(&postgres), "reader", 2).await;
    let (held, seen, known) = (
        "SELECT count(*), min(said) FROM held WHERE a = $1",
        "SELECT count(*) FROM seen WHERE at >= $1",
        "SELECT min(b) FROM known WHERE a = $1",
    );
    // 2026-01-01 12:00, in microseconds since 2000.
    let noon = 820_497_600_000_000_i64.to_be_bytes();
    let bound = || Batch::new().bind("", "s", (1, &[Some(&noon)]), 0).execute("").sync();
    let mut before = Vec::new();
    for (text, batch) in [(held, told("s", "1")), (seen, bound()), (known, told("s", "2"))] {
        let (mut wire, types) = newcomer(&server, "reader", text).await;
        let mut answer = Vec::new();
        for _ in 0..60 {
            answer = row(&wire.ask(&batch).await);
        }
        before.push((text, batch, wire, types, answer));
    }
    assert_eq!(before[0].4, texts(&["1", "secret"]));
    assert_eq!((&before[1].4, &before[2].4), (&texts(&["1"]), &texts(&["4"])));
    let change = "REVOKE grp FROM reader;
        SET timezone = 'UTC'; ALTER TABLE seen ALTER at TYPE timestamptz;
        CREATE TABLE front.known (a int4, b int4); GRANT ALL ON front.known TO reader;
        INSERT INTO front.known VALUES (2, 99);";
    postgres.script(change).await;
    let mut direct = Wire::connect_as(postgres.listen(), "reader").await;
    for (nth, (text, batch, _wire, types, _)) in before.iter().enumerate() {
        let name = format!("s{nth}");
        let parse = Batch::new().parse("s", text, &[]).describe(b'S', "s").sync();
        let expected = direct.ask(&parse).await;
        let expected = expected.iter().find(|frame| frame.tag == b't').unwrap().body.to_vec();
        let answer = row(&direct.ask(batch).await);
        direct.ask(&Batch::new().close(b'S', "s").sync()).await;
        for _ in 0..3 {
            let (mut wire, now) = newcomer(&server, "reader", text).await;
            assert_eq!(now, expected, "{name}");
            assert_eq!(now == *types, nth != 1);
            for _ in 0..3 {
                assert_eq!(row(&wire.ask(batch).await), answer, "{text}");
            }
        }
    }
    drop((before, direct));
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn a_statement_whose_server_parses_it_late_is_not_served_by_what_was_prepared_meanwhile() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let grants = "CREATE ROLE grp; GRANT grp TO reader;";
    postgres.script(&format!("{grants}{HELD} GRANT ALL ON held TO reader;")).await;
    let (server, _config) = before_with(url(&postgres), "reader", 3).await;
    let held = "SELECT count(*), min(said) FROM held WHERE a = $1";
    let mut late = Wire::connect_as(server.listen(), "reader").await;
    let batch = Batch::new().query("SELECT pg_sleep(3)").parse("s", held, &[23]).sync();
    late.send(batch.bytes()).await;
    sleep(Duration::from_secs(1)).await;
    let mut other = Wire::connect_as(server.listen(), "reader").await;
    other.ask(&Batch::new().parse("s", held, &[23]).sync()).await;
    for _ in 0..20 {
        assert_eq!(row(&other.ask(&told("s", "1")).await), texts(&["1", "secret"]));
    }
    postgres.script("REVOKE grp FROM reader").await;
    late.until_ready().await;
    late.until_ready().await;
    for _ in 0..20 {
        assert_eq!(row(&late.ask(&told("s", "1")).await), [Some("0".to_owned()), None]);
    }
    drop((late, other));
    server.abandoned().await;
    server.stop().await;
}
