//! Server connections, and the servers and clients that they are between.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_postgres::{Address, PoolConnection, PoolUse, Server, TlsMode};

use super::super::Console;
use super::super::table::{Column, Kind, Table};
use super::clients::{CLIENTS, Crowd, NONE, ptr};
use super::when::{ago, parts};
use crate::config::ServerConfig;
use crate::relay::Cluster;

/// As those of clients, without a client's number.
pub(super) const SERVERS: &[Column] = CLIENTS.split_at(CLIENTS.len() - 1).0;

pub(super) const POOLS: &[Column] = &[
    ("database", Kind::Text),
    ("user", Kind::Text),
    ("cl_active", Kind::Int4),
    ("cl_waiting", Kind::Int4),
    ("cl_active_cancel_req", Kind::Int4),
    ("cl_waiting_cancel_req", Kind::Int4),
    ("sv_active", Kind::Int4),
    ("sv_active_cancel", Kind::Int4),
    ("sv_being_canceled", Kind::Int4),
    ("sv_idle", Kind::Int4),
    ("sv_used", Kind::Int4),
    ("sv_tested", Kind::Int4),
    ("sv_login", Kind::Int4),
    ("maxwait", Kind::Int4),
    ("maxwait_us", Kind::Int4),
    ("pool_mode", Kind::Text),
];

pub(super) const DATABASES: &[Column] = &[
    ("name", Kind::Text),
    ("host", Kind::Text),
    ("port", Kind::Int4),
    ("database", Kind::Text),
    ("force_user", Kind::Text),
    ("pool_size", Kind::Int4),
    ("min_pool_size", Kind::Int4),
    ("reserve_pool", Kind::Int4),
    ("pool_mode", Kind::Text),
    ("max_connections", Kind::Int4),
    ("current_connections", Kind::Int4),
    ("paused", Kind::Int4),
    ("disabled", Kind::Int4),
];

/// How connections are dealt out: as `PgBouncer` calls it.
const MODE: &str = "transaction";

/// A connection, and whose it is.
pub(super) struct Connection {
    cluster: Arc<Cluster>,
    host: String,
    port: u16,
    /// Whether it is encrypted, as far as its URL decides that.
    is_encrypted: Option<bool>,
    it: PoolConnection,
}

impl Connection {
    pub(super) fn is_idle(&self) -> bool {
        self.it.doing == PoolUse::Idle
    }
}

/// The server connections, and the clients, of one user in one database.
#[derive(Default)]
struct Pool {
    clients: Crowd,
    active: u32,
    idle: u32,
    stopping: u32,
    connecting: u32,
}

impl Console {
    /// Every connection to every server.
    pub(super) fn connections(&self) -> impl Iterator<Item = Connection> + use<> {
        let each = self.subject.clusters().into_iter().flat_map(|cluster| {
            let each = each_server(&cluster);
            let each = each.into_iter().flat_map(move |(config, server)| {
                let (host, port) = place(&config);
                let is_encrypted = match config.info.tls.mode {
                    TlsMode::Disable => Some(false),
                    TlsMode::Prefer => None,
                    _ => Some(true),
                };
                let cluster = Arc::clone(&cluster);
                server.connections().into_iter().map(move |it| {
                    let (host, cluster) = (host.clone(), Arc::clone(&cluster));
                    Connection { cluster, host, port, is_encrypted, it }
                })
            });
            each.collect::<Vec<_>>()
        });
        each.collect::<Vec<_>>().into_iter()
    }

    pub(super) fn servers(&self, table: &mut Table) {
        let entries = self.roster.entries();
        for Connection { cluster, host, port, is_encrypted, it } in self.connections() {
            let name = cluster.config.name.as_str();
            let user = entries.iter().find(|entry| {
                *entry.person.database == *name
                    && it.process.is_some()
                    && entry.server() == it.process
            });
            let state = match it.doing {
                PoolUse::Connecting => "login",
                PoolUse::Idle => "idle",
                PoolUse::Quarantined => "being_canceled",
                _ => "active",
            };
            let since = it.age.map(ago);
            let (wait, wait_us) = parts(std::time::Duration::ZERO);
            table.row([
                "S".into(),
                (*it.user).into(),
                name.into(),
                state.into(),
                host.into(),
                port.into(),
                // The pool does not keep which port of this machine it has.
                None::<&str>.into(),
                None::<u16>.into(),
                since.clone().into(),
                user.map(|entry| ago(entry.asked())).or(since).into(),
                wait.into(),
                wait_us.into(),
                NONE,
                it.process.map(|process| format!("s{process}")).into(),
                user.map(|entry| ptr(entry.person.id)).unwrap_or_default().into(),
                it.process.and_then(|process| u32::try_from(process).ok()).into(),
                is_encrypted.map(|is| if is { "TLS" } else { "" }).into(),
                it.application.as_deref().unwrap_or_default().into(),
            ]);
        }
    }

    pub(super) fn pools(&self, table: &mut Table) {
        let mut pools: BTreeMap<(String, String), Pool> = BTreeMap::new();
        for entry in self.roster.entries() {
            let person = &entry.person;
            let key = (person.database.to_string(), person.user.to_string());
            pools.entry(key).or_default().clients.add(&entry);
        }
        for Connection { cluster, it, .. } in self.connections() {
            let key = (cluster.config.name.clone(), it.user.to_string());
            let pool = pools.entry(key).or_default();
            match it.doing {
                PoolUse::Connecting => pool.connecting += 1,
                PoolUse::Idle => pool.idle += 1,
                PoolUse::Quarantined => pool.stopping += 1,
                _ => pool.active += 1,
            }
        }
        let admin = self.subject.config().console.database.clone();
        for ((database, user), pool) in pools {
            let (wait, wait_us) = parts(pool.clients.longest);
            let mode = if database == admin { "statement" } else { MODE };
            table.row([
                database.into(),
                user.into(),
                pool.clients.active.into(),
                pool.clients.waiting.into(),
                pool.clients.active_cancels.into(),
                pool.clients.waiting_cancels.into(),
                pool.active.into(),
                pool.clients.active_cancels.into(),
                pool.stopping.into(),
                pool.idle.into(),
                // Neither is a state of connections here: they are looked at when they are taken.
                NONE,
                NONE,
                pool.connecting.into(),
                wait.into(),
                wait_us.into(),
                mode.into(),
            ]);
        }
    }

    pub(super) fn databases(&self, table: &mut Table) {
        let config = self.subject.config();
        for cluster in self.subject.clusters() {
            let pool = &cluster.config.pool;
            for (config, server) in each_server(&cluster) {
                let (host, port) = place(&config);
                let stats = server.stats();
                let open = stats.idle + stats.in_use + stats.connecting + stats.quarantined;
                table.row([
                    cluster.config.name.as_str().into(),
                    host.into(),
                    port.into(),
                    cluster.database.as_str().into(),
                    None::<&str>.into(),
                    pool.connections_max.into(),
                    pool.warm_min.into(),
                    // There is none: a pool has one limit.
                    NONE,
                    MODE.into(),
                    pool.connections_max.into(),
                    open.into(),
                    cluster.valve.is_closed().into(),
                    NONE,
                ]);
            }
        }
        let database = config.console.database.as_str();
        table.row([
            database.into(),
            None::<&str>.into(),
            config.listen.port().into(),
            database.into(),
            None::<&str>.into(),
            NONE,
            NONE,
            NONE,
            "statement".into(),
            NONE,
            NONE,
            NONE,
            NONE,
        ]);
    }
}

/// Each server of a cluster, and what is said of it.
pub(super) fn each_server(cluster: &Cluster) -> Vec<(ServerConfig, Server)> {
    let shards = cluster.config.shards.iter().zip(cluster.servers());
    let servers = shards.flat_map(|(config, servers)| {
        config.servers().cloned().zip(servers.primary.iter().chain(&servers.replicas).cloned())
    });
    servers.collect()
}

/// A server's host and port.
fn place(config: &ServerConfig) -> (String, u16) {
    match &config.info.address {
        Address::Tcp { host, port } => (host.clone(), *port),
        Address::Unix { folder, port } => (folder.display().to_string(), *port),
    }
}
