//! A session goes over to what the configuration says now.
//!
//! It does so between two batches, with no transaction open and no connection held. A session that
//! keeps its connection, because something of its own is on it, goes on as it began until it
//! gives it back. A session whose cluster, role or shard is not there any more ends where a drain
//! would end it: when its transaction is done.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::cluster::Cluster;
use super::failure::shutting_down;
use super::session::{Account, Session};
use super::shared::Shared;
use super::switches::{Shards, Switches};
use super::world::World;
use crate::config::UserConfig;
use crate::session::failure::Failure;
use crate::sql::SqlError;

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Whether what the session goes by is not in force any more, and it could go over.
    pub(super) fn is_behind(&self) -> bool {
        self.world.number() != self.inner.worlds.number() && self.lazy.is_none()
    }

    /// Goes over to what is in force, if nothing is under way.
    ///
    /// # Errors
    ///
    /// The session may not go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the session where it was.
    pub(super) async fn keep_up(&mut self) -> Result<(), Failure> {
        self.release();
        if self.held.is_some() {
            return Ok(());
        }
        let world = self.inner.worlds.now();
        let (cluster, account) = self.placed(&world).map_err(Failure::Fatal)?;
        if self.cluster.config.shards != cluster.config.shards {
            // By other servers it must not be shown less than it has seen by these.
            let (before, target) = (Arc::clone(&self.cluster), self.account.target);
            before.carry(&mut self.seen, target).await;
        }
        self.depart();
        (self.world, self.cluster, self.account) = (world, cluster, account);
        // Both are told by places and numbers of what was in force before.
        (self.who, self.last, self.lately.likeness, self.lone) = (None, None, None, None);
        Ok(())
    }

    /// Whether a session that keeps its connection may go on, when it has no transaction.
    ///
    /// # Errors
    ///
    /// It may not.
    pub(super) fn keep_place(&mut self) -> Result<(), Failure> {
        let number = self.inner.worlds.number();
        if self.looked_at != number {
            self.placed(&self.inner.worlds.now()).map_err(Failure::Fatal)?;
            self.looked_at = number;
        }
        Ok(())
    }

    /// The session's cluster and account in another world.
    fn placed(&self, world: &World<L>) -> Result<(Arc<Cluster>, Account), SqlError> {
        let (name, role) = (&self.cluster.config.name, &self.account.login.user);
        let cluster = world.named(name);
        let cluster = cluster.ok_or_else(|| gone(&format!("cluster \"{name}\"")))?;
        let switched = self.switches.shard.map(Shards::one);
        for shard in switched.into_iter().chain([self.account.shard]).flatten() {
            if shard >= cluster.shards() {
                return Err(gone(&format!("shard {shard} of cluster \"{name}\"")));
            }
        }
        let proof = self.account.proof;
        let goes_on = world.gate.goes_on(proof, role, cluster.directory.is_some());
        let user = match cluster.config.user(role) {
            Some(user) if goes_on => user.clone(),
            None if goes_on && world.gate.demands() => UserConfig::of(&cluster.config, role),
            _ => return Err(gone(&format!("role \"{role}\""))),
        };
        let keys = proof.keys().filter(|_| role != cluster.config.role());
        let mut login = (*self.account.login).clone();
        login.database.clone_from(&cluster.database);
        login.credential = user.login(keys);
        let account = Account {
            login: Arc::new(login),
            mode: user.mode,
            defaults: Switches::of(&user),
            target: user.pipe_target,
            ..self.account.clone()
        };
        Ok((Arc::clone(cluster), account))
    }
}

/// What a session was about is not in the configuration any more.
fn gone(what: &str) -> SqlError {
    shutting_down()
        .detail(format!("{what} may not be had any more: the configuration has changed."))
}
