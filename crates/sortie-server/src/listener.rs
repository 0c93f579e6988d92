//! The listener: accepts connections, deals them out to the cores, owns their tasks, and ends
//! them when the server drains.
//!
//! # Invariants
//!
//! 1. At most `connections_max` connections have a task. For one more the client that has been
//!    logging in for the longest time is turned out, so that nobody shuts others out by silence.
//!    Where nobody is logging in it is closed at once. Where the bound was lowered to less than
//!    there were, as few may come above those as above the bound: operators find a way in.
//! 2. When [`run`] returns, no connection is left: a drain waits for those that end on their own
//!    for `DRAIN_MAX`, or until it is told not to wait, and then drops the rest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::cores::{Cores, Ride, Socket};
use crate::logins::Logins;
use crate::session::refusal::Refusal;

/// How long a drain waits for connections to end on their own.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long a client that was turned out may take to be gone.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// A pause before the next accept when the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections above the sessions that there may be that are told so rather than closed: the
/// message comes after a client's first packet, so each may wait for it as long as a login may
/// take.
const TURNED_AWAY_MAX: usize = 64;

/// The tasks of connections, wherever they run.
type Connections = JoinSet<<Ride as Future>::Output>;

/// How many connections may have a task. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Space>);

#[derive(Debug)]
struct Space {
    connections_max: AtomicUsize,
    /// Connections that were closed as there was none.
    closed: AtomicU64,
    /// Sessions that went over to another core.
    moves: AtomicU64,
}

impl Room {
    /// Room for so many sessions, and a few more clients who are told that there is none.
    pub(crate) fn for_sessions(sessions_max: usize) -> Self {
        Self::new(sessions_max + TURNED_AWAY_MAX)
    }

    fn new(connections_max: usize) -> Self {
        let connections_max = AtomicUsize::new(connections_max);
        let (closed, moves) = Default::default();
        Self(Arc::new(Space { connections_max, closed, moves }))
    }

    /// Makes it room for so many from now on; nobody is turned out.
    pub(crate) fn change(&self, sessions_max: usize) {
        self.0.connections_max.store(sessions_max + TURNED_AWAY_MAX, Ordering::Relaxed);
    }

    /// How many were closed as there was none.
    pub(crate) fn closed(&self) -> u64 {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// How many sessions went over to another core.
    pub(crate) fn moves(&self) -> u64 {
        self.0.moves.load(Ordering::Relaxed)
    }

    /// How many connections may have a task where there are so many.
    fn connections_max(&self, crowd: &mut Crowd, open: usize) -> usize {
        crowd.connections_max(self.0.connections_max.load(Ordering::Relaxed), open)
    }
}

/// Those who stay above a bound that was lowered.
#[derive(Debug, Default)]
struct Crowd {
    /// What the bound is, and what holds until that many have left.
    bound: usize,
    until: usize,
}

impl Crowd {
    /// How many connections there may be by this bound, where there are so many.
    fn connections_max(&mut self, bound: usize, open: usize) -> usize {
        let above = open + TURNED_AWAY_MAX;
        // Afterwards it only falls: whoever comes above is not what others may come above.
        self.until = if bound < self.bound { above } else { self.until.min(above) };
        self.bound = bound;
        bound.max(self.until)
    }
}

/// Serves the connections of `listener` until `stop` resolves, then drains.
///
/// `drain` tells everybody that a drain has begun. `stop` is asked twice: the first time it ends
/// the accepting, the second time it ends the waiting. Returns how many connections were cut.
pub(crate) async fn run<S, F, Fut>(
    listener: TcpListener,
    (room, logins): (Room, Logins),
    cores: &Cores,
    drain: &watch::Sender<bool>,
    mut stop: S,
    serve: F,
) -> usize
where
    S: AsyncFnMut(),
    F: Fn(Socket, SocketAddr) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let mut connections = JoinSet::new();
    {
        let accepting = accept(&listener, (&room, &logins), cores, &mut connections, serve);
        tokio::select! {
            () = accepting => {}
            never = cores.keep_measured() => match never {},
            () = stop() => {}
        }
    }
    drop(listener);
    drain.send_replace(true);
    tracing::info!(event = "draining", connections = connections.len(), "draining");
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            see(ended, &mut connections, (&room, cores));
        }
    };
    tokio::select! {
        _in_time = timeout(DRAIN_MAX, ended) => {}
        () = stop() => {}
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn accept<F, Fut>(
    listener: &TcpListener,
    (room, logins): (&Room, &Logins),
    cores: &Cores,
    connections: &mut Connections,
    serve: F,
) where
    F: Fn(Socket, SocketAddr) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let mut crowd = Crowd::default();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => see(ended, connections, (room, cores)),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let connections_max = room.connections_max(&mut crowd, connections.len());
                    if !make_room(connections, connections_max, logins, (room, cores)).await {
                        room.0.closed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(
                            event = "refused",
                            reason = Refusal::Room.name(),
                            %peer,
                            connections_max,
                            "too many connections: closed one"
                        );
                        continue;
                    }
                    // Replies are written whole, so waiting to fill a packet only adds delay.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, %peer, "can't turn off Nagle's algorithm");
                    }
                    let (place, core) = cores.place();
                    let (moving, serve) = (stream.into_std(), serve.clone());
                    let serving = async move {
                        // Its events are to come to the core where it is served.
                        match moving.and_then(Socket::new) {
                            Ok(socket) => serve(socket, peer).await,
                            Err(error) => tracing::warn!(%error, %peer, "can't serve a connection"),
                        }
                    };
                    connections.spawn_on(Ride::begin(serving, place), core);
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tend(connections, (room, cores), ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Makes room for one more, if there is none. Returns whether there is.
async fn make_room(
    connections: &mut Connections,
    connections_max: usize,
    logins: &Logins,
    cores: (&Room, &Cores),
) -> bool {
    if connections.len() >= connections_max && logins.turn_out_oldest() {
        // Meanwhile nobody is accepted: whoever floods us waits, too.
        if let Ok(Some(ended)) = timeout(LEAVE_MAX, connections.join_next()).await {
            see(ended, connections, cores);
        }
    }
    connections.len() < connections_max
}

/// Does nothing for as long as this but look after the connections that there are.
async fn tend(connections: &mut Connections, cores: (&Room, &Cores), pause: Duration) {
    let tending = async {
        while let Some(ended) = connections.join_next().await {
            see(ended, connections, cores);
        }
        std::future::pending::<()>().await;
    };
    let _is_over = timeout(pause, tending).await;
}

/// Has a session that only left its core go on at another one.
fn see(
    ended: Result<<Ride as Future>::Output, JoinError>,
    connections: &mut Connections,
    (room, cores): (&Room, &Cores),
) {
    match ended {
        Ok(None) => {}
        Ok(Some(session)) => {
            room.0.moves.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(event = "moved", "a session goes on at another core");
            let (place, core) = cores.calmest();
            connections.spawn_on(Ride::go_on(session, place), core);
        }
        // A panic of one session is that session's end and nobody else's.
        Err(error) => tracing::error!(%error, "a session ended with a panic"),
    }
}

#[cfg(test)]
mod tests;
