use std::io::ErrorKind;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::frames::Frames;
use super::*;
use crate::Postgres;
use crate::wire::Wire;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);

/// A server that sends back what it gets, and ends when its client does.
struct Echo {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = client.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    Echo { address, _tasks: tasks }
}

async fn behind() -> (Echo, FaultProxy, TcpStream) {
    let echo = echo().await;
    let proxy = FaultProxy::start(echo.address).await;
    let client = TcpStream::connect(proxy.listen()).await.unwrap();
    (echo, proxy, client)
}

async fn say(client: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    client.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    timeout(LONG, client.read_exact(&mut answer)).await.expect("an answer").unwrap();
    answer
}

#[tokio::test]
async fn a_connection_that_is_to_be_spared_is_not_hit() {
    let (_echo, proxy, mut client) = behind().await;
    proxy.spare("watch");
    assert_eq!(say(&mut client, b"a watch").await, b"a watch");
    let mut other = TcpStream::connect(proxy.listen()).await.unwrap();
    assert_eq!(say(&mut other, b"hello").await, b"hello");
    proxy.corrupt(Way::Down, 0);
    assert_eq!(say(&mut client, b"well").await, b"well");
    assert_ne!(say(&mut other, b"well").await, b"well");
    assert_eq!(proxy.counts().corrupted, 1);
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let (_echo, proxy, mut client) = behind().await;
    assert_eq!(say(&mut client, b"hello").await, b"hello");
    let large = vec![7; 1_000_000];
    let (mut from, mut to) = client.split();
    let mut answer = vec![0; large.len()];
    let (wrote, read) = tokio::join!(to.write_all(&large), from.read_exact(&mut answer));
    assert_eq!((wrote.unwrap(), read.unwrap()), ((), large.len()));
    assert_eq!(answer, large);
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.open), (1, 1));
    assert_eq!((counts.up, counts.down), (1_000_005, 1_000_005));
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "an end passes as an end");
    while proxy.counts().open > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn delay_stall_and_drip_are_switched_while_it_runs() {
    let (_echo, proxy, mut client) = behind().await;
    say(&mut client, b"free").await;

    proxy.flow(Way::Up, Flow::Delay(SHORT));
    let asked = Instant::now();
    say(&mut client, b"late").await;
    assert!(asked.elapsed() >= SHORT);

    proxy.flow(Way::Up, Flow::Drip(2, SHORT / 10));
    let asked = Instant::now();
    assert_eq!(say(&mut client, &[1; 20]).await, [1; 20]);
    assert!(asked.elapsed() >= SHORT);

    proxy.flow(Way::Up, Flow::Free);
    proxy.flow(Way::Down, Flow::Stall);
    client.write_all(b"wait").await.unwrap();
    let mut answer = [0; 4];
    assert!(timeout(SHORT, client.read_exact(&mut answer)).await.is_err());
    proxy.stall(false);
    timeout(LONG, client.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"wait");
}

#[tokio::test]
async fn a_stalled_receiver_holds_the_sender_up() {
    let (_echo, proxy, mut client) = behind().await;
    proxy.flow(Way::Up, Flow::Stall);
    let endless = vec![0; 64 << 20];
    assert!(timeout(SHORT * 3, client.write_all(&endless)).await.is_err(), "it is not buffered");
}

#[tokio::test]
async fn connections_are_cut_at_once_or_at_a_byte() {
    let (_echo, proxy, mut client) = behind().await;
    say(&mut client, b"before").await;
    proxy.cut();
    let error = timeout(LONG, client.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut client = TcpStream::connect(proxy.listen()).await.unwrap();
    say(&mut client, b"12345").await;
    proxy.cut_after(Way::Up, 3);
    client.write_all(b"67").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    client.write_all(b"8901").await.unwrap();
    let mut rest = Vec::new();
    assert!(timeout(LONG, client.read_to_end(&mut rest)).await.unwrap().is_err(), "{rest:?}");
    let counts = proxy.counts();
    // `before`, and then up to the 8th byte.
    assert_eq!((counts.up, counts.cuts), (6 + 8, 2));
}

#[tokio::test]
async fn one_way_is_closed_and_the_other_goes_on() {
    let (_echo, proxy, mut client) = behind().await;
    say(&mut client, b"both").await;
    proxy.flow(Way::Down, Flow::Stall);
    client.write_all(b"more").await.unwrap();
    while proxy.counts().up < 8 {
        sleep(Duration::from_millis(1)).await;
    }
    proxy.half_close(Way::Up);
    proxy.flow(Way::Down, Flow::Free);
    let mut rest = Vec::new();
    timeout(LONG, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"more", "what was on its way arrives; then the echo sees the end and ends");
}

#[tokio::test]
async fn one_byte_is_changed() {
    let (_echo, proxy, mut client) = behind().await;
    proxy.corrupt(Way::Down, 6);
    assert_eq!(say(&mut client, b"abcd").await, b"abcd");
    assert_eq!(say(&mut client, b"efgh").await, [b'e', b'f', !b'g', b'h']);
    assert_eq!(say(&mut client, b"ijkl").await, b"ijkl");
    assert_eq!(proxy.counts().corrupted, 1);
}

#[tokio::test]
async fn new_connections_are_refused_and_old_ones_go_on() {
    let (_echo, proxy, mut client) = behind().await;
    say(&mut client, b"old").await;
    proxy.refuse(true).await;
    let refused = TcpStream::connect(proxy.listen()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    say(&mut client, b"old").await;
    proxy.refuse(false).await;
    say(&mut TcpStream::connect(proxy.listen()).await.unwrap(), b"new").await;
}

#[tokio::test]
async fn errors_are_put_in_where_a_frame_begins() {
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE tester LOGIN").await;
    let proxy = FaultProxy::start(postgres.listen()).await;
    let mut wire = Wire::connect(proxy.listen()).await;
    let rows = "SELECT generate_series(1, 10000)";

    proxy.inject(Injection::error("53100").before(b'D'));
    assert_eq!(wire.refusal(rows).await.sqlstate, "53100");
    assert_eq!(wire.rows(rows).await.len(), 10_000, "once, and the connection lives");

    proxy.inject(Injection::fatal("57P01").before(b'C'));
    wire.send(crate::Batch::new().query(rows).bytes()).await;
    let mut last = None;
    while let Some(frame) = wire.frame().await {
        last = Some(frame);
    }
    assert_eq!(last.unwrap().report().unwrap().sqlstate, "57P01");
    assert_eq!(proxy.counts().injected, 2);
    postgres.stop().await;
}

/// Frames of an answer: a tag and that many bytes.
fn answer(frames: &[(u8, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, len) in frames {
        bytes.push(*tag);
        bytes.extend(u32::try_from(len + 4).unwrap().to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xAB, *len));
    }
    bytes
}

#[test]
fn frames_are_followed_however_they_are_split() {
    let stream = answer(&[(b'T', 7), (b'D', 300), (b'D', 0), (b'C', 5), (b'Z', 1), (b'S', 2)]);
    for piece in 1..stream.len() {
        let mut frames = Frames::default();
        let mut injection = Some(Injection::error("53100").before(b'D'));
        let mut passed = BytesMut::new();
        for piece in stream.chunks(piece) {
            passed.extend_from_slice(&frames.pass(piece, &mut injection).bytes);
        }
        assert_eq!(injection, None);
        let kept = answer(&[(b'T', 7)]);
        assert!(passed.starts_with(&kept) && passed[kept.len()] == b'E');
        assert!(passed.ends_with(&answer(&[(b'Z', 1), (b'S', 2)])), "pieces of {piece}");
        assert!(!passed.contains(&b'D') && !passed.windows(2).any(|tags| tags == b"C\0"));
    }
}

#[test]
fn the_answer_to_an_encryption_request_is_no_frame() {
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    for (answer_byte, follows) in [(b'N', true), (b'S', false)] {
        let mut frames = Frames::default();
        assert!(frames.asked(&request));
        assert!(!frames.asked(b"\0\0\0\x29\0\x03\0\0user"));
        let mut injection = Some(Injection::error("53100"));
        let mut stream = vec![answer_byte];
        stream.extend(answer(&[(b'R', 4)]));
        let passed = frames.pass(&stream, &mut injection);
        assert_eq!((passed.injected, passed.bytes[0]), (follows, answer_byte));
    }
}
