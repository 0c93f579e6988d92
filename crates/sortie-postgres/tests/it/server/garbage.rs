//! Servers that are none.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sortie_postgres::backend::{self, Report, Severity, Status};
use sortie_postgres::{
    Address, Body, ConnInfo, Connection, ExchangeError, Login, Reply, Request, TlsMode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::extended;

/// What a server says to a login.
fn greeting() -> BytesMut {
    let mut bytes = BytesMut::new();
    backend::authentication_ok(&mut bytes);
    backend::parameter_status(&mut bytes, "server_version", "15.0");
    backend::backend_key_data(&mut bytes, 77, &[9; 256]);
    backend::ready_for_query(&mut bytes, Status::Idle);
    bytes
}

/// What it says to a SELECT.
fn answer() -> BytesMut {
    let mut bytes = BytesMut::new();
    backend::parse_complete(&mut bytes);
    backend::bind_complete(&mut bytes);
    backend::row_description(&mut bytes, std::iter::empty());
    for _ in 0..3 {
        let mut row = backend::DataRow::begin(&mut bytes);
        row.value(b"x");
        row.finish();
        let notice = Report {
            severity: Severity::Notice,
            code: "00000",
            message: "between",
            detail: None,
            hint: None,
            position: None,
        };
        backend::notice_response(&mut bytes, &notice);
        backend::parameter_status(&mut bytes, "TimeZone", "UTC");
    }
    backend::command_complete(&mut bytes, "SELECT 3");
    backend::ready_for_query(&mut bytes, Status::Idle);
    bytes
}

/// Longer than a client needs for its next message.
const PATIENT: Duration = Duration::from_secs(20);

/// Logs in to a server that says `first` to whatever comes, and `then` to what comes next within
/// its patience, and hangs up; and asks it something.
async fn talk(
    first: &[u8],
    then: &[u8],
    patience: Duration,
) -> Option<(Connection, Result<Reply, ExchangeError>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        for said in [first, then] {
            // The other side may have hung up, or wait for more than there is.
            let read = timeout(patience, stream.read(&mut heard)).await;
            if !read.is_ok_and(|read| read.is_ok_and(|read| read > 0)) {
                return;
            }
            stream.write_all(said).await.ok();
            if then.is_empty() {
                return;
            }
        }
        stream.shutdown().await.ok();
    };
    let ask = async {
        let mut info = ConnInfo::new(Address::tcp("127.0.0.1", port), "u", "d");
        (info.tls.mode, info.connect_timeout) = (TlsMode::Disable, Duration::from_secs(20));
        let mut connection = Connection::open(&info, &Login::of(&info)).await.ok()?;
        let mut reply = connection.exchange(Request::new(extended("SELECT 1")).whole_max(20)).await;
        if let Ok(Reply { body: Body::Stream(stream), .. }) = &mut reply {
            while let Ok(Some(_)) = stream.next(&mut connection).await {}
        }
        Some((connection, reply))
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_whole_talk_is_understood() {
    let (mut connection, reply) = talk(&greeting(), &answer(), PATIENT).await.unwrap();
    let reply = reply.unwrap();
    assert!(matches!(reply.body, Body::Stream(_)));
    assert_eq!(connection.cancel_key().secret()[..], [9; 256]);
    assert_eq!(connection.parameters().value("TimeZone").unwrap(), "UTC");
    assert!(connection.is_idle());
    while connection.check().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(connection.is_broken() && !connection.is_idle());
}

#[tokio::test]
async fn a_talk_that_is_cut_anywhere_is_an_error() {
    let (greeting, answer) = (greeting(), answer());
    for cut in 0..greeting.len() {
        assert!(talk(&greeting[..cut], b"", PATIENT).await.is_none(), "{cut}");
    }
    for cut in 0..answer.len() {
        let (connection, _) = talk(&greeting, &answer[..cut], PATIENT).await.unwrap();
        assert!(!connection.is_idle() && connection.owed() == 1, "{cut}");
    }
}

#[tokio::test]
async fn garbage_is_an_error_and_never_a_panic() {
    let mut runner = TestRunner::deterministic();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    for turn in 0..600 {
        let (mut first, mut then) = (greeting(), answer());
        for (at, byte) in changes.new_tree(&mut runner).unwrap().current() {
            let harmed = if turn % 4 == 0 { &mut first } else { &mut then };
            let at = at.index(harmed.len());
            harmed[at] = byte;
        }
        // A login that was changed may wait for more.
        let patience = if turn % 4 == 0 { Duration::from_millis(50) } else { PATIENT };
        talk(&first, &then, patience).await;
    }
}
