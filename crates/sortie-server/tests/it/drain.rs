//! The end of a server: what runs is finished, what was temporary goes.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::net::TcpStream;
use tokio::time::sleep;

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
