//! Batches and their replies.

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::Status;
use sortie_postgres::{Address, Body, Connection, ExchangeError, Reply, Request, TlsMode};
use sortie_testkit::{FaultProxy, Flow, Way};
use tokio::task::yield_now;

use super::{at, cluster, extended, open, rig, session, simple};

fn rows(reply: &Reply) -> &[u8] {
    match &reply.body {
        Body::Whole(rows) => rows,
        other => panic!("{other:?}"),
    }
}

async fn ask(connection: &mut Connection, text: &'static str) -> Result<Reply, ExchangeError> {
    connection.exchange(Request::new(extended(text))).await
}

#[tokio::test]
async fn a_reply_comes_in_its_parts() {
    let mut connection = session().await;
    assert!(connection.is_idle());
    assert!(connection.parameters().value("server_version").is_some());
    assert_eq!(connection.cancel_key().secret().len(), 4);

    let reply = ask(&mut connection, "SELECT 42 AS x").await.unwrap();
    assert_eq!(rows(&reply), b"D\0\0\0\x0c\0\x01\0\0\0\x0242");
    assert!(reply.head.as_ref().unwrap().windows(2).any(|text| text == b"x\0"));
    assert_eq!(reply.tag(), Some(&b"SELECT 1"[..]));
    assert_eq!(reply.as_of, None);

    let reply = connection.exchange(Request::new(simple("SET application_name = 'x'"))).await;
    assert_eq!(reply.unwrap().tag(), Some(&b"SET"[..]));
    assert_eq!(&connection.parameters().value("application_name").unwrap()[..], b"x");
}

#[tokio::test]
async fn a_fence_costs_no_row_and_knows_nothing_on_a_primary() {
    let mut connection = session().await;
    let request = Request::new(extended("SELECT 42")).fenced();
    let reply = connection.exchange(request).await.unwrap();
    assert_eq!(rows(&reply), b"D\0\0\0\x0c\0\x01\0\0\0\x0242");
    assert_eq!(reply.as_of, None);
    let request = Request::new(extended("SELECT oops")).fenced();
    let error = connection.exchange(request).await.unwrap_err();
    assert_eq!(error.server().unwrap().field(b'P'), Some(&b"8"[..]));
    assert!(connection.is_idle());
}

#[tokio::test]
async fn a_fence_tells_what_a_standby_had_replayed() {
    let cluster = cluster().await;
    let (primary, standby) = (cluster.primary(0), cluster.standby(0, 0));
    let mut connection = open(&at(standby.address())).await;
    let mut last = 0;
    for turn in 0..5 {
        let write = format!(
            "CREATE TABLE fence_{turn} (x int); DROP TABLE fence_{turn};
             SELECT pg_current_wal_lsn() - '0/0'"
        );
        let floor: u64 = primary.script_in("postgres", &write).await.trim().parse().unwrap();
        let request = Request::new(extended("SELECT 42")).fenced();
        let reply = connection.exchange(request).await.unwrap();
        // Its commits wait until the standby has replayed them; what is logged after the commit
        // may still be under way.
        let as_of = reply.as_of.unwrap();
        assert!(as_of > last && as_of + (1 << 20) > floor, "{last} {as_of} {floor}");
        last = as_of;
        assert_eq!(rows(&reply), b"D\0\0\0\x0c\0\x01\0\0\0\x0242");
    }
    let reply = connection.exchange(Request::new(simple("SELECT 1")).fenced()).await.unwrap();
    assert!(reply.as_of.unwrap() >= last);
}

#[tokio::test]
async fn a_fence_around_a_batch_says_what_it_lies_between() {
    let cluster = cluster().await;
    for node in [cluster.primary(0), cluster.standby(0, 0)] {
        let mut connection = open(&at(node.address())).await;
        let mut last = 0;
        for batch in [extended("SELECT 42"), simple("SELECT 42"), extended("SELECT 42")] {
            let reply = connection.exchange(Request::new(batch).fenced_around()).await.unwrap();
            let (from, until) = (reply.as_of.unwrap(), reply.until.unwrap());
            assert!(last <= from && from <= until && from > 0, "{last} {from} {until}");
            assert_eq!(rows(&reply), b"D\0\0\0\x0c\0\x01\0\0\0\x0242");
            last = until;
        }
        let request = Request::new(extended("SELECT oops")).fenced_around();
        let error = connection.exchange(request).await.unwrap_err();
        assert_eq!(error.server().unwrap().field(b'P'), Some(&b"8"[..]));
        assert!(connection.is_idle());
        // A body that is read as it is asked for ends where its rows end.
        let long = Request::new(extended("SELECT repeat('x', 1000) FROM generate_series(1, 3000)"));
        let mut reply = connection.exchange(long.fenced_around()).await.unwrap();
        assert_eq!(reply.until, None);
        let Body::Stream(stream) = &mut reply.body else { panic!("it is long") };
        let mut length = 0;
        while let Some(piece) = stream.next(&mut connection).await.unwrap() {
            length += piece.len();
        }
        assert_eq!(length, 3_000 * 1_011);
        assert!(connection.is_idle());
    }
}

#[tokio::test]
async fn an_error_leaves_the_connection_idle() {
    let mut connection = session().await;
    let error = ask(&mut connection, "SELECT 1/0").await.unwrap_err();
    assert_eq!(error.server().unwrap().sqlstate(), "22012");
    assert!(connection.is_idle());
    let error = connection.exchange(Request::new(simple("ROLLBAK"))).await.unwrap_err();
    assert_eq!(error.server().unwrap().sqlstate(), "42601");
    assert!(connection.is_idle());
    connection.exchange(Request::new(simple("BEGIN"))).await.unwrap();
    assert_eq!((connection.status(), connection.is_idle()), (Status::Transaction, false));
}

const LONG: &str = "SELECT i, repeat('x', 500) FROM generate_series(1, 40000) AS i";

#[tokio::test]
async fn a_long_body_is_read_as_it_is_asked_for() {
    let mut connection = session().await;
    let whole = connection.exchange(Request::new(extended(LONG)).whole_max(1 << 30)).await.unwrap();
    let request = Request::new(extended(LONG)).whole_max(10_000);
    let reply = connection.exchange(request).await.unwrap();
    let Body::Stream(mut stream) = reply.body else { panic!("it is long") };
    assert!(!connection.is_idle());
    let mut pieces = BytesMut::new();
    while let Some(piece) = stream.next(&mut connection).await.unwrap() {
        assert!(piece.len() < 1 << 20, "{}", piece.len());
        pieces.extend_from_slice(&piece);
    }
    assert!(pieces == rows(&whole), "{} of {} bytes", pieces.len(), rows(&whole).len());
    assert_eq!(&stream.complete().unwrap()[5..], b"SELECT 40000\0");
    assert!(connection.is_idle());
}

#[tokio::test]
async fn a_dropped_exchange_leaves_the_answer_owed() {
    let mut connection = session().await;
    let slow = ask(&mut connection, "SELECT pg_sleep(0.3)");
    let limit = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(limit, slow).await.is_err());
    assert_eq!((connection.owed(), connection.is_idle()), (1, false));
    assert!(matches!(ask(&mut connection, "SELECT 1").await, Err(ExchangeError::Busy)));
    connection.drain().await.unwrap();
    assert!(connection.is_idle());
    assert_eq!(ask(&mut connection, "SELECT 1").await.unwrap().tag(), Some(&b"SELECT 1"[..]));
}

#[tokio::test]
async fn a_cancel_request_ends_the_statement() {
    let mut connection = session().await;
    let key = connection.cancel_key().clone();
    let cancel = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        key.cancel().await.unwrap();
    };
    let (error, ()) = tokio::join!(ask(&mut connection, "SELECT pg_sleep(30)"), cancel);
    assert_eq!(error.unwrap_err().server().unwrap().sqlstate(), "57014");
    assert!(connection.is_idle());
}

#[tokio::test]
async fn a_relay_sees_every_byte() {
    let mut connection = session().await;
    let mut batch = BytesMut::from(&simple("SELECT 1")[..]);
    batch.extend_from_slice(&extended("SELECT 2"));
    connection.send(&mut batch).await.unwrap();
    assert_eq!(connection.owed(), 2);
    let (mut into, mut events) = (BytesMut::new(), Vec::new());
    while connection.owed() > 0 {
        connection.receive(&mut into, &mut events).await.unwrap();
    }
    let tags: Vec<u8> = events.iter().map(|event| event.tag).collect();
    assert_eq!(String::from_utf8(tags).unwrap(), "TDCZ12TDCZ");
    assert_eq!(events.last().unwrap().end, into.len());
    assert!(connection.is_idle());
}

/// A session whose bytes go through TLS.
async fn encrypted() -> Connection {
    open(&rig::shared().await.info("scram", TlsMode::Require)).await
}

#[tokio::test]
async fn a_row_longer_than_any_buffer_passes() {
    wide(session().await).await;
    wide(encrypted().await).await;
}

async fn wide(mut connection: Connection) {
    const WIDE: &str = "SELECT repeat('x', 20000000)";
    const LENGTH: usize = 1 + 4 + 2 + 4 + 20_000_000;
    let reply = connection.exchange(Request::new(simple(WIDE))).await.unwrap();
    let Body::Stream(mut stream) = reply.body else { panic!("it is long") };
    let mut length = 0;
    while let Some(piece) = stream.next(&mut connection).await.unwrap() {
        length += piece.len();
        assert!(piece.len() < 4 << 20, "{}", piece.len());
    }
    assert_eq!(length, LENGTH);
    let whole = connection.exchange(Request::new(simple(WIDE)).whole_max(1 << 30)).await.unwrap();
    assert_eq!(rows(&whole).len(), LENGTH);

    let (mut into, mut events) = (BytesMut::with_capacity(8192), Vec::new());
    connection.send(&mut simple(WIDE)).await.unwrap();
    let mut received = 0;
    while connection.owed() > 0 {
        connection.receive(&mut into, &mut events).await.unwrap();
        received += into.len();
        into.clear();
        events.clear();
    }
    assert!(received > LENGTH && into.capacity() < 1 << 20, "{received} {}", into.capacity());
    assert!(connection.is_idle());
}

#[tokio::test]
async fn a_batch_longer_than_any_socket_buffer_passes() {
    long(session().await).await;
    long(encrypted().await).await;
}

async fn long(mut connection: Connection) {
    let mut text = "SELECT length('".to_owned();
    text.extend(std::iter::repeat_n('y', 20_000_000));
    text.push_str("')");
    let mut frames = BytesMut::new();
    sortie_postgres::Frontend::Query { text: text.into() }.encode(&mut frames);
    let reply = connection.exchange(Request::new(frames)).await.unwrap();
    assert!(rows(&reply).ends_with(b"20000000"));
    // Many small statements whose answers must be taken while they go out.
    let mut batch = BytesMut::new();
    for _ in 0..20_000 {
        batch.extend_from_slice(&simple("SELECT repeat('z', 1000)"));
    }
    let (mut into, mut events) = (BytesMut::new(), Vec::new());
    while !batch.is_empty() || connection.owed() > 0 {
        std::future::poll_fn(|cx| {
            if !batch.is_empty() && connection.poll_send(cx, &mut batch).is_ready() {
                return std::task::Poll::Ready(Ok(()));
            }
            connection.poll_receive(cx, &mut into, &mut events)
        })
        .await
        .unwrap();
        into.clear();
        events.clear();
    }
    assert!(connection.is_idle());
}

#[tokio::test]
async fn what_the_encryption_holds_back_goes_out_while_an_answer_is_awaited() {
    let rig = rig::shared().await;
    let proxy = FaultProxy::start(rig.node.address()).await;
    let mut info = rig.info("trusty", TlsMode::Require);
    info.address = Address::tcp("127.0.0.1", proxy.listen().port());
    let mut connection = open(&info).await;
    proxy.flow(Way::Up, Flow::Stall);
    let text = Bytes::from(format!("--{}", "x".repeat(8_000)));
    let mut query = BytesMut::new();
    sortie_postgres::Frontend::Query { text }.encode(&mut query);
    loop {
        let mut frames = &query[..];
        let sent = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(connection.poll_send(cx, &mut frames))
        });
        let sent = sent.await;
        if sent.is_pending() {
            assert!(frames.is_empty(), "the encryption has taken it");
            break;
        }
        yield_now().await;
    }
    proxy.flow(Way::Up, Flow::Free);
    let answered = async {
        while connection.owed() > 0 {
            let (mut answer, mut events) = (BytesMut::new(), Vec::new());
            connection.receive(&mut answer, &mut events).await.unwrap();
        }
    };
    let within = std::time::Duration::from_secs(20);
    tokio::time::timeout(within, answered).await.expect("the server has got all of it");
}
