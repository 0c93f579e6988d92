//! What a configuration file, or the flags `-d`, say: clusters, shards, servers, users, limits.
//!
//! These are every key and its default; `docs/sortie.toml` shows them in place. `CLUSTER` is the
//! database name that clients ask for, and `CLUSTER.SHARD` (`bank.0`) binds a session to one
//! shard. Durations and sizes are strings with their unit: `"70ms"`, `"1MiB"`.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `listen` | `"127.0.0.1:6440"` | where Postgres clients connect; with `trust` loopback only |
//! | `tls` | `"off"` | encryption of clients: `off`, `allow` or `require` |
//! | `admin` | `"127.0.0.1:6441"` | where `/metrics`, `/healthz`, `/readyz` are; loopback only |
//! | `admin_database` | `"sortie"` | the database that clients ask for to see or steer sortie |
//! | `connections_max` | `900` | clients served at a time |
//! | `login_max` | `"10s"` | how long a client's startup may take |
//! | `stall_max` | `"30s"` | how long a client may take nothing of its answer |
//! | `log_format` | `"text"` | log lines on standard error: `text`, or `json`, an object on each |
//! | `buffered_max` | `"256MiB"` | what may wait in memory for slow clients, of all together |
//! | `mode` | `"share"` | `share`, `observe` (relay all, report what could be shared) or `pipe` |
//! | `pipe_target` | `"replica"` | where the pipe lane goes: `replica` or `primary` |
//! | `join` | `"fresh"` | which loads a read shares: `fresh` or `running` (docs/freshness.md) |
//! | `max_join_age` | `"off"` | with `running`: how old such a load may be, or `"off"` |
//! | `hedge` | `"70ms"` | silence of a replica after which another is asked, or `"off"` |
//! | `soft_age` | `"5s"` | age at which a flight takes no more company |
//! | `share_max` | `"1MiB"` | the largest answer that is shared |
//! | `user_connections_max` | `100000` | sessions that one role may have |
//! | `pool.connections_max` | `20` | connections to one server, for all roles together |
//! | `pool.warm_min` | `1` | connections to each server that are kept open, for shared reads |
//! | `pool.waiters_max` | `1000` | statements that may wait for a connection to one server |
//! | `pool.idle` | `"10m"` | how long an idle connection above `warm_min` is kept |
//! | `pool.lifetime` | `"1h"` | age at which a connection is replaced |
//! | `timeouts.wait` | `"5s"` | for a free connection |
//! | `timeouts.flight` | `"60s"` | a shared read; past it each asks for himself |
//! | `timeouts.silence` | `"10s"` | for a server that answers nothing at all, or `"off"` |
//!
//! What has no default:
//!
//! | key | meaning |
//! |---|---|
//! | `auth` | how clients prove who they are: `scram` (see `users`), `cert` or `trust` (not) |
//! | `tls_client_ca` | who vouches for clients' certificates, a file in PEM: all have to show one |
//! | `clientcert` | what it must say: `verify-full` (who the client is) or `verify-ca` (nothing) |
//! | `certificates.NAME` | the roles that a certificate of this common name is good for |
//! | `users` | the users file; only with `auth = "scram"` |
//! | `admin_users`, `stats_users` | lists of who may use it: for everything, or to look |
//! | `tls_certificate`, `tls_key` | files in PEM, unless `tls` is `off` |
//! | `clusters.CLUSTER` | everything about one cluster is in this table |
//! | `password_file` | a file with the password that URLs lack; else `PGPASSWORD` is taken |
//! | `auth_query` | with `auth = "scram"`: what finds users that are not in the file |
//! | `shards` | a list of tables, in the order of the hash's remainders |
//! | `shards.primary` | the URL of the server that takes writes |
//! | `shards.replicas` | the URLs of servers with the same rows; reads go to these |
//! | `tables.TABLE.key` | the column whose hash says on which shard a row is |
//! | `tables.TABLE.reference` | if set to `true`, every shard has all rows |
//! | `users.ROLE.mode`, `.pipe_target` | another role that clients may come as, and what differs |
//! | `users.ROLE.join`, `.max_join_age` | the same |
//! | `max_lag` | known, and refused: it does not work yet |
//! | `users.ROLE.connections_max` | sessions that it may have, if not `user_connections_max` |
//! | `users.ROLE.password_file` | a file with its password, if it has another one |
//! | `users.ROLE.sslcert`, `.sslkey` | a certificate of its own for the servers, and its key |
//!
//! # Invariants
//!
//! 1. What could be read is right in itself: names are unique, URLs can be parsed, every shard has
//!    a server, all servers of a cluster are logged in to as one role in one database.
//! 2. A password is neither shown nor part of a message.

mod certified;
mod cluster;
mod console;
mod difference;
mod file;
mod front;
mod nearest;
mod problem;
mod section;
mod server;
mod tls;
mod user;
mod users;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sortie_postgres::ConnInfo;

pub(crate) use self::certified::{CertCheck, Certified};
pub(crate) use self::cluster::NAME_BYTES_MAX;
pub(crate) use self::console::ConsoleConfig;
pub(crate) use self::difference::Difference;
pub(crate) use self::file::{Loaded, load, log_format};
pub(crate) use self::nearest::nearest;
pub(crate) use self::problem::ConfigError;
pub(crate) use self::server::from_urls;
pub(crate) use self::tls::{Identity, PROTOCOL, Tls};
pub(crate) use self::user::UserConfig;
pub(crate) use self::users::{Users, written as written_user};
use crate::budget::BUFFERED_MAX;
use crate::logs::LogFormat;
use crate::said::Loopback;

/// All that is said about one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Where Postgres clients connect.
    pub(crate) listen: SocketAddr,
    /// How they prove who they are.
    pub(crate) auth: Auth,
    /// Whether their connections are encrypted.
    pub(crate) tls: Tls,
    /// What their certificates must say, if they have to show any.
    pub(crate) certified: Option<Certified>,
    /// Where metrics and health are.
    pub(crate) admin: Loopback,
    /// The admin database.
    pub(crate) console: ConsoleConfig,
    /// Clients served at a time.
    pub(crate) connections_max: u32,
    /// How long a client's startup may take.
    pub(crate) login_max: Duration,
    /// How long a client may take nothing of its answer.
    pub(crate) stall_max: Duration,
    /// How log lines are written.
    pub(crate) log_format: LogFormat,
    /// Bytes that may wait in memory for slow clients, of all together.
    pub(crate) buffered_max: NonZeroUsize,
    /// At least one; names differ.
    pub(crate) clusters: Vec<ClusterConfig>,
}

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Auth {
    /// Not at all: whoever connects is who they say.
    #[default]
    Trust,
    /// By a password that these users' secrets were made of.
    Scram(Arc<Users>),
    /// By a certificate that says who they are.
    Certificate,
}

impl Auth {
    /// What it is called in a configuration.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Scram(_) => "scram",
            Self::Certificate => "cert",
        }
    }
}

/// One cluster: shards that together hold all rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterConfig {
    /// The database name that clients ask for; `NAME.SHARD` binds a session to one shard.
    pub(crate) name: String,
    /// What is done with statements that could be shared; users may differ.
    pub(crate) mode: Mode,
    /// Where the pipe lane goes; users may differ.
    pub(crate) pipe_target: PipeTarget,
    /// Which loads a read shares; users may differ.
    pub(crate) join: Joining,
    /// How long ago such a load may have begun; users may differ. `None` is at any time.
    pub(crate) max_join_age: Option<Duration>,
    /// Silence of a replica after which another is asked; `None` is never.
    pub(crate) hedge: Option<Duration>,
    /// Age at which a flight takes no more company.
    pub(crate) soft_age: Duration,
    /// The largest answer that is shared, in bytes.
    pub(crate) share_max: usize,
    /// Looks up what is kept of a user's password whom the users file does not have.
    pub(crate) auth_query: Option<String>,
    /// Sessions that one role may have; users may differ.
    pub(crate) user_connections_max: u32,
    pub(crate) pool: PoolSettings,
    pub(crate) timeouts: Timeouts,
    /// At least one, in the order of the hash's remainders.
    pub(crate) shards: Vec<ShardConfig>,
    /// The tables that statements may name when there is more than one shard.
    pub(crate) tables: Vec<TableConfig>,
    /// The roles that clients may start a session as. The first is the one that the servers' URLs
    /// name.
    pub(crate) users: Vec<UserConfig>,
}

/// One shard: servers that hold the same rows. At least one of them is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardConfig {
    pub(crate) primary: Option<ServerConfig>,
    pub(crate) replicas: Vec<ServerConfig>,
}

/// One PostgreSQL server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerConfig {
    /// How people call it, unique in its cluster: `host:port`.
    pub(crate) name: String,
    /// Where it is and how to log in, the password included.
    pub(crate) info: ConnInfo,
}

/// One table of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableConfig {
    /// Its schema, `public` unless the name says otherwise.
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) spread: Spread,
}

/// Where a table's rows are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Spread {
    /// Each row on the shard that PostgreSQL's hash of this column says.
    Hash {
        /// The key column.
        key: String,
    },
    /// All rows on every shard.
    Reference,
}

/// Which loads a read shares.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Joining {
    /// Those that begin after it was asked for.
    #[default]
    Fresh,
    /// Those that run, too.
    Running,
}

/// What is done with statements that could be shared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Share them.
    #[default]
    Share,
    /// Relay everything, and report what would have been shared.
    Observe,
    /// Relay everything.
    Pipe,
}

/// Where the pipe lane goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum PipeTarget {
    /// To a replica: writes are refused by the server, with 25006.
    #[default]
    Replica,
    /// To the primary.
    Primary,
}

/// Section `pool`: connections to one server, of all roles together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PoolSettings {
    pub(crate) connections_max: u32,
    /// Connections that are kept open.
    pub(crate) warm_min: u32,
    /// Statements that may wait for a connection.
    pub(crate) waiters_max: u32,
    /// How long an idle connection above `warm_min` is kept.
    pub(crate) idle: Duration,
    /// Age at which a connection is replaced.
    pub(crate) lifetime: Duration,
}

/// Section `timeouts`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Timeouts {
    /// For a free connection of a pool.
    pub(crate) wait: Duration,
    /// For a shared read, however many wait for it.
    pub(crate) flight: Duration,
    /// For a server that answers nothing at all, however long statements take; `None` is for ever.
    pub(crate) silence: Option<Duration>,
}

impl Config {
    /// What nobody has said otherwise, without a cluster.
    pub(crate) fn empty() -> Self {
        let port = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            listen: port(6440),
            auth: Auth::Trust,
            tls: Tls::Off,
            certified: None,
            admin: Loopback(port(6441)),
            console: ConsoleConfig::default(),
            connections_max: 900,
            login_max: Duration::from_secs(10),
            stall_max: Duration::from_secs(30),
            log_format: LogFormat::Text,
            buffered_max: BUFFERED_MAX,
            clusters: Vec::new(),
        }
    }

    /// With what another one says where only a restart changes it.
    #[must_use]
    pub(crate) fn until_restart(self, running: &Self) -> Self {
        let Self { listen, admin, log_format, .. } = *running;
        Self { listen, admin, log_format, ..self }
    }

    /// Why nobody may listen there, if that is so.
    pub(crate) fn too_open(&self) -> Option<String> {
        let is_open = !self.listen.ip().is_loopback() && self.auth == Auth::Trust;
        is_open.then(|| {
            format!(
                "{} can be reached from other machines, and without authentication whoever \
                 connects may read everything: write `auth = \"scram\"` and `users = \"FILE\"` \
                 in a configuration file, or use a loopback address (127.0.0.1, [::1])",
                self.listen.ip(),
            )
        })
    }
}

impl ClusterConfig {
    /// What nobody has said otherwise, without a server.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode: Mode::default(),
            pipe_target: PipeTarget::default(),
            join: Joining::default(),
            max_join_age: None,
            hedge: Some(Duration::from_millis(70)),
            soft_age: Duration::from_secs(5),
            share_max: 1 << 20,
            auth_query: None,
            user_connections_max: 100_000,
            pool: PoolSettings::default(),
            timeouts: Timeouts::default(),
            shards: Vec::new(),
            tables: Vec::new(),
            users: Vec::new(),
        }
    }

    /// The role that the servers' URLs name.
    ///
    /// # Panics
    ///
    /// Panics on a cluster that was not read from a configuration.
    pub(crate) fn role(&self) -> &str {
        &self.users.first().expect("a cluster has a role").name
    }

    /// What holds for this role, when it may start a session.
    pub(crate) fn user(&self, name: &str) -> Option<&UserConfig> {
        self.users.iter().find(|user| user.name == name)
    }
}

impl ShardConfig {
    /// The primary, where it is known, and the replicas.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &ServerConfig> {
        self.primary.iter().chain(&self.replicas)
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            connections_max: 20,
            warm_min: 1,
            waiters_max: 1_000,
            idle: Duration::from_secs(600),
            lifetime: Duration::from_secs(3600),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(5),
            flight: Duration::from_secs(60),
            silence: Some(Duration::from_secs(10)),
        }
    }
}

#[cfg(test)]
mod tests;
