//! What a connection says it is owed, against what a real server then answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sortie_postgres::{Bind, Connection, Event, Frontend, Target};
use tokio::time::timeout;

use super::session;

/// Longer than any script here takes.
const WITHIN: Duration = Duration::from_secs(20);

const SCRIPTS: usize = 400;

/// A step of a script: frames that a client would send together.
type Step = Vec<Frontend>;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn query(sql: &'static str) -> Frontend {
    Frontend::Query { text: text(sql) }
}

/// Parse, Bind, Describe and Execute, without a Sync.
fn statement(sql: &'static str) -> Step {
    let none = Bytes::new();
    let (portal, statement) = (none.clone(), none.clone());
    let (formats, values, result_formats) = (vec![], vec![], vec![]);
    vec![
        Frontend::Parse { statement: none.clone(), text: text(sql), oids: vec![] },
        Frontend::Bind(Bind { portal, statement, formats, values, result_formats }),
        Frontend::Describe { target: Target::Portal, name: none.clone() },
        Frontend::Execute { portal: none, rows_max: 0 },
    ]
}

const COPY: &str = "COPY pg_temp.copied FROM STDIN";

fn data(good: bool) -> Frontend {
    Frontend::CopyData(text(if good { "1\n" } else { "x\n" }))
}

/// A COPY by the simple protocol.
fn simple_copy(rows: Vec<bool>, fails: bool) -> Step {
    let mut step = vec![query(COPY)];
    step.extend(rows.into_iter().map(data));
    step.push(end(fails));
    step
}

/// A COPY by the extended protocol, with a Sync at once as some drivers send it, or without.
fn extended_copy(early: bool, rows: Vec<bool>, fails: bool) -> Step {
    let mut step = statement(COPY);
    if early {
        step.push(Frontend::Sync);
    }
    step.extend(rows.into_iter().map(data));
    step.extend([end(fails), Frontend::Sync]);
    step
}

fn end(fails: bool) -> Frontend {
    if fails { Frontend::CopyFail { reason: text("enough") } } else { Frontend::CopyDone }
}

fn step() -> impl Strategy<Value = Step> {
    let name = |name| Frontend::Close { target: Target::Statement, name: text(name) };
    let rows = || vec(prop::bool::weighted(0.8), 0..4);
    let fails = || prop::bool::weighted(0.2);
    prop_oneof![
        4 => Just(statement("SELECT 1")),
        1 => Just(statement("SELECT 1/0")),
        1 => Just(statement("SELEC")),
        1 => Just(statement("")),
        1 => Just(statement("BEGIN")),
        1 => Just(vec![Frontend::Describe { target: Target::Statement, name: text("none") }]),
        1 => Just(vec![name("none"), Frontend::Flush]),
        6 => Just(vec![Frontend::Sync]),
        2 => Just(vec![query("SELECT 1")]),
        1 => Just(vec![query("SELECT 1; SELECT 2; SELECT 1/0; SELECT 3")]),
        1 => Just(vec![query("ROLLBACK")]),
        1 => Just(vec![query("")]),
        1 => Just(vec![Frontend::CopyDone]),
        2 => (rows(), fails()).prop_map(|(rows, fails)| simple_copy(rows, fails)),
        2 => (any::<bool>(), rows(), fails())
            .prop_map(|(early, rows, fails)| extended_copy(early, rows, fails)),
    ]
}

async fn send(connection: &mut Connection, frames: &[Frontend]) {
    let mut bytes = BytesMut::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    connection.send(&mut bytes).await.unwrap();
}

/// Reads as long as something is owed; returns the types of the frames that came.
async fn settle(connection: &mut Connection) -> String {
    let (mut into, mut events) = (BytesMut::new(), Vec::new());
    while connection.owed() > 0 && connection.is_sure() {
        let received = timeout(WITHIN, connection.receive(&mut into, &mut events)).await;
        let so_far: String = events.iter().map(|event| char::from(event.tag)).collect();
        received.unwrap_or_else(|_| panic!("{connection:?} waits after {so_far}")).unwrap();
    }
    events.iter().map(|event| char::from(event.tag)).collect()
}

async fn prepared() -> Connection {
    let mut connection = session().await;
    send(&mut connection, &[query("CREATE TEMP TABLE copied (x int)")]).await;
    settle(&mut connection).await;
    connection
}

/// As drivers do it: the data go out after the server has said that it awaits them, and what is
/// sent behind an error is sent before the error is seen.
#[tokio::test]
async fn a_copy_that_fails_in_the_middle_is_followed() {
    let mut connection = prepared().await;
    for (early, fails) in [(true, true), (true, false), (false, true), (false, false)] {
        for rows in [vec![], vec![data(true)], vec![data(true), data(false), data(true)]] {
            let mut begun = statement(COPY);
            begun.push(if early { Frontend::Sync } else { Frontend::Flush });
            send(&mut connection, &begun).await;
            let (mut into, mut events) = (BytesMut::new(), Vec::new());
            while events.last().is_none_or(|event: &Event| event.tag != b'G') {
                connection.receive(&mut into, &mut events).await.unwrap();
            }
            for row in &rows {
                send(&mut connection, std::slice::from_ref(row)).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            send(&mut connection, &[end(fails), Frontend::Sync]).await;
            let told = settle(&mut connection).await;
            assert_eq!(told.matches('Z').count(), 1, "{told}");
            assert!(connection.is_sure() && connection.owed() == 0, "{connection:?}");
            send(&mut connection, &[query("SELECT 42")]).await;
            assert_eq!(settle(&mut connection).await, "TDCZ", "{early} {fails} {rows:?}");
            assert!(connection.is_idle());
        }
    }
}

/// It is refused, as every message of the extended protocol that is not as it should be: the
/// server overlooks what comes behind it up to a Sync, a Query too.
#[tokio::test]
async fn a_flush_with_a_body_is_an_error_up_to_the_next_sync() {
    let mut connection = session().await;
    let mut bytes = BytesMut::from(&b"H\0\0\0\x06no"[..]);
    connection.send(&mut bytes).await.unwrap();
    send(&mut connection, &[query("SELECT 1"), Frontend::Sync]).await;
    assert_eq!(settle(&mut connection).await, "EZ", "{connection:?}");
    send(&mut connection, &[query("SELECT 42")]).await;
    assert_eq!(settle(&mut connection).await, "TDCZ");
    assert!(connection.is_idle(), "{connection:?}");
}

#[tokio::test]
async fn a_server_answers_as_often_as_the_connection_says() {
    let mut runner = TestRunner::deterministic();
    let scripts = (vec(step(), 1..8), any::<bool>());
    let mut connection = prepared().await;
    let mut unsure = 0;
    for _ in 0..SCRIPTS {
        let (steps, at_once) = scripts.new_tree(&mut runner).unwrap().current();
        let mut told = String::new();
        if at_once {
            send(&mut connection, &steps.concat()).await;
        } else {
            for step in &steps {
                send(&mut connection, step).await;
                told += &settle(&mut connection).await;
            }
        }
        send(&mut connection, &[Frontend::Sync]).await;
        told += &settle(&mut connection).await;
        if !connection.is_sure() {
            unsure += 1;
            connection = prepared().await;
            continue;
        }
        // Had it answered more often than was said, that would come now, ahead of these.
        send(&mut connection, &[query("ROLLBACK"), query("SELECT 42")]).await;
        let rest = settle(&mut connection).await;
        let right = rest.matches('Z').count() == 2 && rest.ends_with("ZTDCZ");
        assert!(right, "{rest} behind {told} after {steps:?} at once: {at_once}");
        assert!(connection.is_idle(), "{connection:?} after {steps:?}");
    }
    assert!(unsure < SCRIPTS / 20, "{unsure}");
}
