//! Plays a script to a target.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dice::Dice;
use super::neighbours::Neighbours;
use super::script::{Script, Startup, Step};
use super::transcript::{Event, Transcript};
use crate::batch::Batch;
use crate::wire::{Frame, Wire};

/// Longer than any answer takes on a busy machine; a target may have less patience.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// A session to which nothing came for so long is mostly answered.
const QUIET: Duration = Duration::from_millis(10);
/// Long enough that the two halves of a write are read apart by a server that is waiting.
const PAUSE: Duration = Duration::from_millis(1);
/// Longer writes are cut at random places instead of everywhere.
const CUTS_MAX: usize = 400;
/// Length of a `CancelRequest` and its code.
const CANCEL: (u32, u32) = (16, 80_877_102);

/// Who a script is played to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the client connects.
    listen: SocketAddr,
    /// The PostgreSQL servers that may do the work: to see there what runs.
    servers: Vec<SocketAddr>,
    /// How long an answer may take before it counts as silence.
    answer_within: Duration,
}

/// How a script's bytes are cut into writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// One write for each step, waiting as the script says.
    AsWritten,
    /// Everything in one write, as far as the script's own barriers allow.
    Pipelined,
    /// Each byte in a write of its own.
    EveryByte,
    /// Cut at random places.
    Cut(u64),
    /// As written, and whenever the session is idle, other clients of the target leave settings
    /// and prepared statements on whatever server connection they get.
    Disturbed,
}

impl Target {
    /// A PostgreSQL server itself.
    pub fn postgres(server: SocketAddr) -> Self {
        Self::endpoint(server, &[server])
    }

    /// An endpoint in front of PostgreSQL servers. What a script does elsewhere, it does at the
    /// first of them.
    pub fn endpoint(listen: SocketAddr, servers: &[SocketAddr]) -> Self {
        assert!(!servers.is_empty(), "an endpoint needs servers");
        Self { listen, servers: servers.to_vec(), answer_within: ANSWER_WITHIN }
    }

    /// Takes no answer after so long for silence.
    #[must_use]
    pub fn answer_within(self, answer_within: Duration) -> Self {
        Self { answer_within, ..self }
    }
}

/// Plays a script once, and returns all that came back.
pub async fn play(script: &Script, mode: Mode, target: &Target) -> Transcript {
    if !script.before.is_empty() {
        elsewhere(target.servers[0], &script.before).await;
    }
    let mut player = Player::connect(target).await;
    player.begin(&script.startup).await;
    if mode == Mode::Disturbed {
        player.neighbours = Some(Neighbours::open(target.listen).await);
    }
    for step in plan(&script.steps, mode) {
        if player.over {
            break;
        }
        player.step(&step, mode).await;
        player.disturb().await;
    }
    if !player.over {
        player.write(b"X\0\0\0\x04", Mode::AsWritten).await;
        player.step(&Step::AwaitEnd, mode).await;
    }
    player.events.append(&mut player.strangers);
    Transcript::new(player.events)
}

/// Merges the sends of a script between two barriers, when the mode asks for it.
fn plan(steps: &[Step], mode: Mode) -> Vec<Step> {
    if mode != Mode::Pipelined {
        return steps.to_vec();
    }
    let mut planned = Vec::new();
    let (mut bytes, mut awaits) = (BytesMut::new(), Vec::new());
    for step in steps.iter().chain([&Step::AwaitEnd]) {
        match step {
            Step::Send(piece) => bytes.put_slice(piece),
            Step::Await(..) => awaits.push(step.clone()),
            barrier => {
                planned.push(Step::Send(bytes.split().freeze()));
                planned.append(&mut awaits);
                planned.push(barrier.clone());
            }
        }
    }
    // The end that was chained above is no step of the script.
    planned.pop();
    planned
}

struct Player<'a> {
    target: &'a Target,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: BytesMut,
    events: Vec<Event>,
    seen: HashMap<u8, usize>,
    awaited: HashMap<u8, usize>,
    key: Option<Bytes>,
    neighbours: Option<Neighbours>,
    /// What strangers were told.
    strangers: Vec<Event>,
    over: bool,
}

impl<'a> Player<'a> {
    async fn connect(target: &'a Target) -> Self {
        let stream = TcpStream::connect(target.listen).await.expect("the target listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let (reader, writer) = stream.into_split();
        Self {
            target,
            reader,
            writer,
            buffer: BytesMut::new(),
            events: Vec::new(),
            seen: HashMap::new(),
            awaited: HashMap::new(),
            key: None,
            neighbours: None,
            strangers: Vec::new(),
            over: false,
        }
    }

    async fn begin(&mut self, startup: &Startup) {
        match startup {
            Startup::Bare(bytes) => self.write(bytes, Mode::AsWritten).await,
            Startup::Parameters(parameters) => self.log_in(parameters).await,
        }
    }

    async fn log_in(&mut self, parameters: &[(String, String)]) {
        let mut body = BytesMut::new();
        body.put_u32(196_608);
        for part in parameters.iter().flat_map(|(name, value)| [name, value]) {
            body.put_slice(part.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        let mut packet = BytesMut::new();
        packet.put_u32(u32::try_from(body.len() + 4).expect("a short packet"));
        packet.put_slice(&body);
        self.write(&packet, Mode::AsWritten).await;
        self.until(b'Z', 1).await;
    }

    async fn step(&mut self, step: &Step, mode: Mode) {
        match step {
            Step::Send(bytes) => self.write(bytes, mode).await,
            Step::Await(tag, count) => self.until(*tag, *count).await,
            Step::AwaitEnd => {
                let limit = Instant::now() + self.target.answer_within;
                while !self.over {
                    self.read(limit, "the end").await;
                }
            }
            Step::Cancel => self.cancel().await,
            Step::AwaitRunning(part) => self.until_running(part).await,
            Step::Elsewhere(sql) => elsewhere(self.target.servers[0], sql).await,
            Step::Pause => self.settle().await,
            Step::Stranger(startup, batch) => self.meet(startup, batch).await,
            // A server that closed first is no error of the script.
            Step::HalfClose => drop(self.writer.shutdown().await),
        }
    }

    /// Writes, and reads what comes meanwhile, so that neither side waits for the other.
    async fn write(&mut self, bytes: &[u8], mode: Mode) {
        let mut rest = bytes;
        for piece in pieces(bytes.len(), mode) {
            let (mut now, later) = rest.split_at(piece);
            rest = later;
            while !now.is_empty() {
                tokio::select! {
                    biased;
                    written = self.writer.write(now) => match written {
                        Ok(written) => now = &now[written..],
                        // The other side is gone: its last words are read below.
                        Err(_) => return,
                    },
                    read = self.reader.read_buf(&mut self.buffer), if !self.over => {
                        self.take(read.unwrap_or(0));
                    }
                }
            }
            if !rest.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }

    async fn until(&mut self, tag: u8, count: usize) {
        *self.awaited.entry(tag).or_default() += count;
        let limit = Instant::now() + self.target.answer_within;
        while !self.over && self.seen.get(&tag) < self.awaited.get(&tag) {
            self.read(limit, &format!("{count} of {:?}", char::from(tag))).await;
        }
    }

    async fn read(&mut self, limit: Instant, waiting_for: &str) {
        tokio::select! {
            read = self.reader.read_buf(&mut self.buffer) => self.take(read.unwrap_or(0)),
            () = sleep_until(limit) => {
                self.events.push(Event::Silence(waiting_for.to_owned()));
                self.over = true;
            }
        }
    }

    /// Takes the frames off the buffer after `read` more bytes came; none means the end.
    fn take(&mut self, read: usize) {
        while let Some(frame) = next_frame(&mut self.buffer) {
            *self.seen.entry(frame.tag).or_default() += 1;
            if frame.tag == b'K' {
                self.key = Some(frame.body.clone());
            }
            self.events.push(Event::Frame(frame));
        }
        if read == 0 {
            if !self.buffer.is_empty() {
                self.events.push(Event::Torn(self.buffer.split().freeze()));
            }
            self.events.push(Event::Closed);
            self.over = true;
        }
    }

    /// Lets a neighbour act when this session was answered and is in no transaction.
    async fn disturb(&mut self) {
        let idle = |frame: &Frame| frame.tag == b'Z' && frame.body[..] == *b"I";
        if let Some(neighbours) = &mut self.neighbours
            && matches!(self.events.last(), Some(Event::Frame(frame)) if idle(frame))
        {
            let wrong = neighbours.act().await;
            self.events.extend(wrong.map(Event::Neighbour));
        }
    }

    /// Waits until the session is as good as answered.
    async fn settle(&mut self) {
        while !self.over
            && let Ok(read) = timeout(QUIET, self.reader.read_buf(&mut self.buffer)).await
        {
            self.take(read.unwrap_or(0));
        }
    }

    /// Has a stranger connect and ask.
    async fn meet(&mut self, startup: &[(String, String)], batch: &Batch) {
        self.settle().await;
        let mut stranger = Player::connect(self.target).await;
        stranger.log_in(startup).await;
        // The order in which parameters are told is nobody's promise.
        stranger.events.sort_by_key(|event| match event {
            Event::Frame(frame) if frame.tag == b'S' => frame.body.clone(),
            _ => Bytes::new(),
        });
        stranger.write(batch.bytes(), Mode::AsWritten).await;
        stranger.until(b'Z', batch.ready()).await;
        self.strangers.extend(stranger.events);
    }

    async fn cancel(&mut self) {
        let Some(key) = &self.key else { panic!("a cancel needs a key") };
        let mut packet = BytesMut::new();
        packet.put_u32(CANCEL.0 - 8 + u32::try_from(key.len()).expect("a short key"));
        packet.put_u32(CANCEL.1);
        packet.put_slice(key);
        let mut stream = TcpStream::connect(self.target.listen).await.expect("the target listens");
        stream.write_all(&packet).await.expect("the target reads");
        let answer = timeout(ANSWER_WITHIN, stream.read_u8()).await;
        assert!(answer.is_ok_and(|byte| byte.is_err()), "a cancel request gets only its end");
    }

    async fn until_running(&mut self, part: &str) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
             AND pid <> pg_backend_pid() AND position('{part}' IN query) > 0"
        );
        let limit = Instant::now() + self.target.answer_within;
        let mut observers = Vec::new();
        for server in &self.target.servers {
            observers.push(Wire::connect_as(*server, "postgres").await);
        }
        loop {
            let mut running = false;
            for observer in &mut observers {
                running |= observer.rows(&sql).await != [[Some("0".to_owned())]];
            }
            if running {
                return;
            }
            if Instant::now() >= limit {
                self.events.push(Event::Silence(format!("{part:?} to run")));
                self.over = true;
                return;
            }
            sleep(POLL).await;
        }
    }
}

async fn elsewhere(server: SocketAddr, sql: &str) {
    let mut wire = Wire::connect_as(server, "postgres").await;
    let frames = wire.simple(sql).await;
    if let Some(report) = frames.iter().find_map(Frame::report) {
        panic!("{sql}: {report:?}");
    }
}

/// Lengths of the pieces that a write of `length` bytes is cut into.
fn pieces(length: usize, mode: Mode) -> Vec<usize> {
    let mut dice = match mode {
        Mode::AsWritten | Mode::Pipelined | Mode::Disturbed => return vec![length],
        Mode::EveryByte if length <= CUTS_MAX => return vec![1; length],
        Mode::EveryByte => Dice(7),
        Mode::Cut(seed) => Dice(seed),
    };
    // Often a few bytes, so that headers are cut; sometimes many, so that it ends.
    let mut pieces = Vec::new();
    let mut left = length;
    while left > 0 && pieces.len() < CUTS_MAX {
        let piece = match dice.roll(4) {
            0 => 1,
            1 => 1 + dice.roll(6),
            2 => 1 + dice.roll(64),
            _ => 1 + dice.roll(2 * (length / 64) as u64 + 64),
        };
        let piece = usize::try_from(piece).map_or(left, |piece| piece.min(left));
        pieces.push(piece);
        left -= piece;
    }
    if left > 0 {
        pieces.push(left);
    }
    pieces
}

fn next_frame(buffer: &mut BytesMut) -> Option<Frame> {
    if buffer.len() < 5 {
        return None;
    }
    let length = usize::try_from((&buffer[1..5]).get_u32()).ok()?;
    if buffer.len() < 1 + length {
        return None;
    }
    let mut bytes = buffer.split_to(1 + length.max(4)).freeze();
    let tag = bytes.get_u8();
    bytes.advance(4);
    Some(Frame { tag, body: bytes })
}
