//! Prepared statements that are gone without anybody's having said so.

use sortie_testkit::{Batch, Frame, Postgres, Server, Wire};
use tempfile::NamedTempFile;

use crate::lazy::answers;
use crate::relay::{count, start};
use crate::support::among_others;

/// A type that takes away all prepared statements of whoever makes one of its values, and one that
/// says how many there are: nobody can tell by their names. A function that says that one is
/// missing.
pub(crate) const FORGET: &str = "CREATE ROLE reader LOGIN;
    CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
    CREATE DOMAIN forgetful AS int CHECK (forget() = value);
    CREATE FUNCTION tell() RETURNS bool LANGUAGE plpgsql AS
    $$ BEGIN RAISE '%', (SELECT count(*) FROM pg_prepared_statements); END $$;
    CREATE DOMAIN telling AS int CHECK (tell());
    CREATE FUNCTION says() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RAISE SQLSTATE '26000'; END $$;
    CREATE TABLE known (a int4); INSERT INTO known VALUES (1); GRANT ALL ON known TO reader;";

/// Nobody shares what asks for the time.
fn prepare(number: u32) -> Batch {
    Batch::new().parse("s", &format!("SELECT {number}, now() IS NULL"), &[]).sync()
}

pub(crate) fn run() -> Batch {
    Batch::new().bind("", "s", (0, &[]), 0).execute("").sync()
}

/// As most drivers run it: they are told of the columns with the rows.
pub(crate) fn told() -> Batch {
    Batch::new().bind("", "s", (0, &[]), 0).describe(b'P', "").execute("").sync()
}

pub(crate) fn query(text: &str) -> Batch {
    Batch::new().query(text)
}

pub(crate) fn sqlstate(frames: &[Frame]) -> String {
    frames.iter().find_map(Frame::report).map_or_else(String::new, |report| report.sqlstate)
}

pub(crate) async fn stage() -> (Postgres, Server, NamedTempFile) {
    let postgres = Postgres::start().await;
    postgres.script(FORGET).await;
    let url = format!("postgres://reader@{}/postgres", postgres.listen());
    // One connection for all.
    let (server, config) = start(&[url], 1).await;
    (postgres, server, config)
}

pub(crate) async fn mended(server: &Server) -> i64 {
    count(&server.metrics().await, "sortie_mended_batches_total", &[])
}

#[tokio::test]
async fn a_statement_that_its_server_has_lost_is_prepared_again() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let lost = query("SELECT 1::forgetful");
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let prepared = Batch::new().parse("s", "SELECT 1, now() IS NULL", &[]).sync();
    assert_eq!(Frame::tags(&wire.ask(&prepared).await), "1Z");
    for batch in [run(), told(), run()] {
        wire.ask(&lost).await;
        let answer = wire.ask(&batch).await;
        assert_eq!(Frame::tags(&answer).replace('T', ""), "2DCZ", "{answer:?}");
    }
    wire.ask(&lost).await;
    let described = wire.ask(&Batch::new().describe(b'S', "s").sync()).await;
    assert_eq!(Frame::tags(&described), "tTZ");
    // Whose client was told of its columns, too: they are looked at.
    wire.ask(&lost).await;
    assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
    assert_eq!(mended(&server).await, 5);
    // In a transaction nothing can be done again. Behind it the statement is there.
    for end in ["ROLLBACK", "COMMIT"] {
        wire.ask(&query("BEGIN; SELECT 1")).await;
        wire.ask(&lost).await;
        assert_eq!(sqlstate(&wire.ask(&run()).await), "26000");
        wire.ask(&query(end)).await;
        wire.ask(&query("BEGIN; SELECT 1")).await;
        assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
        wire.ask(&query(end)).await;
    }
    // Nothing is sent again for who has sent more behind it.
    let mut direct = Wire::connect_as(postgres.listen(), "reader").await;
    direct.ask(&prepared).await;
    for wire in [&mut wire, &mut direct] {
        wire.ask(&lost).await;
        wire.send(run().then(&run()).then(&query("SELECT 7")).bytes()).await;
        let mut all = String::new();
        for _ in 0..3 {
            all += &Frame::tags(&wire.until_ready().await);
        }
        assert_eq!(all, "EZEZTDCZ");
    }
    drop(direct);
    assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
    // A session that keeps its connection is not worse off.
    wire.rows("SELECT forget()").await;
    assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
    // A function may say the same when the statement is planned.
    let said = mended(&server).await;
    wire.ask(&Batch::new().parse("says", "SELECT says()", &[]).sync()).await;
    for _ in 0..2 {
        let answer = wire.ask(&Batch::new().bind("", "says", (0, &[]), 0).execute("").sync()).await;
        assert_eq!(
            (Frame::tags(&answer), sqlstate(&answer)),
            ("EZ".to_owned(), "26000".to_owned())
        );
    }
    assert_eq!(mended(&server).await, said);
    // Whoever says that it is to go means it.
    wire.ask(&query("DEALLOCATE s")).await;
    assert_eq!(sqlstate(&wire.ask(&run()).await), "26000");
    drop(wire);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

/// What its client is sent until the end of the connection.
async fn until_end(mut wire: Wire) -> String {
    let mut frames = Vec::new();
    while let Some(frame) = wire.frame().await {
        frames.push(frame);
    }
    Frame::tags(&frames)
}

/// Nothing is sent again for who has said that it leaves, or says what nobody understands.
#[tokio::test]
async fn who_leaves_behind_a_lost_statement_is_told_of_it() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    postgres.script("CREATE TABLE u (a int4); GRANT ALL ON u TO reader").await;
    let ends = [(Batch::new().terminate(), "EZ"), (Batch::new().bare(b"\xff\0\0\0\x04"), "EZE")];
    for (end, expected) in &ends {
        for lane in ["auto", "pipe"] {
            let mut wire = Wire::connect_as(server.listen(), "reader").await;
            wire.rows(&format!("SET sortie.lane = {lane}")).await;
            wire.ask(&prepare(1)).await;
            wire.ask(&run()).await;
            wire.ask(&query("SELECT 1::forgetful")).await;
            wire.send(run().then(end).bytes()).await;
            assert_eq!(until_end(wire).await, *expected, "{lane}");
        }
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        wire.rows("SET sortie.lane = pipe").await;
        wire.ask(&Batch::new().parse("s", "SELECT * FROM u", &[]).sync()).await;
        wire.ask(&told()).await;
        postgres.script("ALTER TABLE u ADD b int4, ADD c int4").await;
        wire.send(told().then(end).bytes()).await;
        assert_eq!(until_end(wire).await, *expected);
        postgres.script("ALTER TABLE u DROP b, DROP c").await;
    }
    assert_eq!(mended(&server).await, 0);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

/// A write that is sent again has not been done before.
#[tokio::test]
async fn what_is_sent_again_runs_once() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    postgres.script("CREATE TABLE log (n int4); GRANT ALL ON log TO reader").await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let text = "INSERT INTO log VALUES ($1)";
    wire.ask(&Batch::new().parse("s", text, &[23]).sync()).await;
    for number in 0..20 {
        wire.ask(&query("SELECT 1::forgetful")).await;
        let number = number.to_string();
        let bind = Batch::new().bind("", "s", (0, &[Some(number.as_bytes())]), 0);
        // The second one runs, or neither of them.
        let twice = bind.clone().execute("").then(&bind).execute("").sync();
        assert_eq!(Frame::tags(&wire.ask(&twice).await), "2C2CZ");
    }
    let all = wire.rows("SELECT count(*), count(DISTINCT n) FROM log").await;
    assert_eq!(all, [[Some("40".to_owned()), Some("20".to_owned())]]);
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_statement_whose_columns_change_is_prepared_again_for_who_is_told_of_them() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    postgres
        .script("CREATE TABLE t (a int4); INSERT INTO t VALUES (1); GRANT ALL ON t TO reader")
        .await;
    let mut columns = 1;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    wire.rows("SET sortie.lane = pipe").await;
    wire.ask(&Batch::new().parse("s", "SELECT * FROM t", &[]).sync()).await;
    for _ in 0..4 {
        assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
        postgres.script(&format!("ALTER TABLE t ADD b{columns} int4")).await;
        columns += 1;
        // Who does not ask what comes expects what came before.
        assert_eq!(sqlstate(&wire.ask(&run()).await), "0A000");
        let answer = wire.ask(&told()).await;
        assert_eq!(Frame::tags(&answer), "2TDCZ", "{answer:?}");
        let row = answer.iter().find_map(Frame::row).unwrap();
        assert_eq!(row.len(), columns);
    }
    assert_eq!(mended(&server).await, 4);
    // In a transaction it fails as on the server, and not again behind it.
    wire.ask(&query("BEGIN; SELECT 1")).await;
    assert_eq!(Frame::tags(&wire.ask(&told()).await), "2TDCZ");
    wire.ask(&query("COMMIT")).await;
    postgres.script("ALTER TABLE t ADD c int4").await;
    wire.ask(&query("BEGIN; SELECT 1")).await;
    assert_eq!(sqlstate(&wire.ask(&told()).await), "0A000");
    wire.ask(&query("ROLLBACK")).await;
    wire.ask(&query("BEGIN; SELECT 1")).await;
    assert_eq!(Frame::tags(&wire.ask(&told()).await), "2TDCZ");
    wire.ask(&query("COMMIT")).await;
    // Who was told of them ahead, and is not now, decodes rows by that: it hears of it.
    let ahead = Batch::new().close(b'S', "s").parse("s", "SELECT * FROM t", &[]);
    assert_eq!(Frame::tags(&wire.ask(&ahead.describe(b'S', "s").sync()).await), "31tTZ");
    assert_eq!(Frame::tags(&wire.ask(&run()).await), "2DCZ");
    postgres.script("ALTER TABLE t ADD d int4").await;
    for _ in 0..2 {
        assert_eq!(sqlstate(&wire.ask(&run()).await), "0A000");
    }
    assert_eq!(Frame::tags(&wire.ask(&told()).await), "2TDCZ");
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_statement_that_is_prepared_again_is_the_new_one_everywhere() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(FORGET).await;
    let there = postgres.listen();
    let url = format!("postgres://reader@{there}/postgres");
    // One connection for all: whoever has it next takes away what was left there.
    let (server, _config) = start(&[url], 1).await;
    let forget = || Batch::new().query("SELECT 1::forgetful");
    let script = [prepare(1), run(), prepare(3), forget(), prepare(2), run()];
    let ours = answers(server.listen(), "postgres", &script).await;
    assert_eq!(ours, answers(there, "postgres", &script).await);

    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    for batch in &script {
        wire.ask(batch).await;
    }
    let mut other = Wire::connect_as(server.listen(), "reader").await;
    other.rows("SELECT now() IS NULL").await;
    let answer = wire.ask(&run()).await;
    let row = answer.iter().find_map(Frame::row);
    assert_eq!(row.unwrap()[0].as_deref(), Some("2"), "{answer:?}");
    drop((wire, other));
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

/// How many statements are prepared on the connection that this session gets.
async fn there(wire: &mut Wire) -> i64 {
    wire.refusal("SELECT 0::telling").await.message.parse().unwrap()
}

#[tokio::test]
async fn a_connection_holds_the_statements_of_one_session_that_it_has_used_there() {
    let _others = among_others().await;
    let (postgres, server, _config) = stage().await;
    let many = |count: i64| {
        let prepare = |batch: Batch, number| {
            batch.parse(&format!("s{number}"), &format!("SELECT {number}, now()"), &[])
        };
        (0..count).fold(Batch::new(), prepare).sync()
    };
    let used =
        |number| Batch::new().bind("", &format!("s{number}"), (0, &[]), 0).execute("").sync();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        assert_eq!(there(&mut wire).await, 0, "what others left is gone");
        wire.ask(&many(1_900)).await;
        assert_eq!(there(&mut wire).await, 1_900);
        sessions.push(wire);
    }
    for round in 1..3 {
        for wire in &mut sessions {
            for number in 0..round * 10 {
                assert_eq!(Frame::tags(&wire.ask(&used(number * 11)).await), "2DCZ");
            }
            assert_eq!(there(wire).await, round * 10);
        }
    }
    // Beyond the bound it is its session's alone, and no burden to whoever comes next.
    let mut wire = sessions.pop().unwrap();
    wire.ask(&query("DEALLOCATE ALL")).await;
    wire.ask(&many(2_500)).await;
    assert_eq!(there(&mut wire).await, 2_500);
    for number in [0, 1_999, 2_000, 2_499] {
        assert_eq!(Frame::tags(&wire.ask(&used(number)).await), "2DCZ");
    }
    drop(wire);
    assert_eq!(there(&mut sessions[0]).await, 0);
    drop(sessions);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}
