//! Clients that have logged in and then speak the protocol nearly right: seeded, so that whatever
//! fails can be had again.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::{Batch, Frame, Postgres, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::hostile::{STARTUP, is_well, ready, withstands};
use crate::relay::start;
use crate::stage::{Setup, Stage};
use crate::support::{Dice, among_others};

/// Conversations, unless `SORTIE_CONVERSATIONS` says how many.
const CONVERSATIONS: u64 = 250;
/// Longer than any of them takes.
const WITHIN: Duration = Duration::from_secs(60);
/// What ends by itself has mostly ended by then.
const SOON: Duration = Duration::from_millis(200);
/// What a server says.
const SAID: &[u8] = b"123ACDEGHIKNRSTVWZcdnstv";

const TEXTS: &[&str] = &[
    "SELECT label FROM items WHERE id = 7",
    "SELECT label FROM items WHERE id = $1",
    "SELECT repeat('x', 20000) FROM items WHERE id = 7",
    "SELECT 1; SELECT 2",
    "SELECT pg_sleep(0.01)",
    "SELECT 1/0",
    "BEGIN",
    "COMMIT",
    "SET application_name = 'noise'",
    "SHOW sortie.lane",
    "COPY items TO STDOUT",
    "COPY items FROM STDIN",
    "",
];

#[tokio::test]
async fn whatever_is_said_after_the_login_only_its_session_suffers() {
    let _others = among_others().await;
    let wanted = std::env::var("SORTIE_CONVERSATIONS");
    let wanted = wanted.map_or(CONVERSATIONS, |count| count.parse().unwrap());
    let stage = Stage::take().await;
    // On a standby nobody can write, whatever comes of these texts.
    let setup = Setup { pipe_target: "replica", ..Setup::default() };
    withstands(ready(&stage, setup).await, wanted, talk).await;
}

/// Says a few things, in pieces, and hears what is said to that: whole frames, and then the end.
async fn talk(seed: u64, listen: SocketAddr) {
    let mut dice = Dice::new(seed);
    let mut bytes = Batch::new();
    for _ in 0..=dice.roll(8) {
        bytes = one(bytes, &mut dice);
    }
    let mut bytes = bytes.bytes().to_vec();
    for _ in 0..dice.roll(3) {
        spoil(&mut bytes, &mut dice);
    }
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(STARTUP).await.unwrap();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = 1 + usize::try_from(dice.roll(rest.len() as u64)).unwrap();
        // It may have ended the session by now.
        if stream.write_all(&rest[..length]).await.is_err() {
            break;
        }
        rest = &rest[length..];
        tokio::task::yield_now().await;
    }
    if dice.roll(4) == 0 {
        return;
    }
    // What is no message ends the session, once everything before it is answered; unless it is
    // taken for a part of something.
    let ends = stream.write_all(Batch::new().sync().raw(b'\0', b"").bytes()).await.is_ok();
    let mut said = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut said)).await;
    // A reset is an end, too, and may cut what came before it.
    let is_whole = ends && matches!(ended, Ok(Ok(_)));
    if ended.is_err() {
        // Who sends no more is not waited for.
        stream.shutdown().await.ok();
        timeout(WITHIN, stream.read_to_end(&mut said)).await.expect("it is ended").ok();
    }
    let mut rest = &said[..];
    while let Some([tag, length @ ..]) = rest.first_chunk::<5>() {
        assert!(SAID.contains(tag), "{seed}: {:?}", Frame::all(&said));
        let length = 1 + usize::try_from(u32::from_be_bytes(*length)).unwrap();
        if rest.len() < length {
            break;
        }
        rest = &rest[length..];
    }
    let is_cut = is_whole && !rest.is_empty();
    assert!(!is_cut, "{seed}: it ends within a frame: {} of {}", rest.len(), said.len());
}

fn one(batch: Batch, dice: &mut Dice) -> Batch {
    let text = *dice.pick(TEXTS);
    let name = *dice.pick(&["", "s", "t"]);
    match dice.roll(12) {
        0..3 => batch.query(text),
        3 => batch.statement(text, &[]),
        4 => batch.statement(text, &[Some(b"7")]),
        5 => batch.parse(name, text, &[]).describe(b'S', name).sync(),
        6 => batch.bind("", name, (0, &[Some(b"7")]), 0).execute("").sync(),
        7 => batch.parse(name, text, &[]).flush(),
        8 => batch.copy_data(b"1\tx\n").copy_done(),
        9 => batch.close(*dice.pick(b"SPX"), name).sync(),
        10 => {
            let tag = *dice.pick(b"QPBDECHSFdcfXpz\0");
            let body: Vec<u8> = (0..dice.roll(20)).map(|_| byte(dice)).collect();
            batch.raw(tag, &body)
        }
        _ => batch.execute_some(name, 1).sync(),
    }
}

/// A byte changed, left out or put in, or the end cut off.
fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = usize::try_from(dice.roll(bytes.len().max(1) as u64)).unwrap();
    match dice.roll(4) {
        _ if bytes.is_empty() => {}
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, byte(dice)),
        2 => bytes.truncate(at),
        _ => bytes[at] = byte(dice),
    }
}

fn byte(dice: &mut Dice) -> u8 {
    u8::try_from(dice.roll(256)).unwrap()
}

#[tokio::test]
async fn who_is_cut_off_in_the_middle_leaves_nothing_under_way() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (endpoint, _) = ready(&stage, Setup::default()).await;
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let text = *dice.pick(&["SELECT pg_sleep(600)", "SELECT label FROM items WHERE id = 7"]);
        let batch = Batch::new().statement(text, &[]);
        let mut wire = Wire::connect(endpoint.listen()).await;
        let length = 1 + usize::try_from(dice.roll(batch.bytes().len() as u64)).unwrap();
        wire.send(&batch.bytes()[..length]).await;
    }
    // Nobody waits for statements of those who are gone.
    timeout(WITHIN, endpoint.server.abandoned()).await.expect("they are called back");
    is_well(endpoint.listen()).await;
    endpoint.stop().await;
}

/// What is said up to the end of the connection, with errors' messages.
async fn to_the_end(listen: SocketAddr, asked: &[Batch]) -> Vec<(char, String)> {
    let mut wire = Wire::connect_as(listen, "reader").await;
    for batch in asked {
        wire.send(batch.bytes()).await;
    }
    let mut said = Vec::new();
    while let Some(frame) = timeout(WITHIN, wire.frame()).await.expect("it is ended") {
        let message = frame.report().map_or_else(String::new, |report| report.message);
        said.push((char::from(frame.tag), message));
    }
    said
}

#[tokio::test]
async fn what_is_no_message_is_noticed_behind_what_was_asked_before() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script("CREATE ROLE reader LOGIN").await;
    let there = postgres.listen();
    let (server, _config) = start(&[format!("postgres://reader@{there}/postgres")], 2).await;
    let long = "SELECT repeat('x', 20000), pg_sleep(0.1) FROM generate_series(1, 9)";
    let query = || Batch::new().query(long);
    let batch = || Batch::new().statement(long, &[]);
    let unsynced = || Batch::new().parse("", long, &[]).bind("", "", (0, &[]), 0).execute("");
    let noise = || Batch::new().raw(b'\0', b"noise");
    let ended = |batch: Batch| vec![batch.then(&noise())];
    let mut scripts = vec![
        ended(Batch::new()),
        ended(query()),
        ended(batch().then(&query())),
        ended(Batch::new().query("BEGIN; SELECT 1").then(&query())),
        ended(unsynced()),
        ended(Batch::new().query("SELECT 1/0").then(&batch())),
    ];
    scripts.push(vec![query(), noise()]);
    for script in &scripts {
        let theirs = to_the_end(there, script).await;
        assert_eq!(to_the_end(server.listen(), script).await, theirs, "{script:?}");
    }
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}
