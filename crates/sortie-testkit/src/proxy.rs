//! A TCP proxy that is as bad as networks are, on request, between anything and any server.
//!
//! Faults are switched while connections run and hold for all of them. What is armed once
//! ([`corrupt`](FaultProxy::corrupt), [`inject`](FaultProxy::inject),
//! [`cut_after`](FaultProxy::cut_after)) hits the first connection that gets there.

mod frames;
mod pump;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ports::free_port;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Flow {
    /// Nothing.
    #[default]
    Free,
    /// Each piece waits that long, the end of the stream included.
    Delay(Duration),
    /// Nothing passes and nothing more is read, until this changes.
    Stall,
    /// That many bytes at a time, with that pause after each.
    Drip(usize, Duration),
}

/// An error that the server did not send, put where a frame of its begins.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Injection {
    sqlstate: String,
    message: String,
    before: Option<u8>,
    fatal: bool,
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were taken.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes passed on to the server.
    pub up: u64,
    /// Bytes passed on to the client.
    pub down: u64,
    /// Connections reset by [`FaultProxy::cut`] and [`FaultProxy::cut_after`].
    pub cuts: u64,
    /// Errors put in.
    pub injected: u64,
    /// Bytes changed.
    pub corrupted: u64,
}

/// A running proxy; dropping it resets every connection.
#[derive(Debug)]
pub struct FaultProxy {
    listen: SocketAddr,
    switches: Arc<Switches>,
    /// Owns the task that takes connections, which owns theirs.
    _tasks: JoinSet<()>,
}

/// What a proxy and its connections share.
#[derive(Debug)]
struct Switches {
    target: Mutex<SocketAddr>,
    state: watch::Sender<State>,
    armed: Mutex<Armed>,
    counters: [AtomicU64; COUNTERS],
}

const COUNTERS: usize = 7;

/// Numbers of `Switches::counters`.
#[derive(Clone, Copy)]
enum Counter {
    Connections,
    Open,
    Up,
    Down,
    Cuts,
    Injected,
    Corrupted,
}

/// What holds until it is changed.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    up: Flow,
    down: Flow,
    refuse: bool,
    /// Goes up with each [`FaultProxy::cut`].
    cuts: u64,
    /// Goes up with each [`FaultProxy::half_close`] of that way.
    closes: [u64; 2],
}

/// What happens once.
#[derive(Debug, Default)]
struct Armed {
    /// Bytes that may still pass before a connection is reset, by way.
    cut_after: [Option<usize>; 2],
    /// Bytes that pass before the one that is changed, by way.
    corrupt: [Option<usize>; 2],
    inject: Option<Injection>,
    /// Connections whose startup has this in it are not hit.
    spare: Option<String>,
}

impl FaultProxy {
    /// Listens on a free port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = TcpListener::bind(listen).await.expect("the port is free");
        let (state, _) = watch::channel(State::default());
        let (armed, counters) = Default::default();
        let target = Mutex::new(target);
        let switches = Arc::new(Switches { target, state, armed, counters });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, listen, Arc::clone(&switches)));
        Self { listen, switches, _tasks: tasks }
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Changes what happens to bytes going one way.
    pub fn flow(&self, way: Way, flow: Flow) {
        self.switches.state.send_modify(|state| match way {
            Way::Up => state.up = flow,
            Way::Down => state.down = flow,
        });
    }

    /// Stalls both ways, or lets both flow freely again.
    pub fn stall(&self, stall: bool) {
        let flow = if stall { Flow::Stall } else { Flow::Free };
        self.flow(Way::Up, flow);
        self.flow(Way::Down, flow);
    }

    /// Refuses new connections, as a server that does not run, or takes them again.
    pub async fn refuse(&self, refuse: bool) {
        self.switches.state.send_modify(|state| state.refuse = refuse);
        // The port is closed and opened by the task that owns it.
        while TcpStream::connect(self.listen).await.is_err() != refuse {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Passes connections that are made from now on to another server, as an address does that
    /// follows a primary.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.switches.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Resets every connection that is open now.
    pub fn cut(&self) {
        self.switches.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets the connection on which the next byte after `bytes` more would go that way.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.switches.arm(|armed| armed.cut_after[way as usize] = Some(bytes));
    }

    /// Says on every open connection that nothing more comes this way, while the other goes on.
    pub fn half_close(&self, way: Way) {
        self.switches.state.send_modify(|state| state.closes[way as usize] += 1);
    }

    /// Turns over the bits of one byte: the one after the next `skip`.
    pub fn corrupt(&self, way: Way, skip: usize) {
        self.switches.arm(|armed| armed.corrupt[way as usize] = Some(skip));
    }

    /// Puts an error in, once, where it fits. Only on connections without TLS.
    pub fn inject(&self, injection: Injection) {
        self.switches.arm(|armed| armed.inject = Some(injection));
    }

    /// Lets what is armed once pass over connections whose startup packet has this in it, as the
    /// name of an application.
    pub fn spare(&self, text: &str) {
        self.switches.arm(|armed| armed.spare = Some(text.to_owned()));
    }

    /// How much there was so far.
    pub fn counts(&self) -> Counts {
        let read = |counter| self.switches.counters[counter as usize].load(Ordering::Relaxed);
        Counts {
            connections: read(Counter::Connections),
            open: read(Counter::Open),
            up: read(Counter::Up),
            down: read(Counter::Down),
            cuts: read(Counter::Cuts),
            injected: read(Counter::Injected),
            corrupted: read(Counter::Corrupted),
        }
    }
}

impl Injection {
    /// An ERROR in place of the rest of an answer: from the next frame of the server's on, all is
    /// left out up to `ReadyForQuery`.
    pub fn error(sqlstate: &str) -> Self {
        let message = format!("injected {sqlstate}");
        Self { sqlstate: sqlstate.to_owned(), message, before: None, fatal: false }
    }

    /// A FATAL one in place of the next frame; the connection ends with it.
    pub fn fatal(sqlstate: &str) -> Self {
        Self { fatal: true, ..Self::error(sqlstate) }
    }

    #[must_use]
    /// Not before the next frame but before the next one with this tag, e.g. `b'D'`.
    pub fn before(self, tag: u8) -> Self {
        Self { before: Some(tag), ..self }
    }
}

impl Switches {
    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arm(&self, change: impl FnOnce(&mut Armed)) {
        change(&mut self.armed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self, counter: Counter, more: usize) {
        self.counters[counter as usize].fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl State {
    fn flow(&self, way: Way) -> Flow {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

/// Takes connections until it is dropped, and owns their tasks.
async fn accept(listener: TcpListener, listen: SocketAddr, switches: Arc<Switches>) {
    let mut listener = Some(listener);
    let mut state = switches.state.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let refuse = state.borrow_and_update().refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(listen).await.expect("the port is still ours"));
        }
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = next => if let Some((client, _)) = accepted {
                connections.spawn(pump::connection(client, Arc::clone(&switches)));
            },
            _changed = state.changed() => {}
            Some(_ended) = connections.join_next() => {}
        }
    }
}
