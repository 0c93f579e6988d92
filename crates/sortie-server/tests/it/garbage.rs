//! A thousand connections that do not speak the protocol, or stop speaking it half way.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{Dice, among_others, serve};

const CONNECTIONS: u64 = 1_000;
const AT_ONCE: usize = 50;
const GROWTH_MAX: u64 = 32 << 20;
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0tester\0\0";

#[tokio::test]
async fn a_thousand_connections_of_garbage_leave_no_trace() {
    let _others = among_others().await;
    let mut server = serve(&[]).await;
    // The first hundred fill the allocator's pools; what comes after them must not add up.
    storm(server.listen(), 0..100).await;
    server.abandoned().await;
    let before = server.resident();
    storm(server.listen(), 100..100 + CONNECTIONS).await;
    server.abandoned().await;
    let grown = server.resident().saturating_sub(before);
    println!("resident memory grew by {} KiB", grown >> 10);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    assert!(server.is_running(), "{}", server.output());
    assert!(!server.output().contains("panicked"), "{}", server.output());
    let mut wire = Wire::connect(server.listen()).await;
    assert_eq!(wire.rows("SELECT 1").await, [[Some("1".to_owned())]]);
    drop(wire);
    server.stop().await;
}

pub(crate) async fn storm(server: SocketAddr, seeds: std::ops::Range<u64>) {
    let mut running = JoinSet::new();
    for seed in seeds {
        running.spawn(one(server, seed));
        if running.len() == AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// One connection; the server may close it whenever it likes.
async fn one(server: SocketAddr, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = match seed % 6 {
        0 => noise(&mut dice, 4_096),
        1 => [STARTUP, &noise(&mut dice, 4_096)].concat(),
        2 => truncated(&mut dice),
        3 => absurd(&mut dice),
        4 => return drip(stream, &mut dice).await,
        _ => mutated(&mut dice),
    };
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    if dice.roll(2) == 0 {
        // Read what it says, if anything, then go; the other half hangs up at once.
        let mut answer = vec![0; 65_536];
        let read = timeout(Duration::from_millis(50), stream.read(&mut answer)).await;
        drop(read);
    }
}

fn noise(dice: &mut Dice, bytes_max: u64) -> Vec<u8> {
    let length = dice.roll(bytes_max);
    (0..length).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect()
}

/// A conversation as it should be.
fn proper() -> Vec<u8> {
    let batch = sortie_testkit::Batch::new()
        .query("SELECT balance FROM users WHERE user_id = 5")
        .parse("s", "SELECT name FROM users WHERE user_id = $1", &[20])
        .bind("", "s", (0, &[Some(b"17")]), 1)
        .describe(b'P', "")
        .execute("")
        .close(b'S', "s")
        .sync();
    [STARTUP, batch.bytes()].concat()
}

/// The conversation, cut anywhere.
fn truncated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = proper();
    bytes.truncate(usize::try_from(dice.roll(bytes.len() as u64)).unwrap());
    bytes
}

/// Some bytes of the conversation replaced.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = proper();
    for _ in 0..=dice.roll(8) {
        let at = usize::try_from(dice.roll(bytes.len() as u64)).unwrap();
        bytes[at] = u8::try_from(dice.roll(256)).unwrap();
    }
    bytes
}

/// Lengths that nobody should believe, at startup or after it.
fn absurd(dice: &mut Dice) -> Vec<u8> {
    let length = *dice.pick(&[0, 1, 3, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x4000_0000, 10_001]);
    let tag = *dice.pick(b"QPBDECSHXpdcfF\0\xff");
    let after: &[u8] = if dice.roll(2) == 0 { &[STARTUP, &[tag]].concat() } else { &[] };
    [after, &length.to_be_bytes(), &noise(dice, 64)].concat()
}

/// The conversation, a few bytes at a time, never finished.
async fn drip(mut stream: TcpStream, dice: &mut Dice) {
    for piece in truncated(dice).chunks(7).take(20) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}
