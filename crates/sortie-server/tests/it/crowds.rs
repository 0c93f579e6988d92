//! More clients than there is room for, clients that say nothing, and clients that speak newer
//! protocols or none.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use sortie_testkit::{Frame, Wire, python, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stage::{Setup, Stage};
use crate::support::among_others;
use crate::{auth, garbage, tls};

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

async fn refusal(listen: std::net::SocketAddr) -> (String, String) {
    let frames = Wire::try_connect(listen, "tester").await.expect_err("there is no room");
    let report = frames.iter().find_map(Frame::report).expect("it is told why");
    (report.sqlstate, report.message)
}

#[tokio::test]
async fn a_role_and_the_endpoint_have_as_many_sessions_as_they_may() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let more = "[clusters.postgres.users.tester]\nconnections_max = 2";
    let endpoint = stage.endpoint(Setup { more, ..Setup::default() }).await;
    let listen = endpoint.listen();
    let (one, two) = (Wire::connect(listen).await, Wire::connect(listen).await);
    let told = ("53300".to_owned(), "too many connections for role \"tester\"".to_owned());
    assert_eq!(refusal(listen).await, told);
    drop((one, two));
    endpoint.server.abandoned().await;
    drop(Wire::connect(listen).await);
    endpoint.stop().await;
    let endpoint = stage.endpoint(Setup { top: "connections_max = 1", ..Setup::default() }).await;
    let one = Wire::connect(endpoint.listen()).await;
    let told = ("53300".to_owned(), "sorry, too many clients already".to_owned());
    assert_eq!(refusal(endpoint.listen()).await, told);
    // Whoever wants to see to it has to come in.
    let admin = Wire::try_connect_to(endpoint.listen(), "tester", "sortie").await;
    let mut admin = admin.unwrap_or_else(|said| panic!("{said:?}"));
    assert_eq!(admin.rows("SHOW CLIENTS").await.len(), 2);
    drop((one, admin));
    endpoint.stop().await;
}

#[tokio::test]
async fn clients_that_say_nothing_shut_nobody_out() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let top = "connections_max = 10\nlogin_max = \"10m\"";
    let endpoint = stage.endpoint(Setup { top, ..Setup::default() }).await;
    let mut mute = Vec::new();
    for _ in 0..300 {
        mute.push(TcpStream::connect(endpoint.listen()).await.unwrap());
    }
    let mut wire = timeout(WITHIN, Wire::connect(endpoint.listen())).await.expect("it is let in");
    assert_eq!(wire.rows("SELECT 1").await.len(), 1);
    // The one that has waited for the longest time had to go.
    let ended = timeout(WITHIN, mute[0].read(&mut [0])).await.expect("it is ended");
    assert!(ended.is_ok_and(|read| read == 0));
    drop((wire, mute));
    endpoint.stop().await;
}

#[tokio::test]
async fn newer_versions_of_the_protocol_are_spoken_or_negotiated() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    for (minor, negotiated, key_len) in [(0, None, 8), (2, None, 36), (9, Some(2), 36)] {
        let mut stream = TcpStream::connect(endpoint.listen()).await.unwrap();
        let mut startup = BytesMut::from(&b"\0\0\0\x27\0\x03"[..]);
        startup.put_u16(minor);
        startup.put_slice(b"user\0tester\0database\0postgres\0\0");
        startup.put_slice(b"X\0\0\0\x04");
        stream.write_all(&startup).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        let frames = Frame::all(&said);
        let version = frames.iter().find(|frame| frame.tag == b'v').map(|frame| frame.body[3]);
        assert_eq!(version, negotiated, "3.{minor}");
        let key = frames.iter().find(|frame| frame.tag == b'K').map(|frame| frame.body.len());
        assert_eq!(key, Some(key_len), "3.{minor}");
    }
    let script = "
import psycopg, sys, threading
one = psycopg.connect(host='127.0.0.1', port=int(sys.argv[1]), user='tester', dbname='postgres',
                      min_protocol_version='3.2', max_protocol_version='latest', autocommit=True)
threading.Timer(0.5, one.cancel_safe).start()
try:
    one.execute('SELECT pg_sleep(60)')
except psycopg.errors.QueryCanceled:
    print('canceled', one.execute('SELECT 8').fetchone()[0])
";
    let mut client = Command::new(python());
    client.args(["-c", script, &endpoint.listen().port().to_string()]);
    let ran = run(client).await;
    assert_eq!(ran.out, "canceled 8\n", "{}", ran.err);
    endpoint.stop().await;
}

/// Behind passwords and TLS as without.
#[tokio::test]
async fn garbage_at_the_door_leaves_no_trace() {
    let _others = among_others().await;
    let mut door = tls::door("tls = \"allow\"\nlogin_max = \"1s\"").await;
    garbage::storm(door.listen(), 0..200).await;
    for first in [0x15, 0x16, 0x17] {
        for length in [0_u8, 1, 4, 40, 255] {
            let mut stream = TcpStream::connect(door.listen()).await.unwrap();
            let mut bytes = vec![first, 3, 1, 0, length];
            bytes.extend((0..length).map(|byte| byte.wrapping_mul(37)));
            stream.write_all(&bytes).await.unwrap();
            let read = timeout(WITHIN, stream.read_to_end(&mut Vec::new())).await;
            let reset = |error: std::io::Error| error.kind() == ErrorKind::ConnectionReset;
            assert!(read.expect("it is ended").map_or_else(reset, |_| true));
        }
    }
    door.server.abandoned().await;
    assert!(door.server.is_running() && !door.server.output().contains("panicked"));
    let encrypted = tls::to(door.listen(), "sslmode=require");
    assert!(auth::psql(&encrypted, auth::PASSWORD).await.success);
    door.stop().await;
}
