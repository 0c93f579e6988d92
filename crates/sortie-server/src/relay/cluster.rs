//! A cluster as sessions see it: which servers a shard has, and what they greet with.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use sortie_postgres::{
    ConnId, ExchangeError, Login, Parameters, PoolStats, Pooled, Request, Server,
};
use tokio::time::{Instant, timeout};

use super::directory::Directory;
use super::failure;
use super::frames;
use super::health::{self, LOOK_EVERY, Present, Pulse};
use super::hold::UNCLEAN_MAX;
use super::homes::is_apart;
use super::insight::Insight;
use super::lasting::Lasting;
use super::leased::{Leased, Place};
use super::roster::Entry;
use super::seen::bit;
use super::valve::Valve;
use crate::config::{ClusterConfig, Mode, PipeTarget};
use crate::sql::SqlError;

/// Logins of which the servers' greeting is remembered.
const GREETINGS_MAX: usize = 1_000;

type Greetings = HashMap<(bool, Login), (u64, Arc<Parameters>)>;

/// The servers of one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardServers {
    pub(crate) primary: Option<Server>,
    pub(crate) replicas: Vec<Server>,
}

impl ShardServers {
    /// All of them, those first that reads go to.
    fn readers_first(&self) -> Vec<Server> {
        self.replicas.iter().chain(&self.primary).cloned().collect()
    }
}

/// A cluster that clients can ask for.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Its place in the configuration.
    pub(crate) index: usize,
    pub(crate) config: ClusterConfig,
    /// The database on its servers.
    pub(crate) database: String,
    pub(super) shards: Vec<ShardServers>,
    /// Whether they answer, in the same order; of a primary only where the pipe goes there.
    pub(super) pulses: Vec<(Option<Pulse>, Vec<Pulse>)>,
    pub(super) lasting: Arc<Lasting>,
    turn: AtomicUsize,
    /// Where names are looked up that the users file does not have.
    pub(super) directory: Option<Directory>,
    /// Why statements are not shared.
    pub(crate) insight: Arc<Insight>,
    /// Closed while it is paused.
    pub(crate) valve: Arc<Valve>,
    /// What servers report at a session's start; by whether they are primaries, and the login.
    /// Each with the change that what is known of the databases was at.
    greetings: Mutex<Greetings>,
}

/// One server's health, as the last look found it.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaHealth {
    /// Cluster, shard and server.
    pub(crate) labels: [(&'static str, String); 3],
    pub(crate) up: bool,
    /// How far it has replayed the log, if it is a standby that has said so.
    pub(crate) position: Option<u64>,
    /// How many bytes of the log it is behind the furthest replica of its shard.
    pub(crate) behind: Option<u64>,
}

impl Cluster {
    /// Creates a cluster; `before` is what it was until now, if it is configured anew.
    pub(crate) fn new(
        index: usize,
        (config, database): (ClusterConfig, String),
        shards: Vec<ShardServers>,
        before: Option<&Self>,
    ) -> Self {
        let pulse = |server: &Server| {
            let known = before.and_then(|before| before.known_pulse(server));
            known.unwrap_or_else(|| Pulse::new(server))
        };
        let to_primary = config.users.iter().any(|user| user.pipe_target == PipeTarget::Primary);
        let pulses = shards.iter().map(|ShardServers { primary, replicas }| {
            let primary = primary.as_ref().filter(|_| to_primary || replicas.is_empty());
            (primary.map(pulse), replicas.iter().map(pulse).collect())
        });
        let directory = config.auth_query.as_ref().map(|query| {
            let servers = shards.first().map_or_else(Vec::new, ShardServers::readers_first);
            Directory::new(servers, config.role(), &database, query)
        });
        Self {
            index,
            config,
            database,
            pulses: pulses.collect(),
            shards,
            lasting: before.map_or_else(Arc::default, |before| Arc::clone(&before.lasting)),
            turn: AtomicUsize::new(0),
            directory,
            insight: before.map_or_else(Arc::default, |before| Arc::clone(&before.insight)),
            valve: before.map_or_else(Arc::default, |before| Arc::clone(&before.valve)),
            greetings: Mutex::default(),
        }
    }

    /// The servers of each shard.
    pub(crate) fn servers(&self) -> &[ShardServers] {
        &self.shards
    }

    /// The connections to each server.
    pub(crate) fn pools(&self) -> Vec<(String, PoolStats)> {
        let servers = self.shards.iter().flat_map(|it| it.primary.iter().chain(&it.replicas));
        let label = |server: &Server| format!("{}/{}", self.config.name, server.info().address);
        servers.map(|server| (label(server), server.stats())).collect()
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What holds for a user: what was said while running, or else what the configuration says.
    pub(crate) fn mode(&self, configured: Mode) -> Mode {
        self.lasting.mode().unwrap_or(configured)
    }

    /// Sets the mode of all users while running; `None` is what the configuration says.
    pub(crate) fn set_mode(&self, mode: Option<Mode>) {
        self.lasting.set_mode(mode);
    }

    /// Watches whether the servers answer, while there are sessions.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops watching.
    pub(crate) async fn keep_watched(&self) -> Infallible {
        let all = self.pulses.iter().flat_map(|(primary, replicas)| primary.iter().chain(replicas));
        let pulses: Vec<_> = all.cloned().collect();
        health::keep_watched(&pulses, &self.lasting.attendance, self.config.timeouts.silence).await
    }

    /// Keeps connections open, as many as are configured, to every server that statements go to:
    /// those of the cluster's own role without parameters, which shared reads use. Not while it is
    /// paused.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub(crate) fn keep_warm(&self) {
        if self.valve.is_closed() {
            return;
        }
        let login = Login::new(self.config.role(), self.database.as_str());
        for (servers, (primary, _)) in self.shards.iter().zip(&self.pulses) {
            let primary = servers.primary.iter().filter(|_| primary.is_some());
            primary.chain(&servers.replicas).for_each(|server| server.keep_warm(&login));
        }
    }

    /// A session begins: it is told when a server is given up. Ready when it is known which servers
    /// answer, or soon after.
    pub(super) async fn attend(&self) -> Present {
        let present = self.lasting.attendance.enter();
        self.lasting.attendance.known().await;
        present
    }

    /// What is known of the servers that are watched.
    pub(crate) fn health(&self) -> Vec<ReplicaHealth> {
        let shards = self.config.shards.iter().zip(&self.pulses).enumerate();
        let shards = shards.map(|(shard, (servers, (primary, replicas)))| {
            let furthest = replicas.iter().filter_map(Pulse::position).max();
            let primary = servers.primary.iter().zip(primary);
            let servers = primary.chain(servers.replicas.iter().zip(replicas));
            let servers = servers.map(move |(server, pulse)| {
                let name = self.config.name.clone();
                let shard = ("shard", shard.to_string());
                let labels = [("cluster", name), shard, ("replica", server.name.clone())];
                let position = pulse.position();
                let behind = position.zip(furthest).map(|(at, end)| end.saturating_sub(at));
                ReplicaHealth { labels, up: !pulse.is_silent(), position, behind }
            });
            servers.collect::<Vec<_>>()
        });
        shards.flatten().collect()
    }

    /// The servers that the pipe may take, in the order of their places, and whether they answer.
    pub(super) fn targets(&self, shard: usize, target: PipeTarget) -> (&[Server], &[Pulse]) {
        let (servers, (primary, replicas)) = (&self.shards[shard], &self.pulses[shard]);
        let to_primary = match target {
            PipeTarget::Primary => servers.primary.is_some(),
            PipeTarget::Replica => servers.replicas.is_empty(),
        };
        if to_primary {
            (servers.primary.as_slice(), primary.as_slice())
        } else {
            (&servers.replicas, replicas)
        }
    }

    /// What is known of the server at a place.
    pub(super) fn pulse(&self, place: Place, target: PipeTarget) -> &Pulse {
        &self.targets(place.shard, target).1[place.server]
    }

    /// Takes a connection to a shard, if possible of the server that was had last, and the one that
    /// was had there, if it is named; of a server that is silent, or to be avoided ([`bit`]), only
    /// where there is no other.
    ///
    /// # Errors
    ///
    /// What the client is told when no server has one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue.
    pub(crate) async fn lease(
        &self,
        (shard, target): (usize, PipeTarget),
        login: &Login,
        prefer: Option<(Place, Option<ConnId>)>,
        avoid: u64,
    ) -> Result<Leased, SqlError> {
        let (servers, pulses) = self.targets(shard, target);
        let prefer = prefer.filter(|(place, _)| place.shard == shard);
        let first = match prefer {
            Some((place, _)) if place.server < servers.len() => place.server,
            _ => self.turn.fetch_add(1, Ordering::Relaxed) % servers.len().max(1),
        };
        let first = health::least_crowded(servers, pulses, first, avoid);
        let known = |server| prefer.filter(|(place, _)| place.server == server)?.1;
        let leased = |server: usize, pooled| Leased {
            server: pooled,
            place: Place { shard, server },
            pulse: pulses[server].clone(),
        };
        if let Some(server) = servers.get(first)
            && let Some(pooled) = server.try_checkout(login, known(first))
        {
            return Ok(leased(first, pooled));
        }
        let waited = self.wait((servers, pulses), (first, avoid), login, known);
        Box::pin(waited).await.map(|(server, pooled)| leased(server, pooled))
    }

    /// Waits for a connection to the first of these servers that has one, the silent ones last.
    async fn wait(
        &self,
        (servers, pulses): (&[Server], &[Pulse]),
        (first, avoid): (usize, u64),
        login: &Login,
        known: impl Fn(usize) -> Option<ConnId>,
    ) -> Result<(usize, Pooled), SqlError> {
        let mut order: Vec<usize> =
            (0..servers.len()).map(|step| (first + step) % servers.len()).collect();
        order.sort_by_key(|server| (avoid & bit(*server) > 0, pulses[*server].is_silent()));
        let deadline = Instant::now() + self.config.timeouts.wait;
        let mut failed = None;
        for (nth, server) in order.iter().copied().enumerate() {
            let pulse = &pulses[server];
            let is_last = nth + 1 == order.len();
            let mut checkout = pin!(servers[server].checkout(login, known(server), deadline));
            // Ends: the checkout has a deadline.
            let outcome = loop {
                match timeout(LOOK_EVERY, &mut checkout).await {
                    Ok(outcome) => break Some(outcome),
                    Err(_) if pulse.is_given_up() || (pulse.is_silent() && !is_last) => break None,
                    Err(_elapsed) => {}
                }
            };
            match outcome {
                Some(Ok(pooled)) => return Ok((server, pooled)),
                Some(Err(error)) => {
                    tracing::debug!(server, %error, "no connection");
                    failed = Some(failure::of_pool(&error));
                    // An answer of the server about the login is the same everywhere.
                    if failure::is_about_login(&error) {
                        break;
                    }
                }
                None => failed = Some(failure::silent(self.config.timeouts.silence)),
            }
        }
        Err(failed.unwrap_or_else(failure::no_server))
    }

    /// What a server reports at the start of such a session, which waits for that while the
    /// cluster is paused; what was said before the last change of what is known of the databases is
    /// asked for again.
    ///
    /// # Errors
    ///
    /// As [`Cluster::lease`].
    pub(crate) async fn greeting(
        &self,
        (shard, target, known_at): (usize, PipeTarget, u64),
        login: &Login,
        entry: &Arc<Entry>,
    ) -> Result<Arc<Parameters>, SqlError> {
        let key = (target == PipeTarget::Primary, login.clone());
        if let Some((at, known)) = self.greetings().get(&key)
            && *at == known_at
        {
            return Ok(Arc::clone(known));
        }
        let _work = self.admits(entry).await?;
        let mut unclean = 0;
        let leased = loop {
            let mut leased = self.lease((shard, target), login, None, 0).await?;
            if is_apart(leased.server.residue()) {
                leased.server.doom();
                continue;
            }
            // Somebody may have set what is reported.
            let wiped = timeout(self.config.timeouts.wait, wipe(&mut leased.server)).await;
            let late = |_elapsed| ExchangeError::Closed(io::ErrorKind::TimedOut.into());
            match wiped.unwrap_or_else(|elapsed| Err(late(elapsed))) {
                Err(ExchangeError::Server(_)) if unclean < UNCLEAN_MAX => {
                    unclean += 1;
                    leased.server.doom();
                }
                wiped => {
                    wiped.map_err(|error| failure::lost(&io::Error::other(error)))?;
                    break leased;
                }
            }
        };
        let greeting = Arc::new(leased.server.parameters().clone());
        let mut greetings = self.greetings();
        if greetings.len() >= GREETINGS_MAX {
            greetings.clear();
        }
        greetings.insert(key, (known_at, Arc::clone(&greeting)));
        Ok(greeting)
    }

    fn greetings(&self) -> std::sync::MutexGuard<'_, Greetings> {
        // Nothing in here panics between two changes that belong together.
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes away what a session has left on a connection.
async fn wipe(server: &mut Pooled) -> Result<(), ExchangeError> {
    if server.residue().is_some() {
        let mut frames = BytesMut::new();
        frames::query(&mut frames, b"DISCARD ALL");
        server.exchange(Request::new(frames.freeze())).await?;
        server.set_residue(None);
    }
    Ok(())
}
