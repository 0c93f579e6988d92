//! `sortie serve` in front of PostgreSQL servers.

use std::net::SocketAddr;
use std::sync::Arc;

use sortie_postgres::{ConnInfo, Connection, Login};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::keepers::Keepers;
use super::reload::{LOOKED_MAX, Read, Reload, Reloads, Running};
use super::{Error, Front, cores, observed, serving, worlds};
use crate::admin::{Admin, PROBE_MAX, Readiness};
use crate::config::{Auth, Config, Mode, Tls};
use crate::console::Console;
use crate::cores::Socket;
use crate::judge::SharedLane;
use crate::listener::Room;
use crate::logins::Logins;
use crate::logs;
use crate::metrics::{ProcessStats, Snapshot};
use crate::read::ReadStats;
use crate::relay::roster::{Ends, Roster};
use crate::relay::{Cluster, Relay};

/// Serves the clusters of a configuration until it is told to stop, by SIGINT or SIGTERM; has it
/// read again on SIGHUP.
///
/// # Errors
///
/// [`Error`] when it can't start.
pub(super) async fn run(config: &Config, read: Read<'_>) -> Result<(), Error> {
    let front = Front::bind(config.listen, config.admin).await?;
    let (listen, admin) = (front.listen, front.admin);
    serve(front, (config, Some(read)), || {
        logs::tell(announcement(config, listen, admin));
    })
    .await
}

/// As [`run`], on ports that are taken already; calls `announce` when clients are answered.
/// Without something to read SIGHUP is left to do what it does.
pub(crate) async fn serve(
    front: Front,
    (config, read): (&Config, Option<Read<'_>>),
    announce: impl FnOnce(),
) -> Result<(), Error> {
    let (listen, admin) = (front.listen, front.admin);
    let hangup = read.map(|_| signal(SignalKind::hangup())).transpose();
    let hangup = hangup.map_err(|source| Error::System { what: "signal handlers", source })?;
    let (drain, draining) = watch::channel(false);
    let logins = Logins::default();
    let world = worlds::world(config, &logins, None);
    for cluster in &world.clusters {
        cluster.keep_warm();
    }
    let room = Room::for_sessions(world.limits.sessions_max);
    let mut keepers = Keepers::default();
    keepers.keep(&world);
    let roster = Arc::new(Roster::new());
    let relay = Relay::new(world, draining.clone(), Arc::clone(&roster));
    let (reload, asking) = Reload::new();
    let reloads = Arc::new(Reloads::none());
    let endpoint = Endpoint::new(relay.clone(), reload.clone(), front.stopper());
    let console = Console::new(Box::new(endpoint), roster, logins.clone(), draining.clone());
    let console = Arc::new(console);
    let telling = (read.map(|_| reload), Arc::clone(&reloads), room.clone());
    let administration = administration(&relay, telling, draining);
    let cores = cores()?;
    let lane = relay.world().lane.clone();
    tokio::select! {
        never = keepers.watch() => match never {},
        // Whoever does not answer by then is served when it does.
        _looked = timeout(LOOKED_MAX, lane.looked()) => {}
    }
    drop(lane);
    announce();
    tracing::info!(event = "serving", %listen, %admin, "clients are served");
    let supervisor = front.supervisor();
    supervisor.ready(&serving(listen)).await;
    let running = Running {
        config: config.clone(),
        relay: relay.clone(),
        keepers,
        room: room.clone(),
        logins: logins.clone(),
        reloads,
        supervisor,
    };
    let (averaging, told) = (Arc::clone(&console), relay.clone());
    let budget = relay.budget().clone();
    let session = move |stream: Socket, peer| {
        let (relay, console) = (relay.clone(), Arc::clone(&console));
        let ends = Ends { peer: Some(peer), local: stream.local_addr().ok() };
        async move { relay.serve(stream, ends, &console).await }
    };
    let beside = async {
        tokio::select! {
            never = running.keep(read, (hangup, asking)) => never,
            never = averaging.keep_averaged() => never,
            never = budget.keep() => never,
        }
    };
    front.serve((room, logins), (&cores, &drain), administration, beside, session).await;
    observed::tell(&told.lanes());
    Ok(())
}

fn administration(
    relay: &Relay<SharedLane>,
    (reload, reloads, room): (Option<Reload>, Arc<Reloads>, Room),
    draining: watch::Receiver<bool>,
) -> Admin {
    let scrape = {
        let relay = relay.clone();
        Box::new(move || {
            let world = relay.world();
            let ReadStats { flights, descriptions, hedges: hedge, legs } = world.lane.stats();
            let clients = relay.stats().with_listened(room.closed(), room.moves());
            let (lanes, process) = (relay.lanes(), ProcessStats::read());
            let clusters = world.clusters.iter();
            let health = clusters.clone().flat_map(|cluster| cluster.health()).collect();
            let pools = clusters.flat_map(|cluster| cluster.pools()).collect();
            let budget = Some(relay.budget().read());
            let snapshot = Snapshot { clients, budget, flights, ..Snapshot::default() };
            let reloads = Some(reloads.read());
            let snapshot = Snapshot { descriptions, hedge, legs, lanes, pools, ..snapshot };
            Snapshot { health, reloads, process, ..snapshot }
        })
    };
    let ready = {
        let relay = relay.clone();
        Box::new(move || -> Readiness { Box::pin(probe(relay.world().clusters.clone())) })
    };
    let set_mode = {
        let relay = relay.clone();
        Box::new(move |name: &str, mode: Option<Mode>| {
            let world = relay.world();
            let Some(cluster) = world.named(name) else {
                let names: Vec<_> =
                    world.clusters.iter().map(|it| it.config.name.as_str()).collect();
                return Err(format!("there are: {}", names.join(", ")));
            };
            cluster.set_mode(mode);
            tracing::info!(event = "mode", cluster = name, ?mode, "the mode was set");
            Ok(())
        })
    };
    Admin { scrape, ready, set_mode, reload, draining }
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

/// What is said first: who is served, and what to type next.
fn announcement(config: &Config, listen: SocketAddr, admin: SocketAddr) -> String {
    let (host, port) = (listen.ip(), listen.port());
    let mut lines = Vec::new();
    for cluster in &config.clusters {
        let servers: usize = cluster.shards.iter().map(|shard| shard.servers().count()).sum();
        let (user, mode) = (cluster.role(), cluster.mode);
        let (name, shards) = (&cluster.name, cluster.shards.len());
        let kept = match mode {
            Mode::Share => "",
            Mode::Observe => "; all is relayed, and it is counted what sharing would save",
            Mode::Pipe => "; all is relayed",
        };
        let (shards, servers) = (count(shards, "shard"), count(servers, "server"));
        lines.push(format!("cluster {name}: {shards}, {servers}{kept}\n"));
        let psql = format!("  psql -h {host} -p {port} -U {user} -d");
        let why = match mode {
            Mode::Observe => format!("{psql} {} -c 'SHOW WHY'\n", config.console.database),
            Mode::Share | Mode::Pipe => String::new(),
        };
        lines.push(format!("{psql} {name}\n{why}"));
    }
    let asked = match config.auth {
        Auth::Trust => "no password",
        Auth::Scram(_) => "by password (SCRAM-SHA-256)",
        Auth::Certificate => "by certificate",
    };
    let besides = match (&config.auth, &config.certified) {
        (Auth::Trust | Auth::Scram(_), Some(_)) => ", with a certificate",
        _ => "",
    };
    let encrypted = match config.tls {
        Tls::Off => "",
        Tls::Allow(_) => ", TLS if wanted",
        Tls::Require(_) => ", TLS only",
    };
    lines.push(format!(
        "postgres protocol on {listen}, {asked}{besides}{encrypted}; admin on http://{admin}/\n"
    ));
    lines.join("\n").trim_end().to_owned()
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_urls;

    #[test]
    fn what_is_said_first_tells_the_mode_and_what_to_type() {
        let loaded = from_urls(&["postgres://reader@db/bank".to_owned()], None).unwrap();
        let mut config = loaded.config;
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let said = |config: &Config| announcement(config, at(5), at(6));
        let first = said(&config);
        let expected = "cluster bank: 1 shard, 1 server\n\n  \
                        psql -h 127.0.0.1 -p 5 -U reader -d bank\n\n";
        assert!(first.starts_with(expected), "{first}");
        assert!(first.ends_with("127.0.0.1:5, no password; admin on http://127.0.0.1:6/"));
        config.clusters[0].mode = Mode::Observe;
        let observed = said(&config);
        assert!(observed.contains("what sharing would save\n"), "{observed}");
        assert!(observed.contains("-U reader -d sortie -c 'SHOW WHY'\n"), "{observed}");
    }
}
