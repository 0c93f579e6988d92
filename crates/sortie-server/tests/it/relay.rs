//! Sessions in front of PostgreSQL: what they share of its connections, and what they never do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use sortie_testkit::{Batch, Frame, Metrics, Postgres, Server, Wire, cluster};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::support::{BINARY, among_others, before_shards};

/// Longer than anything here takes by itself.
const WITHIN: Duration = Duration::from_secs(20);

/// An endpoint in front of one server, with so many connections to it.
async fn before(postgres: &Postgres, connections_max: u32) -> (Server, NamedTempFile) {
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    start(&[url], connections_max).await
}

/// An endpoint in front of a primary for each shard.
pub(crate) async fn start(primaries: &[String], connections_max: u32) -> (Server, NamedTempFile) {
    let mut text = format!(
        "auth = \"trust\"\n[clusters.postgres]\npipe_target = \"primary\"\n\
         [clusters.postgres.pool]\nconnections_max = {connections_max}\n",
    );
    for primary in primaries {
        writeln!(text, "[[clusters.postgres.shards]]\nprimary = \"{primary}\"").unwrap();
    }
    if primaries.len() > 1 {
        text += "[clusters.postgres.tables.users]\nkey = \"user_id\"\n";
    }
    let mut config = NamedTempFile::new().unwrap();
    config.write_all(text.as_bytes()).unwrap();
    let path = config.path().display().to_string();
    (Server::start(BINARY, &["-c", &path]).await, config)
}

async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE tester LOGIN SUPERUSER; CREATE TABLE t (a int);").await;
    postgres
}

fn cell(rows: &[Vec<Option<String>>]) -> &str {
    rows[0][0].as_deref().unwrap()
}

pub(crate) fn error(frames: &[Frame]) -> String {
    let report = frames.iter().find_map(Frame::report);
    report.map_or_else(|| panic!("no error in {frames:?}"), |report| report.sqlstate)
}

/// A counter or a gauge, which are whole numbers.
pub(crate) fn count(said: &Metrics, name: &str, labels: &[&str]) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a count of a few")]
    let count = said.sum(name, labels) as i64;
    count
}

/// Waits until the metrics say so.
pub(crate) async fn until(server: &Server, said: impl Fn(&Metrics) -> bool) {
    let began = Instant::now();
    while !said(&server.metrics().await) {
        assert!(began.elapsed() < WITHIN, "{:?}", server.metrics().await);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sessions_find_their_own_on_whatever_connection_they_get() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 2).await;
    let mut wires = Vec::new();
    for number in 0..5 {
        let mut wire = Wire::connect(server.listen()).await;
        wire.rows(&format!("SET application_name = 'w{number}'")).await;
        let text = format!("SELECT {number}, current_setting('application_name')");
        let prepared = wire.ask(&Batch::new().parse("s", &text, &[]).sync()).await;
        assert_eq!(prepared[0].tag, b'1', "{prepared:?}");
        wires.push(wire);
    }
    for _round in 0..4 {
        for (number, wire) in wires.iter_mut().enumerate() {
            let run = Batch::new().bind("", "s", (0, &[]), 0).execute("").sync();
            let frames = wire.ask(&run).await;
            let tags: Vec<_> = frames.iter().map(|frame| char::from(frame.tag)).collect();
            assert_eq!(tags, ['2', 'D', 'C', 'Z'], "{frames:?}");
            let expected = vec![Some(number.to_string()), Some(format!("w{number}"))];
            assert_eq!(frames[1].row(), Some(expected));
        }
    }
    assert!(count(&server.metrics().await, "sortie_replays_total", &[]) > 0);
    drop(wires);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn nothing_is_found_of_a_stranger() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 1).await;
    let mut one = Wire::connect(server.listen()).await;
    one.rows("SET search_path = pg_catalog").await;
    one.ask(&Batch::new().parse("s", "SELECT 1", &[]).parse("", "SELECT 2", &[]).sync()).await;
    let mut two = Wire::connect(server.listen()).await;
    assert_eq!(cell(&two.rows("SHOW search_path").await), "\"$user\", public");
    for name in ["s", ""] {
        let frames = two.ask(&Batch::new().bind("", name, (0, &[]), 0).execute("").sync()).await;
        assert_eq!(error(&frames), "26000");
    }
    assert_eq!(cell(&one.rows("SHOW search_path").await), "pg_catalog");
    drop((one, two));
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_dirty_session_keeps_its_connection_until_it_is_cleaned() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 2).await;
    let mut dirty = Wire::connect(server.listen()).await;
    dirty.rows("CREATE TEMP TABLE mine (a int)").await;
    let mut other = Wire::connect(server.listen()).await;
    for _ in 0..3 {
        assert_eq!(error(&other.simple("SELECT a FROM mine").await), "42P01");
        assert_eq!(dirty.rows("SELECT a FROM mine").await.len(), 0);
    }
    let said = server.metrics().await;
    assert_eq!(count(&said, "sortie_dirty_sessions_in_flight", &[]), 1);
    assert_eq!(count(&said, "sortie_dirty_sessions_total", &["reason=\"definition\""]), 1);
    dirty.rows("DISCARD ALL").await;
    until(&server, |said| count(said, "sortie_pins_in_flight", &[]) == 0).await;
    assert_eq!(count(&server.metrics().await, "sortie_dirty_sessions_in_flight", &[]), 0);
    // What a session leaves at its end is cleaned, too.
    dirty.rows("SELECT pg_advisory_lock(7)").await;
    dirty.rows("BEGIN").await;
    drop(dirty);
    let began = Instant::now();
    while cell(&other.rows("SELECT pg_try_advisory_xact_lock(7)").await) != "t" {
        assert!(began.elapsed() < WITHIN, "the lock of a session that is gone");
        sleep(Duration::from_millis(20)).await;
    }
    drop(other);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_cancel_ends_its_own_statement_and_no_other() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 3).await;
    let mut one = Wire::connect(server.listen()).await;
    let mut two = Wire::connect(server.listen()).await;
    for _ in 0..5 {
        one.send(Batch::new().query("SELECT pg_sleep(30)").bytes()).await;
        two.send(Batch::new().query("SELECT pg_sleep(0.3)").bytes()).await;
        until(&server, |said| count(said, "sortie_pins_in_flight", &[]) == 2).await;
        sleep(Duration::from_millis(50)).await;
        one.cancel().await;
        // Its connection has ended, so it can hit nothing any more.
        assert_eq!(error(&one.until_ready().await), "57014");
        assert_eq!(cell(&one.rows("SELECT 1").await), "1");
        assert!(two.until_ready().await.iter().all(|frame| frame.report().is_none()));
    }
    // One that comes when nothing runs hits nothing.
    one.cancel().await;
    assert_eq!(cell(&one.rows("SELECT 1").await), "1");
    drop((one, two));
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_session_outlives_its_server_connection_unless_it_has_something_there() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 3).await;
    let mut admin = Wire::connect(postgres.listen()).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE \
                pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let mut running = Wire::connect(server.listen()).await;
    running.send(Batch::new().query("SELECT pg_sleep(30)").bytes()).await;
    let mut block = Wire::connect(server.listen()).await;
    block.rows("BEGIN; SELECT 1").await;
    until(&server, |said| count(said, "sortie_pins_in_flight", &[]) == 2).await;
    sleep(Duration::from_millis(200)).await;
    admin.rows(kill).await;
    let frames = running.until_ready().await;
    assert_eq!(error(&frames), "57P01");
    assert_eq!(frames.last().unwrap().body[..], *b"I");
    assert_eq!(cell(&running.rows("SELECT 1").await), "1");
    // The transaction is gone, and so is its session.
    let frame = block.frame().await.expect("it is told why");
    assert_eq!(frame.report().unwrap().sqlstate, "57P01");
    assert!(block.frame().await.is_none());
    drop(running);
    server.abandoned().await;
    server.stop().await;
    drop(admin);
    postgres.stop().await;
}

#[tokio::test]
async fn the_lane_can_be_chosen_for_all_for_a_session_and_for_a_statement() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 3).await;
    let mut wire = Wire::connect(server.listen()).await;
    assert_eq!(cell(&wire.rows("SHOW sortie.lane").await), "auto");
    wire.rows("SET sortie.lane = pipe").await;
    assert_eq!(cell(&wire.rows("SHOW sortie.lane").await), "pipe");
    assert_eq!(error(&wire.simple("SET sortie.lane = fast").await), "22023");
    let show = Batch::new().parse("", "SHOW sortie.lane", &[]).describe(b'S', "");
    let frames = wire.ask(&show.bind("", "", (0, &[]), 0).execute("").sync()).await;
    let tags: Vec<_> = frames.iter().map(|frame| char::from(frame.tag)).collect();
    assert_eq!(tags, ['1', 't', 'T', '2', 'D', 'C', 'Z']);
    let piped = async |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        count(&server.metrics().await, "sortie_pipe_statements_total", &[&label])
    };
    let before = piped("lane").await;
    wire.rows("SELECT 1").await;
    wire.rows("RESET sortie.lane").await;
    wire.rows("/* sortie: lane=pipe */ SELECT 1").await;
    assert_eq!(piped("lane").await, before + 2);
    wire.rows("SELECT 1").await;
    assert_eq!(piped("lane").await, before + 2);
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn one_shard_never_answers_for_all() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let (server, _config, mut wire) = before_shards(&cluster).await;
    for text in [
        "SELECT name FROM users u JOIN users v USING (name)",
        "SELECT random() FROM users",
        "WITH u AS (SELECT * FROM users) SELECT count(*) FROM u",
        "BEGIN; SELECT count(*) FROM users; COMMIT",
        "COPY users TO STDOUT",
        "INSERT INTO users VALUES (1, 'a', 1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM users",
        "SELECT count(*) FROM users; SELECT 1",
    ] {
        let state = error(&wire.simple(text).await);
        assert!(["0A000", "25006"].contains(&state.as_str()), "{text}: {state}");
    }
    wire.rows("ROLLBACK").await;
    // A transaction fails with the statement that it can't have.
    wire.rows("BEGIN").await;
    assert_eq!(cell(&wire.rows("SELECT count(*) FROM users").await), "100000");
    let frames = wire.simple("SELECT random() FROM users").await;
    assert_eq!(error(&frames), "0A000");
    assert_eq!(frames.last().unwrap().body[..], *b"E");
    assert_eq!(error(&wire.simple("SELECT 1").await), "25P02");
    wire.rows("ROLLBACK").await;
    let bound = Batch::new().parse("", "SELECT balance FROM users", &[]);
    let portions = bound.bind("", "", (0, &[]), 0).execute_some("", 1).sync();
    // The first of all shards' rows, as of one server's: which is for nobody to say.
    let frames = wire.ask(&portions).await;
    assert_eq!(frames.iter().filter_map(Frame::row).count(), 1, "{frames:?}");
    assert!(frames.iter().any(|frame| frame.tag == b's'), "{frames:?}");
    assert_eq!(wire.rows("SELECT relname FROM pg_class WHERE relname = 'users'").await.len(), 1);
    // Bound to a shard, a session has that shard's rows, and knows it.
    let mut counts = 0;
    for shard in ["0", "1"] {
        wire.rows(&format!("SET sortie.shard = {shard}")).await;
        counts += cell(&wire.rows("SELECT count(*) FROM users").await).parse::<i64>().unwrap();
    }
    wire.rows("BEGIN").await;
    assert_eq!(error(&wire.simple("SET sortie.shard = 0").await), "55P02");
    wire.rows("ROLLBACK").await;
    wire.rows("RESET sortie.shard").await;
    assert_eq!(cell(&wire.rows("SELECT count(*) FROM users").await), counts.to_string());
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_of_any_length_reaches_its_server() {
    let _others = among_others().await;
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 2).await;
    let mut wire = Wire::connect(server.listen()).await;
    // Around what may wait for a server: what is behind it must not be forgotten.
    for length in (60..84).map(|kilo| kilo << 10).chain([200 << 10, 300 << 10, 2 << 20]) {
        let value = vec![b'x'; length];
        let batch = Batch::new().parse("", "SELECT length($1::text)", &[]);
        let batch = batch.bind("", "", (0, &[Some(&value)]), 0).execute("").sync();
        let frames = wire.ask(&batch).await;
        let row = frames.iter().find_map(Frame::row);
        assert_eq!(row, Some(vec![Some(length.to_string())]), "{length}");
    }
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_frame_may_come_in_parts_of_any_length() {
    let postgres = postgres().await;
    let (server, _config) = before(&postgres, 2).await;
    for len in [100, 65_000, 70_000, 200_000, 300_000] {
        let mut wire = Wire::connect_as(server.listen(), "tester").await;
        let mut other = Wire::connect_as(server.listen(), "tester").await;
        let batch = Batch::new().parse("", &format!("SELECT 1 /*{}*/", "x".repeat(len)), &[]);
        let batch = batch.bind("", "", (0, &[]), 0).execute("").sync();
        let (head, rest) = batch.bytes().split_at(50);
        wire.send(head).await;
        // A client that has sent a part of a frame keeps nobody from being served.
        for _ in 0..4 {
            assert_eq!(cell(&other.rows("SELECT 2").await), "2", "{len}");
        }
        wire.send(rest).await;
        assert!(wire.until_ready().await.iter().any(|frame| frame.row().is_some()), "{len}");
    }
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn nothing_runs_where_what_a_session_has_set_can_not_be_set() {
    let _others = among_others().await;
    let postgres = postgres().await;
    postgres.script("CREATE ROLE weak; CREATE TABLE who (name text);").await;
    let (server, _config) = before(&postgres, 1).await;
    let mut one = Wire::connect(server.listen()).await;
    one.rows("SET ROLE weak").await;
    assert_eq!(cell(&one.rows("SELECT current_user").await), "weak");
    let mut two = Wire::connect(server.listen()).await;
    assert_eq!(cell(&two.rows("SELECT current_user").await), "tester");
    postgres.script("DROP ROLE weak").await;
    // Its role is gone: as another one it must not run anything, now or later.
    for _again in 0..2 {
        assert_eq!(one.refusal("INSERT INTO who SELECT current_user").await.sqlstate, "22023");
        let batch = Batch::new().parse("", "SELECT current_user", &[]).bind("", "", (0, &[]), 0);
        assert_eq!(error(&one.ask(&batch.execute("").sync()).await), "22023");
    }
    assert_eq!(cell(&two.rows("SELECT count(*) FROM who").await), "0");
    drop((one, two));
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_shared_read_meets_nothing_of_a_session_and_leaves_nothing() {
    let _others = among_others().await;
    let postgres = postgres().await;
    postgres.script("CREATE TABLE users (user_id int8 PRIMARY KEY, balance int8 NOT NULL);").await;
    postgres.script("INSERT INTO users SELECT i, i * 3 FROM generate_series(1, 9) i;").await;
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    let server = Server::start(BINARY, &["-d", &url]).await;
    let shared = |said: &Metrics| count(said, "sortie_flights_total", &["role=\"leader\""]);
    let mut reader = Wire::connect(server.listen()).await;
    let balance = "SELECT balance FROM users WHERE user_id = 5";
    until(&server, |said| shared(said) >= 0).await;

    // Sessions that leave something on every connection there is.
    let mut sessions = Vec::new();
    for number in 0..6 {
        let mut wire = Wire::connect(server.listen()).await;
        wire.rows("SET search_path = pg_catalog").await;
        let text = format!("SELECT {number}");
        let parsed = wire.ask(&Batch::new().parse("", &text, &[]).sync()).await;
        assert_eq!(parsed[0].tag, b'1', "{parsed:?}");
        sessions.push(wire);
    }
    for _again in 0..20 {
        assert_eq!(cell(&reader.rows(balance).await), "15");
    }
    assert!(shared(&server.metrics().await) > 0, "the reads had to be shared");
    for (number, wire) in sessions.iter_mut().enumerate() {
        let frames = wire.ask(&Batch::new().bind("", "", (0, &[]), 0).execute("").sync()).await;
        let row = frames.iter().find_map(Frame::row);
        assert_eq!(row, Some(vec![Some(number.to_string())]), "{frames:?}");
    }
    // A session that never prepared anything finds nothing.
    let mut new = Wire::connect(server.listen()).await;
    let frames = new.ask(&Batch::new().bind("", "", (0, &[]), 0).execute("").sync()).await;
    assert_eq!(error(&frames), "26000");
    drop((reader, new, sessions));
    server.stop().await;
    postgres.stop().await;
}
