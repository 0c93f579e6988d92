//! Asks a standby again and again how far it has got, while somebody wants to know; and so whether
//! it answers at all.

use std::fmt;
use std::str;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sortie::WalPoint;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::Lsn;
use crate::connect::{ConnectCause, ConnectError, Login};
use crate::cursor::Cursor;
use crate::exchange::{Body, ExchangeError, Request};
use crate::frontend::Frontend;
use crate::pool::{ConnId, PoolError, Server, refuses_login};

/// How often a standby is asked unless said.
const EVERY: Duration = Duration::from_millis(10);

/// How long one sample may take, its connection's opening aside.
const SAMPLE_MAX: Duration = Duration::from_secs(3);

/// How long a server is left alone that refuses the login, at first and at last.
const REFUSED_MIN: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// Position and history in one statement, so that they belong together. The control file knows
/// the history as of the last restart point; the receiver of the log, whose numbers not everybody
/// may see, as of now.
const QUESTION: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn(), \
    GREATEST(c.timeline_id, (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)), \
    s.system_identifier \
    FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_system() s \
    WHERE pg_catalog.pg_is_in_recovery()";

/// Watches one standby's replay position. Cheap to clone; all clones share one sampler.
///
/// It runs only while there is a [`ReplayWatch`].
#[derive(Clone)]
pub struct ReplaySampler(Arc<Shared>);

struct Shared {
    server: Server,
    login: Login,
    every: Duration,
    users: Mutex<(usize, JoinSet<()>)>,
    known: watch::Sender<Known>,
}

/// What is known of a server.
#[derive(Clone, Debug, Default)]
struct Known {
    answered: Option<Instant>,
    replayed: Option<Replayed>,
    refused: Option<Arc<ConnectError>>,
}

/// What a server said.
enum Answer {
    /// How far it has got; nothing if it is no standby.
    Replayed(Option<Replayed>),
    /// That it can't say.
    Failure,
    /// That it does not let us in.
    Refused(Arc<ConnectError>),
}

/// Somebody who wants to know. The sampler stops when the last one is dropped.
pub struct ReplayWatch {
    sampler: ReplaySampler,
    known: watch::Receiver<Known>,
}

/// How far a standby had replayed the write-ahead log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// Up to where, on which branch of whose history.
    pub point: WalPoint,
    /// When it was asked: it had got that far then, and has got no less far since.
    pub at: Instant,
}

impl ReplaySampler {
    /// Creates a sampler for a standby, which it asks as `login`, every ten milliseconds.
    pub fn new(server: Server, login: Login) -> Self {
        Self::every(server, login, EVERY)
    }

    /// Creates a sampler that asks once in `every`.
    pub fn every(server: Server, login: Login, every: Duration) -> Self {
        let every = every.max(Duration::from_millis(1));
        let users = Mutex::new((0, JoinSet::new()));
        let known = watch::Sender::new(Known::default());
        Self(Arc::new(Shared { server, login, every, users, known }))
    }

    /// Begins to watch.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn watch(&self) -> ReplayWatch {
        let mut users = self.0.users.lock();
        users.0 += 1;
        // None yet, or its runtime is gone.
        while users.1.try_join_next().is_some() {}
        if users.1.is_empty() {
            let (server, login) = (self.0.server.clone(), self.0.login.clone());
            users.1.spawn(sample(server, login, self.0.every, self.0.known.clone()));
        }
        drop(users);
        ReplayWatch { sampler: self.clone(), known: self.0.known.subscribe() }
    }
}

impl ReplayWatch {
    /// The last position that is known, and when it was asked for; `None` if there is none yet, or
    /// the server is a primary.
    pub fn last(&self) -> Option<Replayed> {
        self.known.borrow().replayed
    }

    /// When the last question was asked that was answered, in whatever way: a primary answers too,
    /// and so does a server that refuses the login. `None`: none was, since somebody watches.
    pub fn answered(&self) -> Option<Instant> {
        self.known.borrow().answered
    }

    /// Why the login is refused with which the server is asked, if it is; by the server, or on our
    /// own side. Then it is tried again after one second, and after twice as long each time up to
    /// thirty: meanwhile nobody knows whether the server answers.
    pub fn refused(&self) -> Option<Arc<ConnectError>> {
        self.known.borrow().refused.clone()
    }

    /// Waits until the standby is known to have replayed `floor`; `false`: not by the deadline, or
    /// it follows another history.
    ///
    /// Dropping the future does nothing.
    pub async fn reach(&mut self, floor: WalPoint, deadline: Instant) -> bool {
        let reached = |known: &Known| known.replayed.is_some_and(|last| last.has_reached(floor));
        let reached = self.known.wait_for(reached);
        matches!(timeout_at(deadline, reached).await, Ok(Ok(_)))
    }
}

impl Replayed {
    /// How long ago that was.
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// Whether everything up to `floor` was replayed; not so if their histories differ.
    pub fn has_reached(&self, floor: WalPoint) -> bool {
        let WalPoint { system, timeline, lsn } = self.point;
        (system, timeline) == (floor.system, floor.timeline) && lsn >= floor.lsn
    }
}

impl Drop for ReplayWatch {
    fn drop(&mut self) {
        let mut users = self.sampler.0.users.lock();
        users.0 -= 1;
        if users.0 == 0 {
            users.1.abort_all();
            drop(users);
            // What it knew grows old from now on.
            self.sampler.0.known.send_replace(Known::default());
        }
    }
}

async fn sample(server: Server, login: Login, every: Duration, known: watch::Sender<Known>) {
    let mut question = BytesMut::new();
    Frontend::Query { text: Bytes::from_static(QUESTION.as_bytes()) }.encode(&mut question);
    let question = question.freeze();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut mine, mut pause) = (None, REFUSED_MIN);
    loop {
        ticks.tick().await;
        let at = Instant::now();
        let deadline = at + SAMPLE_MAX;
        let asked = ask(&server, &login, &mut mine, question.clone(), deadline);
        // A server that does not answer is not forgotten: what it had replayed it has.
        let Ok(Some(answer)) = timeout_at(deadline, asked).await else {
            known.send_if_modified(|known| known.refused.take().is_some());
            continue;
        };
        let mut refused = None;
        known.send_modify(|known| {
            known.answered = Some(at);
            match answer {
                Answer::Replayed(replayed) => known.replayed = replayed,
                Answer::Refused(error) => refused = Some(error),
                Answer::Failure => {}
            }
            known.refused.clone_from(&refused);
        });
        if refused.is_some() {
            sleep(pause).await;
            pause = (pause * 2).min(REFUSED_MAX);
        } else {
            pause = REFUSED_MIN;
        }
    }
}

/// Asks once. `None`: nobody answered.
async fn ask(
    server: &Server,
    login: &Login,
    mine: &mut Option<ConnId>,
    question: Bytes,
    deadline: Instant,
) -> Option<Answer> {
    let mut connection = match server.checkout(login, *mine, deadline).await {
        Ok(connection) => connection,
        Err(PoolError::Connect(error)) if refuses_login(&error) => {
            return Some(Answer::Refused(error));
        }
        Err(PoolError::Connect(error)) if has_answered(&error) => return Some(Answer::Failure),
        Err(_unanswered) => return None,
    };
    *mine = Some(connection.id());
    let at = Instant::now();
    connection.expect_end(at + Duration::from_millis(2));
    let reply = match connection.exchange(Request::new(question)).await {
        Ok(reply) => reply,
        Err(ExchangeError::Server(_)) => return Some(Answer::Failure),
        Err(_unanswered) => return None,
    };
    let Body::Whole(rows) = reply.body else { return Some(Answer::Failure) };
    if rows.is_empty() {
        return Some(Answer::Replayed(None));
    }
    let replayed = point(rows).map(|point| Replayed { point, at });
    Some(replayed.map_or(Answer::Failure, |replayed| Answer::Replayed(Some(replayed))))
}

/// Whether somebody was there: a login that fails on our side says nothing about the server.
fn has_answered(error: &ConnectError) -> bool {
    use ConnectCause::{Closed, Dial, Lookup, Timeout};
    !matches!(error.cause(), Closed(_) | Dial(_) | Lookup(_) | Timeout(_))
}

/// Reads the one row of [`QUESTION`].
fn point(row: Bytes) -> Option<WalPoint> {
    let mut row = Cursor::new(row);
    (row.u8().ok()? == b'D').then_some(())?;
    row.bytes(4).ok()?;
    (row.u16().ok()? == 3).then_some(())?;
    let Lsn(lsn) = value(&mut row)?;
    Some(WalPoint { lsn, timeline: value(&mut row)?, system: value(&mut row)? })
}

fn value<T: str::FromStr>(row: &mut Cursor) -> Option<T> {
    let length = usize::try_from(row.i32().ok()?).ok()?;
    str::from_utf8(&row.bytes(length).ok()?).ok()?.parse().ok()
}

impl fmt::Debug for ReplaySampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaySampler")
            .field("server", &self.0.server)
            .field("every", &self.0.every)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReplayWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayWatch").field("last", &self.last()).finish_non_exhaustive()
    }
}
