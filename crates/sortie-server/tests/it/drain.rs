//! The end of a server: what runs is finished, what was temporary goes.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::stage::{Endpoint, Setup, Stage};
use crate::support::{among_others, serve};

const SQL: &str = "SELECT balance FROM users WHERE user_id = 7";

async fn check_drain(signal: &str) {
    let _others = among_others().await;
    let server = serve(&["--latency", "fixed:700ms", "--hedge", "off"]).await;
    let temporary = server.temporary();
    assert!(temporary.read_dir().unwrap().count() > 0, "the sample data is somewhere else");
    let listen = server.listen();
    let mut busy = Wire::connect(listen).await;
    let mut idle = Wire::connect(listen).await;
    busy.send(Batch::new().query(SQL).bytes()).await;
    sleep(Duration::from_millis(100)).await;
    let running = async {
        let mut answer = Vec::new();
        while let Some(frame) = busy.frame().await {
            answer.push(frame);
        }
        answer
    };
    let waiting = async {
        let mut answer = Vec::new();
        while let Some(frame) = idle.frame().await {
            answer.push(frame);
        }
        answer
    };
    let (stopped, answer, farewell) = tokio::join!(server.end(signal), running, waiting);
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.output);
    assert!(stopped.left.is_empty(), "left behind: {:?}", stopped.left);
    assert!(stopped.took < Duration::from_secs(3), "{:?}", stopped.took);
    assert!(answer.iter().any(|frame| frame.tag == b'D'), "cut off: {answer:?}");
    let told = farewell.iter().filter_map(Frame::report).all(|report| report.sqlstate == "57P01");
    assert!(told, "{farewell:?}");
    assert!(TcpStream::connect(listen).await.is_err(), "it still listens");
}

#[tokio::test]
async fn sigterm_lets_a_running_statement_finish() {
    check_drain("TERM").await;
}

#[tokio::test]
async fn ctrl_c_does_the_same() {
    check_drain("INT").await;
}

#[tokio::test]
async fn a_statement_that_takes_for_ever_does_not_hold_the_server() {
    let _others = among_others().await;
    let server = serve(&["--latency", "fixed:60s", "--hedge", "off"]).await;
    let mut busy = Wire::connect(server.listen()).await;
    busy.send(Batch::new().query(SQL).bytes()).await;
    sleep(Duration::from_millis(100)).await;
    let stopped = server.end("TERM").await;
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.output);
    assert!(stopped.left.is_empty(), "left behind: {:?}", stopped.left);
    let bound = Duration::from_secs(4)..Duration::from_secs(8);
    assert!(bound.contains(&stopped.took), "{:?}", stopped.took);
}

#[tokio::test]
async fn a_data_directory_is_kept() {
    let _others = among_others().await;
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    serve(&["--data", folder]).await.stop().await;
    assert!(data.path().read_dir().unwrap().count() >= 6, "its files are gone");
    let again = serve(&["--data", folder]).await;
    assert_eq!(Wire::connect(again.listen()).await.rows(SQL).await.len(), 1);
    again.stop().await;
}

/// What a client is told until the end of its connection.
async fn farewell(wire: &mut Wire) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(frame) = wire.frame().await {
        told.extend(frame.report().map(|report| report.sqlstate));
    }
    told
}

/// An endpoint before PostgreSQL, and sessions there: one that rests, one that rests and keeps
/// its connection, and two with a transaction.
async fn before_postgres(stage: &Stage) -> (Endpoint, [Wire; 4]) {
    let sortie = stage.endpoint(Setup { mode: "pipe", ..Setup::default() }).await;
    let mut wires = Vec::new();
    for text in ["SELECT 1", "LISTEN nobody", "BEGIN", "BEGIN"] {
        let mut wire = Wire::connect(sortie.listen()).await;
        wire.rows(text).await;
        wires.push(wire);
    }
    (sortie, wires.try_into().unwrap())
}

#[tokio::test]
async fn a_transaction_goes_on_and_sessions_outside_of_one_end() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (sortie, [mut resting, mut listening, mut one, mut other]) = before_postgres(&stage).await;
    let working = async {
        // They are told as soon as it begins: from then on it is known to have.
        assert_eq!(farewell(&mut resting).await, ["57P01"]);
        assert_eq!(farewell(&mut listening).await, ["57P01"]);
        sleep(Duration::from_millis(300)).await;
        one.rows("CREATE TEMP TABLE drained (a int) ON COMMIT DROP").await;
        // By the extended protocol it goes on over several batches, too.
        let insert = Batch::new().statement("INSERT INTO drained VALUES (1)", &[]).flush();
        one.send(insert.bytes()).await;
        sleep(Duration::from_millis(100)).await;
        one.ask(&Batch::new().sync()).await;
        assert_eq!(one.rows("SELECT count(*) FROM drained").await[0][0].as_deref(), Some("1"));
        let frames = one.simple("COMMIT").await;
        assert!(frames.iter().all(|frame| frame.report().is_none()), "{frames:?}");
        assert_eq!(farewell(&mut one).await, ["57P01"]);
        other.rows("ROLLBACK").await;
        assert_eq!(farewell(&mut other).await, ["57P01"]);
    };
    let (stopped, ()) = tokio::join!(sortie.server.end("TERM"), working);
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.output);
}

#[tokio::test]
async fn a_transaction_that_stays_open_is_ended_and_told_so() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (sortie, [resting, listening, mut one, mut other]) = before_postgres(&stage).await;
    drop((resting, listening));
    other.send(Batch::new().query("SELECT pg_sleep(60)").bytes()).await;
    let working = async {
        let began = Instant::now();
        let told = tokio::join!(farewell(&mut one), farewell(&mut other));
        assert_eq!(told, (vec!["57P01".to_owned()], vec!["57P01".to_owned()]));
        began.elapsed()
    };
    let (stopped, told_after) = tokio::join!(sortie.server.end("TERM"), working);
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.output);
    assert!(told_after >= Duration::from_secs(3), "{told_after:?}");
    assert!(stopped.took < Duration::from_secs(12), "{:?}", stopped.took);
}
