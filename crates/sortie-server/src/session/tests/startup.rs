use std::time::Duration;

use super::*;

const TLS: Startup = Startup::Tls;
const GSS: Startup = Startup::Gss;

/// Starts with these parameters and returns the transcript up to the end or the first `Z`.
async fn start(minor: u16, parameters: &[(&'static str, &'static str)]) -> String {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    client.startup(minor, parameters).await;
    let transcript = client.until('Z').await;
    drop(client);
    endpoint.ended().await;
    transcript
}

#[tokio::test]
async fn a_session_begins_with_what_drivers_expect() {
    let transcript =
        start(0, &[("user", "alice"), ("application_name", "psql"), ("options", "-c geqo=off")])
            .await;
    // The parameter of another program's options is not one of ours.
    assert_eq!(transcript, "E[FATAL 42704] EOF");
    let transcript = start(0, &[("user", "alice"), ("application_name", "psql")]).await;
    assert!(transcript.starts_with("R S"), "{transcript}");
    assert!(transcript.ends_with(" K ZI"), "{transcript}");
    for expected in [
        "S[application_name=psql]",
        "S[client_encoding=UTF8]",
        "S[DateStyle=ISO, MDY]",
        "S[integer_datetimes=on]",
        "S[IntervalStyle=postgres]",
        "S[is_superuser=off]",
        "S[server_encoding=UTF8]",
        "S[server_version=15.",
        "S[session_authorization=alice]",
        "S[standard_conforming_strings=on]",
        "S[TimeZone=UTC]",
    ] {
        assert!(transcript.contains(expected), "{expected}: {transcript}");
    }
}

#[tokio::test]
async fn newer_protocols_are_negotiated_down() {
    let transcript = start(2, &[("user", "alice"), ("_pq_.future", "on")]).await;
    assert!(transcript.starts_with("v R S"), "{transcript}");
    assert!(transcript.ends_with("ZI"), "{transcript}");
}

#[tokio::test]
async fn who_may_not_have_a_session_is_told_why() {
    for (parameters, code) in [
        (&[("database", "bank")][..], "28000"),
        (&[("user", "")], "28000"),
        (&[("user", "alice"), ("nope", "1")], "42704"),
        (&[("user", "alice"), ("client_encoding", "LATIN1")], "0A000"),
        (&[("user", "alice"), ("options", "nonsense")], "42601"),
        (&[("user", "alice"), ("replication", "database")], "0A000"),
    ] {
        assert_eq!(start(0, parameters).await, format!("E[FATAL {code}] EOF"), "{parameters:?}");
    }
}

#[tokio::test]
async fn encryption_is_declined_and_the_session_goes_on() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    for packet in [GSS, TLS] {
        client.send_startup(&packet).await;
        assert_eq!(client.byte().await, b'N');
    }
    client.startup(0, &[("user", "alice")]).await;
    assert!(client.until('Z').await.ends_with("ZI"));
}

#[tokio::test]
async fn encryption_is_declined_once() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    client.send_startup(&TLS).await;
    assert_eq!(client.byte().await, b'N');
    client.send_startup(&TLS).await;
    assert_eq!(client.until('Z').await, "E[FATAL 0A000] EOF");
}

#[tokio::test]
async fn what_follows_an_encryption_request_unasked_is_refused() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    let mut both = BytesMut::new();
    TLS.encode(&mut both);
    TLS.encode(&mut both);
    client.send(&both).await;
    assert_eq!(client.byte().await, b'N');
    assert_eq!(client.until('Z').await, "E[FATAL 08P01] EOF");
    endpoint.ended().await;
}

#[tokio::test]
async fn absurd_packets_are_refused() {
    for (bytes, code) in [
        (&b"\0\0\x27\x15"[..], "08P01"),
        (b"GET / HTTP/1.1\r\n", "08P01"),
        (b"\0\0\0\x08\0\x02\0\0", "0A000"),
        (b"\0\0\0\x09\0\x03\0\0x", "08P01"),
    ] {
        let mut endpoint = Endpoint::new(&[]);
        let mut client = endpoint.dial();
        client.send(bytes).await;
        assert_eq!(client.until('Z').await, format!("E[FATAL {code}] EOF"), "{bytes:?}");
        endpoint.ended().await;
    }
}

/// As node-postgres does when it is told to connect and to end at once.
#[tokio::test]
async fn who_leaves_at_once_is_told_nothing() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    client.send(&encoded(&[Frontend::Terminate])).await;
    assert_eq!(client.frame().await, None);
    endpoint.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_drips_is_cut() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    let start = Instant::now();
    let drip = async {
        for byte in b"\0\0\0\x14\0\x03\0\0user\0alice\0\0" {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    drip.await;
    assert_eq!(client.until('Z').await, "EOF");
    assert_eq!(start.elapsed(), Duration::from_secs(11));
    endpoint.ended().await;
}

#[tokio::test]
async fn sessions_are_bounded() {
    let limits = Limits { sessions_max: 1, ..Limits::default() };
    let mut endpoint = Endpoint::with(&[], limits);
    let first = endpoint.login().await;
    let mut second = endpoint.dial();
    second.startup(0, &[("user", "alice")]).await;
    assert_eq!(second.until('Z').await, "E[FATAL 53300] EOF");
    drop((first, second));
    endpoint.ended().await;
}

#[tokio::test]
async fn nobody_begins_while_the_endpoint_drains() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.dial();
    endpoint.drain.send_replace(true);
    assert_eq!(client.until('Z').await, "E[FATAL 57P03] EOF");
    endpoint.ended().await;
}
