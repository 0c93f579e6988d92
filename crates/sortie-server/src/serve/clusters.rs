//! `sortie serve` in front of PostgreSQL servers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sortie_postgres::{ConnInfo, Connection, Login, PoolConfig, Server};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::{Error, Front, cores, observed};
use crate::admin::{Admin, PROBE_MAX, Readiness};
use crate::auth::Gate;
use crate::config::{Auth, Config, Mode, PoolSettings, ServerConfig, ShardConfig, Tls};
use crate::console::Console;
use crate::judge::{ClusterServers, SharedLane};
use crate::logins::Logins;
use crate::metrics::Snapshot;
use crate::read::ReadStats;
use crate::relay::roster::{Ends, Roster};
use crate::relay::{Cluster, Relay, ShardServers};
use crate::session::Limits;

/// How long the start waits for the clusters' databases to be looked at.
const LOOKED_MAX: Duration = Duration::from_secs(3);

/// Serves the clusters of a configuration until it is told to stop, by SIGINT or SIGTERM.
///
/// # Errors
///
/// [`Error`] when it can't start.
pub(super) async fn run(config: &Config) -> Result<(), Error> {
    let front = Front::bind(config.listen, config.admin).await?;
    let (listen, admin) = (front.listen, front.admin);
    serve(front, config, || announce(config, listen, admin)).await
}

/// As [`run`], on ports that are taken already; calls `announce` when clients are answered.
pub(crate) async fn serve(
    front: Front,
    config: &Config,
    announce: impl FnOnce(),
) -> Result<(), Error> {
    let (drain, draining) = watch::channel(false);
    let sessions_max = config.connections_max as usize;
    let limits = Limits {
        sessions_max,
        login_max: config.login_max,
        egress_stall_max: config.stall_max,
        ..Limits::default()
    };
    let clusters = clusters(config);
    for cluster in &clusters {
        cluster.keep_warm();
    }
    let watching = join_all(clusters.clone().into_iter().map(async |it| it.keep_watched().await));
    let lane = lane(&clusters);
    let logins = Logins::default();
    let gate = Gate::new(config, logins.clone());
    let roster = Arc::new(Roster::new());
    let endpoint = Endpoint::new(config, clusters.clone(), lane.clone(), front.stopper());
    let console = (Arc::clone(&roster), logins.clone(), draining.clone());
    let console = Console::new(Box::new(endpoint), console.0, console.1, console.2);
    let console = Arc::new(console);
    let relay = Relay::new(lane.clone(), clusters, gate, limits, draining.clone(), roster);
    let administration = administration(&relay, lane.clone(), draining);
    let cores = cores()?;
    let mut looking = pin!(lane.clone().keep_known());
    tokio::select! {
        never = &mut looking => match never {},
        // Whoever does not answer by then is served when it does.
        _looked = timeout(LOOKED_MAX, lane.looked()) => {}
    }
    announce();
    let (averaging, told) = (Arc::clone(&console), relay.clone());
    let session = move |stream: TcpStream, peer| {
        let (relay, console) = (relay.clone(), Arc::clone(&console));
        let ends = Ends { peer: Some(peer), local: stream.local_addr().ok() };
        async move { relay.serve(stream, ends, &console).await }
    };
    let beside = async {
        tokio::select! {
            never = looking => never,
            never = averaging.keep_averaged() => never,
            _never = watching => unreachable!("nobody stops watching"),
        }
    };
    front.serve((sessions_max, logins), (&cores, &drain), administration, beside, session).await;
    observed::tell(&told.lanes());
    Ok(())
}

/// The clusters, with their servers, none of which is connected to yet.
fn clusters(config: &Config) -> Vec<Arc<Cluster>> {
    let clusters = config.clusters.iter().enumerate().map(|(index, config)| {
        let server = |server: &ServerConfig| Server::new(server.info.clone(), pool(&config.pool));
        let shards = config.shards.iter().map(|shard| ShardServers {
            primary: shard.primary.as_ref().map(server),
            replicas: shard.replicas.iter().map(server).collect(),
        });
        let first = config.shards.iter().flat_map(ShardConfig::servers).next();
        let database = first.map_or_else(String::new, |server| server.info.database.clone());
        Arc::new(Cluster::new(index, config.clone(), database, shards.collect()))
    });
    clusters.collect()
}

fn pool(settings: &PoolSettings) -> PoolConfig {
    let mut config = PoolConfig::default();
    config.size_max = settings.connections_max;
    config.warm_min = settings.warm_min;
    config.waiters_max = settings.waiters_max;
    config.idle_timeout = settings.idle;
    config.lifetime = settings.lifetime;
    config
}

/// The shared lane over the same servers: reads go to replicas, or to a primary without any.
fn lane(clusters: &[Arc<Cluster>]) -> SharedLane {
    SharedLane::new(clusters.iter().map(|cluster| {
        let shards = cluster.config.shards.iter().zip(cluster.servers()).map(|(shard, servers)| {
            let names = shard.replicas.iter().map(|replica| replica.name.clone());
            let replicas: Vec<_> = names.zip(servers.replicas.iter().cloned()).collect();
            let name = shard.primary.iter().map(|primary| primary.name.clone());
            let primary: Vec<_> = name.zip(servers.primary.clone()).collect();
            if replicas.is_empty() { [primary, Vec::new()] } else { [replicas, primary] }
        });
        let shards = shards.collect();
        ClusterServers { config: &cluster.config, database: &cluster.database, shards }
    }))
}

fn administration(
    relay: &Relay<SharedLane>,
    lane: SharedLane,
    draining: watch::Receiver<bool>,
) -> Admin {
    let scrape = {
        let relay = relay.clone();
        Box::new(move || {
            let ReadStats { flights, descriptions, hedges: hedge, legs } = lane.stats();
            let (clients, lanes) = (relay.stats(), relay.lanes());
            let clusters = relay.clusters().iter();
            let health = clusters.clone().flat_map(|cluster| cluster.health()).collect();
            let pools = clusters.flat_map(|cluster| cluster.pools()).collect();
            let snapshot = Snapshot { clients, flights, descriptions, ..Snapshot::default() };
            Snapshot { hedge, legs, lanes, pools, health, ..snapshot }
        })
    };
    let ready = {
        let relay = relay.clone();
        Box::new(move || -> Readiness { Box::pin(probe(relay.clusters().to_vec())) })
    };
    let set_mode = {
        let relay = relay.clone();
        Box::new(move |name: &str, mode: Option<Mode>| {
            let clusters = relay.clusters();
            let found = clusters.iter().find(|cluster| cluster.config.name == name);
            let Some(cluster) = found else {
                let names: Vec<_> = clusters.iter().map(|it| it.config.name.as_str()).collect();
                return Err(format!("there are: {}", names.join(", ")));
            };
            cluster.set_mode(mode);
            tracing::info!(cluster = name, ?mode, "the mode was set");
            Ok(())
        })
    };
    Admin { scrape, ready, set_mode, draining }
}

/// Asks every shard of every cluster; the answer of any of its servers will do.
async fn probe(clusters: Vec<Arc<Cluster>>) -> Result<(), String> {
    let mut probes = JoinSet::new();
    for cluster in &clusters {
        for (shard, servers) in cluster.config.shards.iter().enumerate() {
            let servers: Vec<_> =
                servers.servers().map(|it| (it.name.clone(), it.info.clone())).collect();
            let name = cluster.config.name.clone();
            probes.spawn(async move {
                let answered = timeout(PROBE_MAX, any(servers)).await;
                let why = match answered {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(why)) => why,
                    Err(_late) => format!("no answer within {PROBE_MAX:?}"),
                };
                Err(format!("{name}, shard {shard}: {why}"))
            });
        }
    }
    while let Some(probe) = probes.join_next().await {
        probe.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Logs in to all servers at once; the first success will do.
async fn any(servers: Vec<(String, ConnInfo)>) -> Result<(), String> {
    let mut logins = JoinSet::new();
    for (name, info) in servers {
        logins.spawn(async move {
            match Connection::open(&info, &Login::of(&info)).await {
                Ok(connection) => {
                    connection.close().await;
                    Ok(())
                }
                Err(error) => Err(format!("{name}: {error}")),
            }
        });
    }
    let mut why = "it has no server".to_owned();
    while let Some(login) = logins.join_next().await {
        match login {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => why = error,
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

fn announce(config: &Config, listen: std::net::SocketAddr, admin: std::net::SocketAddr) {
    use std::io::Write;
    let (host, port) = (listen.ip(), listen.port());
    let mut lines = Vec::new();
    for cluster in &config.clusters {
        let servers: usize = cluster.shards.iter().map(|shard| shard.servers().count()).sum();
        let user = cluster.users.first().map_or("", |user| user.name.as_str());
        let (name, shards) = (&cluster.name, cluster.shards.len());
        lines.push(format!("cluster {name}: {shards} shards, {servers} servers\n"));
        lines.push(format!("  psql -h {host} -p {port} -U {user} -d {name}\n"));
    }
    let asked = match config.auth {
        Auth::Trust => "no password",
        Auth::Scram(_) => "by password (SCRAM-SHA-256)",
    };
    let encrypted = match config.tls {
        Tls::Off => "",
        Tls::Allow(_) => ", TLS if wanted",
        Tls::Require(_) => ", TLS only",
    };
    lines.push(format!(
        "postgres protocol on {listen}, {asked}{encrypted}; admin on http://{admin}/\n"
    ));
    let text = lines.join("\n");
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::warn!(%error, "can't write the first lines to standard output");
    }
}
