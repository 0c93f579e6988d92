//! A session at rest goes on with the connection that it had last, as long as nobody else wants it,
//! and a batch that it sends over and over goes by as if it were looked at each time.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Postgres, Wire};
use tokio::time::{Instant, sleep};

use crate::lazy::shared;
use crate::relay::{count, start, until};
use crate::stage::{Endpoint, Setup, Stage, endpoint};
use crate::support::among_others;
use crate::unbound::set_mode;

async fn rig(stage: &Stage, connections_max: u32) -> Endpoint {
    let setup = Setup { mode: "pipe", connections_max, ..Setup::default() };
    endpoint(stage.primary(), &[stage.cluster.standby(0, 0).address()], setup).await
}

/// Prepares a statement that says on which server connection it ran, and with which setting.
async fn prepare(wire: &mut Wire) {
    let text = "SELECT pg_backend_pid(), current_setting('work_mem'), $1::text";
    wire.ask(&Batch::new().parse("who", text, &[25]).sync()).await;
}

/// Runs it as drivers do, over and over.
async fn run(wire: &mut Wire, say: &str) -> (String, String) {
    let batch = Batch::new().bind("", "who", (0, &[Some(say.as_bytes())]), 0).execute("").sync();
    let answer = wire.ask(&batch).await;
    let mut rows = answer.iter().filter_map(Frame::row);
    let row = rows.next().unwrap_or_else(|| panic!("{answer:?}"));
    assert!(rows.next().is_none() && row[2].as_deref() == Some(say), "{answer:?}");
    let column = |at: usize| row[at].clone().expect("it is not null");
    (column(0), column(1))
}

#[tokio::test]
async fn two_sessions_take_turns_on_one_connection() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 1).await;
    let (mut one, mut two) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    one.rows("SET work_mem = '3MB'").await;
    prepare(&mut one).await;
    two.rows("SET work_mem = '5MB'").await;
    prepare(&mut two).await;
    let mut pids = Vec::new();
    for turn in 0..24 {
        // Some turns are several statements long, so that the connection is had again.
        for _ in 0..=turn % 3 {
            let (wire, memory) = if turn % 2 == 0 { (&mut one, "3MB") } else { (&mut two, "5MB") };
            let (pid, set) = run(wire, "x").await;
            assert_eq!(set, memory);
            pids.push(pid);
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "nobody had to wait for a connection that lay idle");
    until(&sortie.server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    drop((one, two));
    sortie.stop().await;
}

/// Longer than from one look at a server's catalogs to the end of the next.
const LOOKED_MAX: Duration = Duration::from_secs(30);

#[tokio::test]
async fn who_looks_at_the_catalogs_takes_no_connection_from_a_session() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    // Another role than the cluster's: its connections are for nobody else.
    let more = "[clusters.postgres.users.tester]\n[clusters.postgres.users.narrow]\n";
    let setup = Setup { mode: "pipe", connections_max: 2, more, ..Setup::default() };
    let sortie = stage.endpoint(setup).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect_as(sortie.listen(), "narrow").await;
        prepare(&mut wire).await;
        // Somebody waits while the second connection is opened.
        wire.send(Batch::new().query("SELECT pg_sleep(0.2)").bytes()).await;
        wires.push(wire);
    }
    let mut pids = Vec::new();
    for wire in &mut wires {
        wire.until_ready().await;
        pids.push(run(wire, "x").await.0);
    }
    assert_ne!(pids[0], pids[1]);
    let mut direct = Wire::connect(stage.primary()).await;
    let text = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    // Whoever has connected so far is counted by then.
    sleep(Duration::from_secs(2)).await;
    let (began, before) = (Instant::now(), direct.rows(text).await);
    let mut has_looked = false;
    while !has_looked {
        assert!(began.elapsed() < LOOKED_MAX, "nobody has looked");
        has_looked = direct.rows(text).await != before;
        for (wire, pid) in wires.iter_mut().zip(&pids) {
            assert_eq!(run(wire, "x").await.0, *pid, "after {:?}", began.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    drop((wires, direct));
    sortie.stop().await;
}

#[tokio::test]
async fn where_no_more_are_let_in_the_catalogs_are_looked_at_by_the_pool() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE limited LOGIN CONNECTION LIMIT 2").await;
    let url = format!("postgres://limited@{}/postgres", postgres.listen());
    let (server, _config) = start(&[url], 1).await;
    let mut wire = Wire::connect_as(server.listen(), "limited").await;
    let mut direct = Wire::connect_as(postgres.listen(), "postgres").await;
    let text = "SELECT count(*), count(*) FILTER (WHERE application_name = 'sortie watch') \
                FROM pg_stat_activity WHERE usename = 'limited'";
    let began = Instant::now();
    // One that asks whether the server answers, and the pool's.
    while direct.rows(text).await != [[Some("2".to_owned()), Some("1".to_owned())]] {
        assert!(began.elapsed() < LOOKED_MAX);
        wire.rows("SELECT 1").await;
        sleep(Duration::from_millis(50)).await;
    }
    postgres.script("CREATE TABLE late (a int4); GRANT SELECT ON late TO limited").await;
    let began = Instant::now();
    while shared(&server.metrics().await) == 0 {
        assert!(began.elapsed() < LOOKED_MAX, "nothing new is known");
        wire.rows("SELECT a FROM late").await;
        sleep(Duration::from_millis(50)).await;
    }
    drop(wire);
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn what_a_batch_depends_on_is_seen_between_two_of_the_same() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 1).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    prepare(&mut wire).await;
    run(&mut wire, "x").await;
    // A setting, which also makes another statement of the same batch.
    wire.rows("SET work_mem = '7MB'").await;
    assert_eq!(run(&mut wire, "x").await.1, "7MB");
    // An error in it, and the batch behind that.
    let bad = Batch::new().bind("", "who", (0, &[Some(b"x"), Some(b"y")]), 0).execute("").sync();
    let answer = wire.ask(&bad).await;
    assert_eq!(answer.iter().filter_map(Frame::report).count(), 1, "{answer:?}");
    run(&mut wire, "x").await;
    // The statement is another one, or is gone.
    wire.rows("DEALLOCATE who").await;
    let gone = Batch::new().bind("", "who", (0, &[Some(b"x")]), 0).execute("").sync();
    let answer = wire.ask(&gone).await;
    let report = answer.iter().find_map(Frame::report).unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(report.sqlstate, "26000");
    prepare(&mut wire).await;
    run(&mut wire, "x").await;
    // Two at once, and one within a transaction.
    let one = || Batch::new().bind("", "who", (0, &[Some(b"x")]), 0).execute("").sync();
    wire.send(one().bytes()).await;
    let answers = [wire.ask(&one()).await, wire.until_ready().await];
    for answer in &answers {
        assert_eq!(answer.iter().filter_map(Frame::row).count(), 1, "{answer:?}");
    }
    wire.rows("BEGIN; SELECT 1").await;
    run(&mut wire, "x").await;
    wire.rows("ROLLBACK").await;
    run(&mut wire, "x").await;
    drop(wire);
    sortie.stop().await;
}

/// Sleeps for so many seconds, and tells the server's process.
fn nap(seconds: &str) -> Batch {
    Batch::new().bind("", "nap", (0, &[Some(seconds.as_bytes())]), 0).execute("").sync()
}

/// The same batch until nothing is looked at any more. Returns the process.
async fn wear_in(wire: &mut Wire) -> String {
    let mut pid = None;
    for _ in 0..4 {
        let answer = wire.ask(&nap("0")).await;
        let row = answer.iter().find_map(Frame::row).unwrap_or_else(|| panic!("{answer:?}"));
        pid.clone_from(&row[0]);
    }
    pid.expect("it is told")
}

/// What an answer consists of, or its error.
fn gist(answer: &[Frame]) -> String {
    let report = answer.iter().find_map(Frame::report);
    report.map_or_else(|| Frame::tags(answer), |report| report.sqlstate)
}

async fn napper(sortie: &Endpoint) -> Wire {
    let mut wire = Wire::connect(sortie.listen()).await;
    let text = "SELECT pg_backend_pid(), pg_sleep($1)";
    wire.ask(&Batch::new().parse("nap", text, &[701]).sync()).await;
    wear_in(&mut wire).await;
    wire
}

#[tokio::test]
async fn whatever_comes_instead_of_the_batch_is_what_it_is_elsewhere() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 2).await;
    let mut wire = napper(&sortie).await;
    // The batch in pieces, and more of them than one at once.
    let batch = nap("0");
    for byte in batch.bytes() {
        wire.send(&[*byte]).await;
    }
    assert_eq!(gist(&wire.until_ready().await), "2DCZ");
    wear_in(&mut wire).await;
    wire.send(&batch.bytes().repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(gist(&wire.until_ready().await), "2DCZ");
    }
    // One that comes while another runs.
    wear_in(&mut wire).await;
    wire.send(nap("0.2").bytes()).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(gist(&wire.ask(&batch).await), "2DCZ");
    assert_eq!(gist(&wire.until_ready().await), "2DCZ");
    // An error of it, and other batches.
    for (other, said) in [
        (nap("never"), "22P02"),
        (Batch::new().bind("", "nap", (0, &[]), 0).execute("").sync(), "08P01"),
        (Batch::new().bind("", "other", (0, &[]), 0).execute("").sync(), "26000"),
        (Batch::new().query("SELECT 1"), "TDCZ"),
        (Batch::new().query("BEGIN; SELECT 1"), "CTDCZ"),
        (nap("0"), "2DCZ"),
        (Batch::new().query("ROLLBACK"), "CZ"),
        (Batch::new().sync(), "Z"),
        (Batch::new().parse("nap", "SELECT 2, $1::text", &[]).sync(), "42P05"),
    ] {
        let answer = wire.ask(&other).await;
        assert_eq!(gist(&answer), said, "{answer:?}");
        wear_in(&mut wire).await;
    }
    until(&sortie.server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    drop(wire);
    sortie.stop().await;
}

#[tokio::test]
async fn whatever_comes_from_elsewhere_is_heard_between_equal_batches() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 2).await;
    let mut direct = Wire::connect(stage.primary()).await;
    let mut wire = napper(&sortie).await;
    // A cancel of what runs, and one of nothing.
    wire.send(nap("30").bytes()).await;
    sleep(Duration::from_millis(100)).await;
    wire.cancel().await;
    assert_eq!(gist(&wire.until_ready().await), "57014");
    wear_in(&mut wire).await;
    wire.cancel().await;
    // Its connection is lost while it rests, and while it runs.
    let pid = wear_in(&mut wire).await;
    direct.rows(&format!("SELECT pg_terminate_backend({pid}, 5000)")).await;
    assert_ne!(wear_in(&mut wire).await, pid);
    let pid = wear_in(&mut wire).await;
    wire.send(nap("30").bytes()).await;
    sleep(Duration::from_millis(100)).await;
    direct.rows(&format!("SELECT pg_terminate_backend({pid}, 5000)")).await;
    assert_eq!(gist(&wire.until_ready().await), "57P01");
    wear_in(&mut wire).await;
    // The client goes while it runs.
    let pid = wear_in(&mut wire).await;
    wire.send(nap("30").bytes()).await;
    sleep(Duration::from_millis(100)).await;
    drop(wire);
    let text =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'");
    let began = Instant::now();
    while direct.rows(&text).await[0][0].as_deref() != Some("0") {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it is stopped when nobody waits for it"
        );
        sleep(Duration::from_millis(50)).await;
    }
    until(&sortie.server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    // The endpoint ends.
    let mut wire = napper(&sortie).await;
    let last = async { wire.frame().await.and_then(|frame| frame.report()) };
    let (_ended, last) = tokio::join!(sortie.server.end("TERM"), last);
    assert_eq!(last.map(|report| report.sqlstate).as_deref(), Some("57P01"));
}

#[tokio::test]
async fn a_mode_that_is_set_holds_from_the_next_of_equal_batches_on() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 2).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    wire.ask(&Batch::new().parse("s", "SELECT label FROM items WHERE id = $1", &[23]).sync()).await;
    let batch = Batch::new().bind("", "s", (0, &[Some(b"7")]), 0).execute("").sync();
    let told = async |lane: &str| {
        let label = format!("lane=\"{lane}\"");
        count(&sortie.server.metrics().await, "sortie_lane_statements_total", &[&label])
    };
    for mode in ["pipe", "share", "pipe", "share"] {
        set_mode(&sortie.server, mode).await;
        let lane = if mode == "share" { "shared" } else { "pipe" };
        let before = told(lane).await;
        for _ in 0..5 {
            assert_eq!(gist(&wire.ask(&batch).await), "2DCZ");
        }
        assert_eq!(told(lane).await - before, 5, "{mode}");
    }
    drop(wire);
    sortie.stop().await;
}

#[tokio::test]
async fn who_flushes_behind_a_begin_and_waits_is_not_dirty() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = rig(&stage, 2).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    let begin = || Batch::new().parse("", "BEGIN", &[]).bind("", "", (0, &[]), 0).execute("");
    for _ in 0..3 {
        wire.send(begin().flush().bytes()).await;
        for tag in [b'1', b'2', b'C'] {
            assert_eq!(wire.frame().await.map(|frame| frame.tag), Some(tag));
        }
        sleep(Duration::from_millis(50)).await;
        assert_eq!(gist(&wire.ask(&Batch::new().sync()).await), "Z");
        assert_eq!(gist(&wire.ask(&Batch::new().query("SELECT 1")).await), "TDCZ");
        assert_eq!(gist(&wire.ask(&Batch::new().query("COMMIT")).await), "CZ");
    }
    until(&sortie.server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    assert_eq!(count(&sortie.server.metrics().await, "sortie_dirty_sessions_total", &[]), 0);
    drop(wire);
    sortie.stop().await;
}
