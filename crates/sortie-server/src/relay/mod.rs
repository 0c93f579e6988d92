//! Sessions in front of PostgreSQL servers: the pipe lane, and the way into the shared one.
//!
//! A client's bytes are relayed to one server connection, and the server's bytes back, unchanged,
//! so that every driver works as with PostgreSQL itself. The connection is the session's for one
//! transaction; what a session leaves on it is kept in its ledger, and had again on the next one.
//! A single statement that is proven to be shareable goes to the shared lane instead
//! ([`Shared`]).
//!
//! | part | module |
//! |---|---|
//! | what a statement leaves on a session, from its text | `effect` |
//! | what a session has left on servers, to have it again | `ledger`, `homes` |
//! | what nothing takes away from a connection | `customs` |
//! | what is under way on a connection | `course` |
//! | what an idle client wants next | `decide` |
//! | in which lane | `lanes`, `switches`, then `share`, `large`, `describe`, `refuse` or `local` |
//! | statements about the switches, of who holds a connection | `amid` |
//! | the batch that comes over and over | `plain`, `groove` |
//! | reads that nobody else asks for at the time | `lone` |
//! | bytes in both directions | `client`, `pump`, `hear`, `buffers` |
//! | what may come at any time | `signals`, `quiet` |
//! | which servers there are, and whether they answer | `cluster`, `lasting`, `health` |
//! | which of them are as fresh as the session has seen | `seen` |
//! | who has a session, and what each has had | `roster` |
//! | why statements are not shared, and what that would save | `insight` |
//! | what holds statements back while a cluster is paused | `valve` |
//! | a connection taken and given back | `hold`, `leased` |
//! | what the configuration says now, and going over to it | `world`, `moving` |
//!
//! # Invariants
//!
//! 1. What is doubtful takes the pipe. A dirty session never shares.
//! 2. Nobody gets what another session left on a connection.
//! 3. Everything that waits is bounded, in both directions.

mod amid;
mod buffers;
mod client;
mod cluster;
mod course;
mod crowd;
mod customs;
mod decide;
mod describe;
mod directory;
mod effect;
mod failure;
mod frames;
mod groove;
mod health;
mod hear;
mod hints;
mod hold;
mod homes;
mod insight;
mod lanes;
mod large;
mod lasting;
mod lazy;
mod leased;
mod ledger;
mod local;
mod lone;
mod mend;
mod moving;
mod plain;
mod pump;
mod quiet;
mod refuse;
pub(crate) mod roster;
mod seen;
mod session;
mod share;
mod shared;
mod signals;
mod startup;
mod stats;
mod switches;
mod valve;
mod world;

use std::pin::pin;
use std::sync::Arc;

use sortie_postgres::backend::{self, Severity, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::Instrument;

use self::client::Client;
pub(crate) use self::cluster::{Cluster, ReplicaHealth, ShardServers};
pub(crate) use self::effect::{Proven, is_harmless, is_taken, leaves_nothing};
pub(crate) use self::failure::behind;
pub(crate) use self::homes::{APART, is_apart};
pub(crate) use self::ledger::{NAMED, parses};
use self::lone::Lights;
use self::quiet::Quiet;
use self::roster::{Ends, Person, Roster};
use self::session::{Session, Signals};
pub(crate) use self::shared::{Asked, Outcome, PipeReason, Reply, Shared, Values, Verdict, Who};
pub(crate) use self::stats::LaneStats;
pub(crate) use self::valve::Valve;
pub(crate) use self::world::World;
use self::world::Worlds;
use crate::budget::Budget;
use crate::console::Console;
use crate::session::drained;
use crate::session::failure::{self as told, Failure};
use crate::session::keys::Keys;
use crate::session::refusal::Refusal;
use crate::session::socket::Socket;
use crate::session::startup::Wish;
use crate::session::stats::{ClientStats, Stats};
use crate::sql::SqlError;

/// All sessions of an endpoint in front of PostgreSQL. Clones share everything.
#[derive(Debug)]
pub(crate) struct Relay<L>(Arc<Inner<L>>);

/// What sessions share.
#[derive(Debug)]
pub(crate) struct Inner<L> {
    worlds: Worlds<L>,
    keys: Keys,
    lights: Lights,
    roster: Arc<Roster>,
    stats: Stats,
    budget: Budget,
    drain: watch::Receiver<bool>,
}

impl<L: Shared> Relay<L> {
    /// Creates the sessions of an endpoint. When `drain` becomes true, or its sender is dropped,
    /// idle sessions end, and the others when their transaction is done, or `TRANSACTION_MAX` is
    /// over.
    pub(crate) fn new(world: World<L>, drain: watch::Receiver<bool>, roster: Arc<Roster>) -> Self {
        let keys = Keys::new(world.limits.sessions_max);
        let budget = world.limits.budget.clone();
        budget.change(world.config.buffered_max);
        let (worlds, stats) = (Worlds::new(world), Stats::default());
        let lights = Lights::default();
        Self(Arc::new(Inner { worlds, keys, lights, roster, stats, budget, drain }))
    }

    /// Lets another configuration hold: for sessions that begin, and for others from their next
    /// batch on. Returns what held before.
    pub(crate) fn change(&self, world: World<L>) -> Arc<World<L>> {
        self.0.keys.limit(world.limits.sessions_max);
        self.0.budget.change(world.config.buffered_max);
        self.0.worlds.change(world)
    }

    /// What holds now.
    pub(crate) fn world(&self) -> Arc<World<L>> {
        self.0.worlds.now()
    }

    /// Serves one connection, between these ends, to its end; those who ask for the admin database
    /// get `console`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection. A statement that runs on a server is called
    /// back, and a shared read loses this waiter.
    pub(crate) async fn serve<S>(&self, stream: S, ends: Ends, console: &Console)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let inner = &*self.0;
        let _running = inner.stats.connection();
        let world = inner.worlds.now();
        let socket = Socket::new(stream, &world.limits);
        inner.serve(socket, world, (ends, console)).await;
    }

    /// Reads the counters and gauges of clients.
    pub(crate) fn stats(&self) -> ClientStats {
        self.0.stats.read()
    }

    /// What may wait in memory for slow clients, and what does.
    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Reads the counters and gauges of the lanes, by the cluster's name.
    pub(crate) fn lanes(&self) -> Vec<(String, LaneStats)> {
        let world = self.world();
        let read = |cluster: &Arc<Cluster>| {
            let (saved, saved_micros, blind) = cluster.insight.saved();
            let lanes = cluster.lasting.lanes.read();
            (cluster.config.name.clone(), LaneStats { saved, saved_micros, blind, ..lanes })
        };
        world.clusters.iter().map(read).collect()
    }
}

impl<L> Clone for Relay<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Shared> Inner<L> {
    async fn serve<S>(
        &self,
        mut socket: Socket<S>,
        world: Arc<World<L>>,
        (ends, console): (Ends, &Console),
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let stall_max = world.limits.egress_stall_max;
        let opened = match self.enter(&mut socket, &world).await {
            Ok((Wish::Cancel(cancel), _)) => {
                if let Some(cancel) = cancel {
                    self.stats.cancel();
                    let entry = self.roster.entry(cancel.process());
                    let _under_way = entry.map(|entry| entry.cancelling());
                    // The client may take the connection's end for the end of the cancel.
                    timeout(signals::CANCEL_MAX, cancel.settled()).await.ok();
                }
                // In order: an encrypted connection that is just dropped looks cut off.
                return socket.close().await;
            }
            Ok((Wish::Session(hello), _)) if console.is_asked(&hello) => {
                match console.serve(&mut socket, &hello, &self.keys, ends).await {
                    Ok(()) => return,
                    Err(end) => Err(end),
                }
            }
            Ok((Wish::Session(hello), proof)) => {
                let opened = self.open(&mut socket, &world, (&hello, proof), ends).await;
                opened.map(|(cluster, opened)| ((world, cluster), opened))
            }
            Err(failure) => Err(failure),
        };
        let mut client = Client::new(socket.into_parts(), stall_max, self.budget.holding(None));
        let failure = match opened {
            Ok((place, opened)) => {
                self.stats.login();
                let span = tracing::debug_span!("session", process = opened.key.process());
                client.holding = self.budget.holding(Some(Arc::clone(&opened.listed.entry)));
                let (left, failure) = self.talk(client, place, &opened).instrument(span).await;
                client = left;
                if matches!(failure, Failure::Stalled) && !opened.listed.entry.is_evicted() {
                    tell_stalled(&opened.listed.entry.person, &client);
                }
                failure
            }
            Err(failure) => failure,
        };
        tracing::debug!(%failure, "a connection ends");
        let failure = match failure {
            Failure::Refused(reason, told) => {
                self.refuse(reason, told.as_ref(), ends);
                // Who is told nothing has to be gone at once: others wait for the room.
                let Some(error) = told else { return };
                Failure::Fatal(error)
            }
            other => other,
        };
        match failure {
            Failure::Fatal(error) | Failure::Statement(error) => {
                self.stats.error();
                told::say(&mut client.output, Severity::Fatal, &error);
                client.close().await;
            }
            Failure::Stalled => self.stats.stall(),
            Failure::Gone | Failure::Refused(..) => client.close().await,
        }
    }

    /// Counts a client that is not let in, and says so: once for each, as it had to connect for it.
    fn refuse(&self, reason: Refusal, told: Option<&SqlError>, ends: Ends) {
        self.stats.refuse(reason);
        let (reason, code) = (reason.name(), told.map(|error| error.code));
        let peer = ends.peer.map(tracing::field::display);
        tracing::info!(event = "refused", reason, code, peer, "a client was not let in");
    }

    /// Talks with a client whose startup is done. Returns its connection, and why it ends.
    async fn talk<S>(
        &self,
        mut client: Client<S>,
        place: startup::Place<L>,
        opened: &startup::Opened,
    ) -> (Client<S>, Failure)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut drain = self.drain.clone();
        backend::ready_for_query(&mut client.output, Status::Idle);
        let mut session = Session::new(self, client, place, opened);
        let mut cancelled = pin!(opened.key.cancelled());
        cancelled.as_mut().enable();
        let drained = pin!(drained(&mut drain));
        let quiet = Quiet::new(self.drain.clone());
        let mut signals = Signals { cancelled, drained, deadline: None, quiet };
        let ended = opened.listed.entry.unless_killed(session.run(&mut signals)).await;
        let ended = ended.unwrap_or_else(|| Err(session.killed()));
        let is_within = session.is_within_a_frame() || session.client.is_within();
        let failure = match ended {
            Ok(never) => match never {},
            // Whatever is said now would be the rest of the frame that has begun.
            Err(Failure::Fatal(_)) if is_within => Failure::Gone,
            Err(failure) => failure,
        };
        session.meter.traffic(session.client.traffic());
        session.follow();
        session.release();
        session.held = None;
        (session.client, failure)
    }
}

/// Says who is ended, and why: the client itself would not read it.
fn tell_stalled<S>(person: &Person, client: &Client<S>) {
    let (user, database, peer) = (&*person.user, &*person.database, person.ends.peer);
    let (waiting, stall_max) = (client.output.len(), client.stall_max);
    tracing::warn!(
        user,
        database,
        ?peer,
        waiting,
        ?stall_max,
        "a client takes nothing: it is ended"
    );
}
