//! Clients that take nothing, say too much, or only mean harm: they cost the endpoint a bounded
//! amount of memory, and the others nothing.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::relay::{count, until};
use crate::stage::{Endpoint, Setup, Stage};
use crate::support::{Dice, among_others, connect};

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);
/// What all of them together may add to the endpoint's memory.
const GROWTH_MAX: u64 = 64 << 20;
/// Connections that begin in a wrong way, unless `SORTIE_STARTUPS` says how many.
const STARTUPS: u64 = 400;
/// Connections that rest, unless `SORTIE_CONNECTIONS` says how many.
const CONNECTIONS: usize = 500;
const AT_ONCE: usize = 50;
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x27\0\x03\0\0user\0tester\0database\0postgres\0\0";

/// A hundred megabytes, by the pipe.
const MUCH: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";

/// An endpoint with this line at the top of its file.
fn top(top: &'static str) -> Setup {
    Setup { top, ..Setup::default() }
}

pub(crate) async fn ready(stage: &Stage, setup: Setup) -> (Endpoint, u64) {
    let endpoint = stage.endpoint(setup).await;
    // What is made once is made now.
    let mut wires = connect(endpoint.listen(), 20).await;
    for wire in &mut wires {
        wire.rows("SELECT 1").await;
        wire.rows("SELECT label FROM items WHERE id = 7").await;
    }
    drop(wires);
    endpoint.server.abandoned().await;
    let resident = endpoint.server.resident();
    (endpoint, resident)
}

/// Somebody who means well is served, in both lanes.
pub(crate) async fn is_well(listen: SocketAddr) {
    let served = async {
        let mut wire = Wire::connect(listen).await;
        for _ in 0..5 {
            assert_eq!(wire.rows("SELECT 1").await.len(), 1);
            assert_eq!(wire.rows("SELECT label FROM items WHERE id = 7").await.len(), 1);
        }
    };
    timeout(WITHIN, served).await.expect("nobody is hurt by others");
}

fn grown(endpoint: &Endpoint, before: u64) -> u64 {
    let grown = endpoint.server.resident().saturating_sub(before);
    println!("resident memory grew by {} KiB", grown >> 10);
    grown
}

#[tokio::test]
async fn who_takes_nothing_from_the_pipe_stops_nobody_and_is_ended() {
    const SLOW: usize = 12;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, before) = ready(&stage, top("stall_max = \"3s\"")).await;
    let mut slow = connect(endpoint.listen(), SLOW).await;
    for wire in &mut slow {
        wire.send(Batch::new().query(MUCH).bytes()).await;
    }
    is_well(endpoint.listen()).await;
    assert!(grown(&endpoint, before) < GROWTH_MAX);
    let ended = i64::try_from(SLOW).unwrap();
    until(&endpoint.server, |said| count(said, "sortie_client_stalls_total", &[]) == ended).await;
    is_well(endpoint.listen()).await;
    drop(slow);
    endpoint.stop().await;
}

#[tokio::test]
async fn who_asks_on_and_on_and_reads_nothing_is_not_answered_on_and_on() {
    /// Their answers have 45 MB: more than the sockets of both ends hold.
    const ASKED: usize = 3_000;
    const LENGTH: usize = 15_000;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, _) = ready(&stage, Setup::default()).await;
    let text = format!("SELECT repeat('x', {LENGTH}) FROM items WHERE id = 7");
    let mut wire = Wire::connect(endpoint.listen()).await;
    let begun = async || {
        let said = endpoint.server.metrics().await;
        usize::try_from(count(&said, "sortie_client_statements_total", &[])).unwrap()
    };
    let before = begun().await;
    wire.send(&Batch::new().query(&text).bytes().repeat(ASKED)).await;
    let (mut last, mut now) = (before, begun().await);
    while now != last || now == before {
        sleep(Duration::from_millis(300)).await;
        (last, now) = (now, begun().await);
    }
    let answered = now - before;
    assert!(answered < ASKED / 2, "{answered} answers are held for somebody who takes none");
    is_well(endpoint.listen()).await;
    for _ in 0..ASKED {
        let frames = wire.until_ready().await;
        let row = frames.iter().find_map(Frame::row).expect("a row");
        assert_eq!(row[0].as_ref().map(String::len), Some(LENGTH));
    }
    drop(wire);
    endpoint.stop().await;
}

#[tokio::test]
async fn who_announces_much_and_sends_it_is_passed_on_and_not_held() {
    const SENT: usize = 8 << 20;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, before) = ready(&stage, Setup::default()).await;
    let mut senders = Vec::new();
    for length in [300_u32 << 10, 16 << 20, 1 << 29, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff] {
        for tag in *b"QPB" {
            let mut wire = TcpStream::connect(endpoint.listen()).await.unwrap();
            wire.write_all(STARTUP).await.unwrap();
            wire.write_all(&[&[tag], &length.to_be_bytes()[..]].concat()).await.unwrap();
            // The server has its own opinion of a length, and may have gone.
            let much = vec![b'x'; SENT.min(length as usize / 2)];
            let sent = timeout(WITHIN, wire.write_all(&much));
            drop(sent.await.expect("it is taken"));
            senders.push(wire);
            if senders.len().is_multiple_of(6) {
                is_well(endpoint.listen()).await;
            }
        }
    }
    assert!(grown(&endpoint, before) < GROWTH_MAX);
    drop(senders);
    endpoint.server.abandoned().await;
    // One that means it is answered.
    let mut wire = Wire::connect(endpoint.listen()).await;
    let text = format!("SELECT length('{}')", "x".repeat(12 << 20));
    assert_eq!(wire.rows(&text).await, [[Some((12 << 20).to_string())]]);
    drop(wire);
    endpoint.stop().await;
}

#[tokio::test]
async fn rows_longer_than_any_buffer_are_passed_on_and_not_held() {
    const LENGTH: usize = 40 << 20;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, before) = ready(&stage, Setup::default()).await;
    let piped = format!("SELECT repeat('x', {LENGTH})");
    let shared = format!("SELECT repeat('x', {LENGTH}) FROM items WHERE id = 7");
    for text in [piped, shared] {
        let mut readers = JoinSet::new();
        for _ in 0..3 {
            let (listen, text) = (endpoint.listen(), text.clone());
            readers.spawn(async move {
                let mut wire = TcpStream::connect(listen).await.unwrap();
                let asked = Batch::new().query(&text).terminate();
                wire.write_all(&[STARTUP, asked.bytes()].concat()).await.unwrap();
                let (mut length, mut buffer) = (0, vec![0; 64 << 10]);
                loop {
                    match wire.read(&mut buffer).await.unwrap() {
                        0 => return length,
                        read => length += read,
                    }
                }
            });
        }
        is_well(endpoint.listen()).await;
        while let Some(length) = readers.join_next().await {
            assert!((LENGTH..LENGTH + 4_096).contains(&length.unwrap()));
        }
        assert!(grown(&endpoint, before) < GROWTH_MAX);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_storm_of_cancels_hits_nobody_but_those_who_are_meant() {
    const STORM: u64 = 1_000;
    const MEANT: usize = 8;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, _) = ready(&stage, Setup::default()).await;
    let listen = endpoint.listen();
    let mut meant = connect(listen, MEANT).await;
    for wire in &mut meant {
        wire.send(Batch::new().query("SELECT pg_sleep(600)").bytes()).await;
    }
    let mut storm = JoinSet::new();
    for seed in 0..STORM {
        storm.spawn(async move {
            let mut dice = Dice::new(seed);
            let mut wire = TcpStream::connect(listen).await.unwrap();
            let (process, secret) = (dice.roll(1 << 20), dice.roll(1 << 32));
            let [process, secret] = [process, secret].map(|part| u32::try_from(part).unwrap());
            let parts = [16, 80_877_102, process, secret].map(u32::to_be_bytes);
            wire.write_all(&parts.concat()).await.unwrap();
            let read = timeout(WITHIN, wire.read_u8()).await.expect("it is ended");
            assert!(read.is_err(), "a cancel request gets only its end");
        });
        if storm.len() == AT_ONCE {
            storm.join_next().await.unwrap().unwrap();
        }
        if seed % 200 == 0 {
            is_well(listen).await;
        }
    }
    while let Some(ended) = storm.join_next().await {
        ended.unwrap();
    }
    for wire in &mut meant {
        wire.cancel().await;
        let told = timeout(WITHIN, wire.until_ready()).await.expect("it is cancelled");
        let report = told.iter().find_map(Frame::report).expect("it is told");
        assert_eq!(report.sqlstate, "57014");
    }
    is_well(listen).await;
    drop(meant);
    endpoint.stop().await;
}

#[tokio::test]
async fn whoever_begins_in_a_wrong_way_is_told_or_ended() {
    let _others = among_others().await;
    let count = std::env::var("SORTIE_STARTUPS").map_or(STARTUPS, |count| count.parse().unwrap());
    let stage = Stage::take().await;
    let ready = ready(&stage, top("login_max = \"1s\"")).await;
    withstands(ready, count, wrong_startup).await;
}

/// Has a client come for each seed, some of them at once. Others are served meanwhile, and nothing
/// of any client stays.
pub(crate) async fn withstands<C>(
    (mut endpoint, before): (Endpoint, u64),
    seeds: u64,
    mut client: impl FnMut(u64, SocketAddr) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let listen = endpoint.listen();
    let mut coming = JoinSet::new();
    for seed in 0..seeds {
        coming.spawn(client(seed, listen));
        if coming.len() == AT_ONCE {
            coming.join_next().await.unwrap().unwrap();
        }
        if seed % 100 == 0 {
            is_well(listen).await;
        }
    }
    while let Some(ended) = coming.join_next().await {
        ended.unwrap();
    }
    endpoint.server.abandoned().await;
    assert!(grown(&endpoint, before) < GROWTH_MAX);
    let said = endpoint.server.output();
    assert!(endpoint.server.is_running() && !said.contains("panicked"), "{said}");
    is_well(listen).await;
    endpoint.stop().await;
}

/// A startup packet with a few bytes changed, left out or put in; whatever is said to it is whole
/// frames, and then, as nothing else is sent, the end.
async fn wrong_startup(seed: u64, listen: SocketAddr) {
    let mut dice = Dice::new(seed);
    let mut bytes = STARTUP.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = usize::try_from(dice.roll(bytes.len().max(1) as u64)).unwrap();
        let byte = u8::try_from(dice.roll(256)).unwrap();
        match dice.roll(4) {
            0 if bytes.len() > 1 => drop(bytes.remove(at)),
            1 => bytes.insert(at, byte),
            2 => bytes.truncate(at.max(1)),
            _ => bytes[at] = byte,
        }
    }
    let mut wire = TcpStream::connect(listen).await.unwrap();
    if wire.write_all(&bytes).await.is_err() || wire.shutdown().await.is_err() {
        return;
    }
    let mut said = Vec::new();
    // A reset is an end, too.
    drop(timeout(WITHIN, wire.read_to_end(&mut said)).await.expect("it is ended"));
    if said.len() > 1 {
        let is_told = Frame::all(&said).iter().any(|frame| matches!(frame.tag, b'E' | b'R'));
        assert!(is_told, "{seed}: {said:?}");
    }
}

#[tokio::test]
async fn thousands_of_clients_that_rest_cost_little() {
    /// What one may cost the endpoint, in bytes.
    const EACH_MAX: u64 = 32 << 10;
    let _others = among_others().await;
    let wanted = std::env::var("SORTIE_CONNECTIONS");
    let wanted = wanted.map_or(CONNECTIONS, |count| count.parse().unwrap());
    let stage = Stage::take().await;
    let (endpoint, before) = ready(&stage, top("connections_max = 12000")).await;
    let mut resting = Vec::with_capacity(wanted);
    while resting.len() < wanted {
        let more = connect(endpoint.listen(), AT_ONCE).await;
        resting.extend(more);
    }
    is_well(endpoint.listen()).await;
    let each = grown(&endpoint, before) / wanted as u64;
    assert!(each < EACH_MAX, "{each} bytes each");
    for wire in resting.iter_mut().step_by(100) {
        assert_eq!(wire.rows("SELECT label FROM items WHERE id = 7").await.len(), 1);
    }
    drop(resting);
    endpoint.stop().await;
}
