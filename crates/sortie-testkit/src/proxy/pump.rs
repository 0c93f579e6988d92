//! One connection: bytes both ways, as the switches say.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::frames::{Frames, Passed};
use super::{Counter, Flow, State, Switches, Way};

const PIECE_MAX: usize = 16 * 1024;

/// How one direction ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The sender is done, and the receiver was told so.
    Closed,
    /// The whole connection is over, in order.
    Over,
    /// The whole connection is to be reset.
    Cut,
}

/// Counts a connection as open, until it is dropped.
struct Open<'s>(&'s Switches);

pub(super) async fn connection(client: TcpStream, switches: Arc<Switches>) {
    switches.count(Counter::Connections, 1);
    switches.count(Counter::Open, 1);
    let _open = Open(&switches);
    let state = switches.state.subscribe();
    let Ok(server) = TcpStream::connect(switches.target()).await else { return };
    let (mut client, mut server) = (client, server);
    // The proxy adds no waiting of its own.
    client.set_nodelay(true).and(server.set_nodelay(true)).ok();
    let end = {
        let (frames, spared) = (Mutex::new(Frames::default()), AtomicBool::new(false));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |way| {
            let state = state.clone();
            Pump { way, switches: &switches, frames: &frames, spared: &spared, state }
        };
        let up = pump(Way::Up).run(from_client, to_server);
        let down = pump(Way::Down).run(from_server, to_client);
        tokio::select! {
            end = both(up, down) => end,
            () = cut(state.clone()) => End::Cut,
        }
    };
    if end == End::Cut {
        switches.count(Counter::Cuts, 1);
        client.set_zero_linger().and(server.set_zero_linger()).ok();
    }
}

/// Waits for both directions, or for one that ends the other as well.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> End {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let (first, up_is_left) = tokio::select! {
        end = &mut up => (end, false),
        end = &mut down => (end, true),
    };
    match first {
        End::Closed if up_is_left => up.await,
        End::Closed => down.await,
        whole => whole,
    }
}

/// Returns at the next cut.
async fn cut(mut state: watch::Receiver<State>) {
    let cuts = state.borrow_and_update().cuts;
    // The sender lives as long as the proxy.
    state.wait_for(|state| state.cuts != cuts).await.ok();
}

struct Pump<'s> {
    way: Way,
    switches: &'s Switches,
    frames: &'s Mutex<Frames>,
    /// What is armed passes over this connection.
    spared: &'s AtomicBool,
    state: watch::Receiver<State>,
}

impl Pump<'_> {
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let closes = self.state.borrow().closes[self.way as usize];
        let mut asks = self.way == Way::Up;
        loop {
            if self.passable().await.closes[self.way as usize] != closes {
                return self.close(&mut to).await;
            }
            let mut piece = BytesMut::with_capacity(PIECE_MAX);
            let read = tokio::select! {
                read = from.read_buf(&mut piece) => read,
                // Perhaps to a stall: look again before anything is read.
                _changed = self.state.changed() => continue,
            };
            if read.is_err() {
                return End::Cut;
            }
            let state = self.passable().await;
            if let Flow::Delay(delay) = state.flow(self.way) {
                sleep(delay).await;
            }
            if piece.is_empty() {
                return self.close(&mut to).await;
            }
            asks = asks && self.begins(&piece);
            match self.pass(&piece, &mut to).await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(_receiver_gone) => return End::Cut,
            }
        }
    }

    /// Looks at what a client sends first; returns whether its startup is still to come.
    fn begins(&self, piece: &[u8]) -> bool {
        let armed = self.switches.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let text = armed.spare.as_ref().map(String::as_bytes);
        let is_spared = text.is_some_and(|text| piece.windows(text.len()).any(|it| it == text));
        self.spared.store(is_spared, Relaxed);
        self.frames().asked(piece)
    }

    /// Waits until nothing stalls, and returns what holds then.
    async fn passable(&mut self) -> State {
        loop {
            let state = *self.state.borrow_and_update();
            if state.flow(self.way) != Flow::Stall || self.state.changed().await.is_err() {
                return state;
            }
        }
    }

    async fn close(&self, to: &mut WriteHalf<'_>) -> End {
        // A receiver that is gone needs not be told.
        to.shutdown().await.ok();
        End::Closed
    }

    /// Writes a piece, with what is armed done to it.
    async fn pass(&mut self, piece: &[u8], to: &mut WriteHalf<'_>) -> io::Result<Option<End>> {
        let Passed { mut bytes, ends, .. } = self.framed(piece);
        let cut = self.harm(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let part = match self.passable().await.flow(self.way) {
                Flow::Drip(part, pause) => {
                    sleep(pause).await;
                    part.clamp(1, rest.len())
                }
                _ => rest.len(),
            };
            let (now, later) = rest.split_at(part);
            to.write_all(now).await?;
            let counter = if self.way == Way::Up { Counter::Up } else { Counter::Down };
            self.switches.count(counter, now.len());
            rest = later;
        }
        if cut {
            return Ok(Some(End::Cut));
        }
        Ok(ends.then_some(End::Over))
    }

    /// Lets the server's frames be followed, and an error be put among them.
    fn framed(&self, piece: &[u8]) -> Passed {
        if self.way == Way::Up {
            return Passed { bytes: piece.into(), ..Passed::default() };
        }
        let mut armed = self.switches.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nothing = None;
        let spared = self.spared.load(Relaxed);
        let injection = if spared { &mut nothing } else { &mut armed.inject };
        let passed = self.frames().pass(piece, injection);
        self.switches.count(Counter::Injected, usize::from(passed.injected));
        passed
    }

    /// Changes a byte, or shortens the piece, when it is time; returns whether that is the end.
    fn harm(&self, bytes: &mut BytesMut) -> bool {
        let mut armed = self.switches.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.spared.load(Relaxed) {
            return false;
        }
        let way = self.way as usize;
        if let Some(skip) = armed.corrupt[way] {
            if let Some(byte) = bytes.get_mut(skip) {
                *byte = !*byte;
                self.switches.count(Counter::Corrupted, 1);
                armed.corrupt[way] = None;
            } else {
                armed.corrupt[way] = Some(skip - bytes.len());
            }
        }
        match armed.cut_after[way] {
            Some(left) if left < bytes.len() => {
                bytes.truncate(left);
                armed.cut_after[way] = None;
                true
            }
            Some(left) => {
                armed.cut_after[way] = Some(left - bytes.len());
                false
            }
            None => false,
        }
    }

    fn frames(&self) -> std::sync::MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters[Counter::Open as usize].fetch_sub(1, Relaxed);
    }
}
