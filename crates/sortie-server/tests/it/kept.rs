//! Statements that the shared lane keeps prepared on its connections.

use futures_util::future::join_all;
use sortie_testkit::{Batch, Frame, Postgres, Wire};

use crate::lazy::{attempts, before_with};
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
    let before = attempts(&server.metrics().await);
    for nth in 1..=10 {
        for (name, wire) in &mut wires {
            let value = nth.to_string();
            let answer = wire.ask(&told(name, &value)).await;
            assert_eq!(row(&answer), texts(&[&value, &(nth * nth).to_string()]));
        }
    }
    assert_eq!(attempts(&server.metrics().await) - before, 20);
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
    let database = "CREATE ROLE reader; CREATE ROLE bench LOGIN SUPERUSER;\n\
        CREATE DATABASE bench;\n\\connect bench\n";
    postgres.script(&format!("{database}{TABLES}")).await;
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
    drop(wires);
    server.abandoned().await;
    server.stop().await;
}
