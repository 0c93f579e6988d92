//! A cluster as sessions see it: which servers a shard has, and what they greet with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sortie_postgres::backend::Status;
use sortie_postgres::{ConnId, Login, Parameters, PoolStats, Pooled, Server};
use tokio::time::Instant;

use super::failure;
use super::frames;
use crate::config::{ClusterConfig, Mode, PipeTarget};
use crate::sql::SqlError;

/// Logins of which the servers' greeting is remembered.
const GREETINGS_MAX: usize = 1_000;

/// The servers of one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardServers {
    pub(crate) primary: Option<Server>,
    pub(crate) replicas: Vec<Server>,
}

/// A cluster that clients can ask for.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Its place in the configuration.
    pub(crate) index: usize,
    pub(crate) config: ClusterConfig,
    /// The database on its servers.
    pub(crate) database: String,
    shards: Vec<ShardServers>,
    /// What was said about the mode while running; 0 is nothing.
    mode: AtomicU8,
    turn: AtomicUsize,
    /// What servers report at a session's start; by whether they are primaries, and the login.
    greetings: Mutex<HashMap<(bool, Login), Arc<Parameters>>>,
}

/// Which server of a cluster: the shard, and the server's place in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    pub(crate) server: usize,
}

/// A connection, and where it leads.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) server: Pooled,
    pub(crate) place: Place,
}

impl Cluster {
    pub(crate) fn new(
        index: usize,
        config: ClusterConfig,
        database: String,
        shards: Vec<ShardServers>,
    ) -> Self {
        Self {
            index,
            config,
            database,
            shards,
            mode: AtomicU8::new(0),
            turn: AtomicUsize::new(0),
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
        match self.mode.load(Ordering::Relaxed) {
            1 => Mode::Share,
            2 => Mode::Observe,
            3 => Mode::Pipe,
            _ => configured,
        }
    }

    /// Sets the mode of all users while running; `None` is what the configuration says.
    pub(crate) fn set_mode(&self, mode: Option<Mode>) {
        let number = match mode {
            None => 0,
            Some(Mode::Share) => 1,
            Some(Mode::Observe) => 2,
            Some(Mode::Pipe) => 3,
        };
        self.mode.store(number, Ordering::Relaxed);
    }

    /// The servers that the pipe may take, in the order of their places.
    fn targets(&self, shard: usize, target: PipeTarget) -> &[Server] {
        let servers = &self.shards[shard];
        let primary = servers.primary.as_slice();
        match target {
            PipeTarget::Primary if !primary.is_empty() => primary,
            PipeTarget::Replica if servers.replicas.is_empty() => primary,
            _ => &servers.replicas,
        }
    }

    /// Takes a connection to a shard, if possible the one that was had last.
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
        prefer: Option<(Place, ConnId)>,
    ) -> Result<Leased, SqlError> {
        let servers = self.targets(shard, target);
        let prefer = prefer.filter(|(place, _)| place.shard == shard);
        let first = match prefer {
            Some((place, _)) if place.server < servers.len() => place.server,
            _ => self.turn.fetch_add(1, Ordering::Relaxed) % servers.len().max(1),
        };
        let first = least_crowded(servers, first);
        let deadline = Instant::now() + self.config.timeouts.wait;
        let mut failed = None;
        for step in 0..servers.len() {
            let server = (first + step) % servers.len();
            let known = prefer.filter(|(place, _)| place.server == server).map(|(_, id)| id);
            match servers[server].checkout(login, known, deadline).await {
                Ok(leased) => {
                    return Ok(Leased { server: leased, place: Place { shard, server } });
                }
                Err(error) => {
                    tracing::debug!(shard, server, %error, "no connection");
                    // An answer of the server about the login is the same everywhere.
                    let answered = failure::is_about_login(&error);
                    failed = Some(error);
                    if answered {
                        break;
                    }
                }
            }
        }
        Err(failed.map_or_else(failure::no_server, |error| failure::of_pool(&error)))
    }

    /// What a server reports at the start of such a session.
    ///
    /// # Errors
    ///
    /// As [`Cluster::lease`].
    pub(crate) async fn greeting(
        &self,
        (shard, target): (usize, PipeTarget),
        login: &Login,
    ) -> Result<Arc<Parameters>, SqlError> {
        let key = (target == PipeTarget::Primary, login.clone());
        if let Some(known) = self.greetings().get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut leased = self.lease((shard, target), login, None).await?;
        if leased.server.residue().is_some() {
            // Somebody may have set what is reported.
            let mut frames = bytes::BytesMut::new();
            frames::query(&mut frames, b"DISCARD ALL");
            leased.server.send(&mut frames).await.map_err(|error| failure::lost(&error))?;
            leased.server.drain().await.map_err(|error| failure::lost(&error))?;
            if leased.server.status() == Status::Idle {
                leased.server.set_residue(None);
            }
        }
        let greeting = Arc::new(leased.server.parameters().clone());
        let mut greetings = self.greetings();
        if greetings.len() >= GREETINGS_MAX {
            greetings.clear();
        }
        greetings.insert(key, Arc::clone(&greeting));
        Ok(greeting)
    }

    fn greetings(&self) -> std::sync::MutexGuard<'_, HashMap<(bool, Login), Arc<Parameters>>> {
        // Nothing in here panics between two changes that belong together.
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server to ask first: this one, unless others queue for it already.
fn least_crowded(servers: &[Server], first: usize) -> usize {
    if servers.len() < 2 || servers[first].stats().waiting == 0 {
        return first;
    }
    let crowd = |at: &usize| {
        let stats = servers[*at].stats();
        (stats.waiting, stats.in_use)
    };
    (0..servers.len()).min_by_key(crowd).unwrap_or(first)
}
