//! What differs from role to role.

use std::time::Duration;

use sortie_postgres::{Credential, ScramKeys};

use super::{ClusterConfig, Joining, Mode, PipeTarget};

/// A role that clients may start a session as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UserConfig {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) pipe_target: PipeTarget,
    pub(crate) join: Joining,
    pub(crate) max_join_age: Option<Duration>,
    /// Sessions that it may have.
    pub(crate) connections_max: u32,
    /// What it logs in to the servers with, if not with what their URLs have.
    pub(crate) credential: Option<Credential>,
}

impl UserConfig {
    /// A role of which nothing is said but its name.
    pub(crate) fn of(cluster: &ClusterConfig, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode: cluster.mode,
            pipe_target: cluster.pipe_target,
            join: cluster.join,
            max_join_age: cluster.max_join_age,
            connections_max: cluster.user_connections_max,
            credential: None,
        }
    }

    /// What it logs in to the servers with, if not with what their URLs have; `keys` are those that
    /// it has proved itself with.
    pub(crate) fn login(&self, keys: Option<ScramKeys>) -> Option<Credential> {
        let keys = keys.map(|keys| Credential::ScramKeys(Box::new(keys)));
        let mut credential = self.credential.clone();
        match (&mut credential, keys) {
            (Some(Credential::OwnCertificate(own)), Some(keys))
                if own.beside == Credential::Certificate =>
            {
                own.beside = keys;
            }
            (None, keys) => return keys,
            _ => {}
        }
        credential
    }
}
