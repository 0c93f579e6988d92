//! Whether servers answer: one that is silent is asked last, and in the end waited for no more.
//!
//! Each server that the pipe may take is asked ten times a second where it is, on a connection of
//! its own beside the pool's, while there are sessions and for a while after the last; else every
//! ten seconds, so that the metrics know. The session that comes first waits until it is known who
//! answers. A slow statement says nothing about its server; silence to such a question does.
//!
//! # Invariants
//!
//! 1. Only time in which this process itself ran counts as silence: a machine that slept does not
//!    take its servers for dead.
//! 2. A server that answers is heard again at once, whatever it was taken for.
//! 3. A server that does not let the watch in is not silent: nobody knows, and that is said once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use sortie::{Join, SingleFlight};
use sortie_postgres::{Login, PoolConfig, ReplaySampler, ReplayWatch, Replayed, Request, Server};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How often a server is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often is looked at what they said.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After so much silence others are asked first.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// How often, until every server has been heard of.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(5);
/// How long a session waits for that at most: longer than half a second of silence takes to be
/// counted where much else runs.
const KNOWN_MAX: Duration = Duration::from_secs(3);
/// How long servers are watched after the last session's end: clients that come one at a time
/// find them known.
const LINGER: Duration = Duration::from_secs(60);
/// How often they are looked at while there are no sessions.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How long a server may take to say where it is.
const PLACED_MAX: Duration = Duration::from_secs(3);
/// A batch that asks for nothing.
const SYNC: &[u8] = b"S\0\0\0\x04";
/// The name of the connections that ask.
const APPLICATION: &str = "sortie watch";

/// What is known of one server's answering. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<State>);

#[derive(Debug)]
struct State {
    address: String,
    sampler: ReplaySampler,
    /// A session has had bytes from it since the last look.
    heard: AtomicBool,
    silent: AtomicBool,
    given_up: AtomicBool,
    /// It does not let the watch in, and somebody was told so.
    refused: AtomicBool,
    /// The log up to here is replayed; 0 is not known.
    position: AtomicU64,
    /// The server, and who asks it.
    server: Server,
    login: Login,
    /// Questions where it is now: many sessions ask at once.
    places: SingleFlight<(), u64, Unplaced>,
}

/// Nobody knows where a server is.
#[derive(Debug, thiserror::Error)]
#[error("the server does not say where it is")]
struct Unplaced;

/// Who is to be woken when a server is given up, while there are sessions.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    present: Mutex<(u64, HashMap<u64, Arc<AtomicWaker>>)>,
    count: watch::Sender<usize>,
    /// Of every server it is known whether it answers.
    known: watch::Sender<bool>,
}

/// A session's place in it, left on drop.
#[derive(Debug)]
pub(super) struct Present {
    number: u64,
    waker: Arc<AtomicWaker>,
    attendance: Arc<Attendance>,
}

impl Pulse {
    pub(super) fn new(server: &Server) -> Self {
        let mut config = PoolConfig::default();
        (config.size_max, config.warm_min) = (1, 0);
        // Whoever comes back is heard soon.
        config.backoff_max = Duration::from_secs(1);
        config.cancel_timeout = Duration::from_secs(1);
        let info = server.info().clone();
        let address = info.address.to_string();
        let login = Login::of(&info).parameter("application_name", APPLICATION);
        let server = Server::new(info, config);
        let sampler = ReplaySampler::every(server.clone(), login.clone(), ASK_EVERY);
        let places = SingleFlight::builder().join(Join::Fresh).build();
        let (heard, silent, given_up, refused, position) = Default::default();
        Self(Arc::new(State {
            address,
            sampler,
            heard,
            silent,
            given_up,
            refused,
            position,
            server,
            login,
            places,
        }))
    }

    /// A session has had bytes from the server: whatever becomes of the questions, it lives.
    pub(super) fn heard(&self) {
        // Looked at first: many sessions on several cores would take the line from one another.
        if !self.0.heard.load(Relaxed) {
            self.0.heard.store(true, Relaxed);
        }
    }

    /// Whether others are to be asked first.
    pub(super) fn is_silent(&self) -> bool {
        self.0.silent.load(Relaxed)
    }

    /// Whether nothing that it was sent is waited for any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.0.given_up.load(Relaxed)
    }

    /// Up to where the server has got in the log, asked after this was called: replayed on a
    /// standby, written on a primary. `None`: it does not say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the question to others who ask.
    pub(super) async fn position_now(&self) -> Option<u64> {
        if self.is_silent() {
            return None;
        }
        let (server, login) = (self.0.server.clone(), self.0.login.clone());
        let ask = move || place(server.clone(), login.clone());
        self.0.places.run((), ask).await.ok()
    }

    /// What was replayed there when it last said so.
    pub(super) fn position(&self) -> Option<u64> {
        Some(self.0.position.load(Relaxed)).filter(|lsn| *lsn > 0)
    }
}

/// Asks a server how far it has got.
async fn place(server: Server, login: Login) -> Result<u64, Unplaced> {
    let asked = async {
        let deadline = Instant::now() + PLACED_MAX;
        let mut connection = server.checkout(&login, None, deadline).await.ok()?;
        let nothing = Request::new(Bytes::from_static(SYNC)).fenced_around();
        connection.exchange(nothing).await.ok()?.until
    };
    timeout(PLACED_MAX, asked).await.ok().flatten().ok_or(Unplaced)
}

/// One server while it is watched.
struct Watched {
    pulse: Pulse,
    watch: ReplayWatch,
    answered: Option<Instant>,
    silence: Duration,
}

impl Watched {
    fn new(pulse: &Pulse) -> Self {
        let watch = pulse.0.sampler.watch();
        Self { pulse: pulse.clone(), watch, answered: None, silence: Duration::ZERO }
    }

    /// Whether it has answered, or has had its time for that.
    fn is_known(&self) -> bool {
        self.answered.is_some() || self.silence >= SILENT_AFTER
    }

    /// Takes in what has become known since the last look, so long ago. Returns whether the server
    /// is given up just now.
    fn look(&mut self, passed: Duration, patience: Option<Duration>) -> bool {
        let answered = self.watch.answered();
        let is_news = answered > self.answered;
        let is_refused = self.is_refused(is_news);
        let heard = self.pulse.0.heard.swap(false, Relaxed);
        if heard || is_refused || is_news {
            self.answered = answered;
            self.silence = Duration::ZERO;
        } else {
            self.silence += passed;
        }
        let state = &self.pulse.0;
        let position = self.watch.last().map_or(0, |Replayed { point, .. }| point.lsn);
        state.position.store(position, Relaxed);
        if self.is_known() {
            state.silent.store(self.silence >= SILENT_AFTER, Relaxed);
        }
        let given_up = patience.is_some_and(|patience| self.silence >= patience);
        let before = state.given_up.swap(given_up, Relaxed);
        if given_up && !before {
            tracing::warn!(
                event = "server",
                server = %state.address,
                answers = false,
                "the server has answered nothing for too long: it is given up"
            );
        } else if before && (heard || is_news) {
            tracing::info!(
                event = "server",
                server = %state.address,
                answers = true,
                "the server answers again"
            );
        }
        given_up && !before
    }

    /// Whether the server does not let us in to ask; it is said once.
    fn is_refused(&self, is_news: bool) -> bool {
        let told = &self.pulse.0.refused;
        let Some(error) = self.watch.refused() else {
            if is_news && told.swap(false, Relaxed) {
                tracing::info!(server = %self.pulse.0.address, "the server is watched again");
            }
            return false;
        };
        if !told.swap(true, Relaxed) {
            let cause = match error.server() {
                Some(said) => said.to_string(),
                None => error.cause().to_string(),
            };
            tracing::warn!(
                server = %self.pulse.0.address,
                cause,
                "the server does not let the watch in: nobody knows whether it answers"
            );
        }
        true
    }
}

/// The server to ask first: this one, unless it is silent, or avoided, or whoever asks it would
/// have to wait.
pub(super) fn least_crowded(
    servers: &[Server],
    pulses: &[Pulse],
    first: usize,
    avoid: u64,
) -> usize {
    let is_avoided = |server: usize| avoid & super::seen::bit(server) > 0;
    let fits = |server: usize| {
        !is_avoided(server) && !pulses[server].is_silent() && servers[server].has_room()
    };
    if servers.len() < 2 || fits(first) {
        return first;
    }
    let crowd = |at: &usize| {
        let stats = servers[*at].stats();
        (is_avoided(*at), pulses[*at].is_silent(), stats.waiting, stats.in_use)
    };
    (0..servers.len()).min_by_key(crowd).unwrap_or(first)
}

/// Watches servers, all the time while there are sessions; gives them up after so much silence,
/// if ever.
///
/// # Cancel safety
///
/// Dropping the future stops watching.
pub(super) async fn keep_watched(
    pulses: &[Pulse],
    attendance: &Attendance,
    patience: Option<Duration>,
) -> Infallible {
    let mut present = attendance.count.subscribe();
    loop {
        let mut watched: Vec<Watched> = pulses.iter().map(Watched::new).collect();
        let mut idle = LINGER;
        let mut is_known = false;
        while idle < LINGER || !is_known {
            let every = if is_known { LOOK_EVERY } else { FIRST_LOOKS_EVERY };
            sleep(every).await;
            let mut given_up = false;
            for server in &mut watched {
                given_up |= server.look(every, patience);
            }
            if given_up {
                attendance.wake();
            }
            if !is_known && watched.iter().all(Watched::is_known) {
                is_known = true;
                attendance.known.send_replace(true);
            }
            idle = if *present.borrow() > 0 { Duration::ZERO } else { idle + every };
        }
        drop(watched);
        attendance.known.send_replace(false);
        // The sender is on the caller's side: it outlives this.
        let attended = present.wait_for(|count| *count > 0);
        let _is_attended = timeout(LOOK_AGAIN_EVERY, attended).await.is_ok();
    }
}

impl Attendance {
    /// A session begins.
    pub(super) fn enter(self: &Arc<Self>) -> Present {
        let waker = Arc::new(AtomicWaker::new());
        let mut present = self.present();
        present.0 += 1;
        let number = present.0;
        present.1.insert(number, Arc::clone(&waker));
        self.count.send_replace(present.1.len());
        drop(present);
        Present { number, waker, attendance: Arc::clone(self) }
    }

    /// Waits, for a short time, until it is known which servers answer: for the session that comes
    /// first, before which nobody watched.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    pub(super) async fn known(&self) {
        if *self.known.borrow() {
            return;
        }
        let mut known = self.known.subscribe();
        let _in_time = timeout(KNOWN_MAX, known.wait_for(|known| *known)).await.is_ok();
    }

    pub(super) fn wake(&self) {
        let wakers: Vec<_> = self.present().1.values().map(Arc::clone).collect();
        for waker in wakers {
            waker.wake();
        }
    }

    fn present(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<u64, Arc<AtomicWaker>>)> {
        // Nothing in here panics between two changes that belong together.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Has this task woken when a server is given up.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut present = self.attendance.present();
        present.1.remove(&self.number);
        self.attendance.count.send_replace(present.1.len());
    }
}
