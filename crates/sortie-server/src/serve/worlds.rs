//! From a configuration to what sessions go by.

use std::sync::Arc;

use sortie_postgres::{PoolConfig, Server};

use crate::auth::Gate;
use crate::budget::Budget;
use crate::config::{ClusterConfig, Config, PoolSettings, ServerConfig, ShardConfig};
use crate::judge::{ClusterServers, SharedLane};
use crate::logins::Logins;
use crate::relay::{Cluster, ShardServers, World};
use crate::session::Limits;

/// What a configuration asks for. Of `before` everything is kept that is meant to be the same:
/// clusters and lanes, or else their servers with the connections.
pub(super) fn world(
    config: &Config,
    logins: &Logins,
    before: Option<&World<SharedLane>>,
) -> World<SharedLane> {
    let clusters = config.clusters.iter().enumerate();
    let clusters: Vec<_> = clusters
        .map(|(index, config)| cluster(index, config, before.and_then(|it| it.named(&config.name))))
        .collect();
    // One for all configurations: what waits does so whichever holds.
    let budget = before.map_or_else(Budget::default, |before| before.limits.budget.clone());
    let lane = lane(&clusters, before.map(|before| &before.lane), &budget);
    let limits = limits(config, budget);
    World::new(config, (lane, clusters), Gate::new(config, logins.clone()), limits)
}

/// Brings servers that go on to what a configuration says of their pools, and lets those go that
/// it does not name any more, when nobody uses them.
pub(super) fn settle(before: &World<SharedLane>, now: &World<SharedLane>) {
    for cluster in &now.clusters {
        let known = before.named(&cluster.config.name);
        if known.is_some_and(|known| Arc::ptr_eq(known, cluster)) {
            continue;
        }
        if known.is_some_and(|known| known.config.pool != cluster.config.pool) {
            servers(cluster).for_each(|server| server.configure(&pool(&cluster.config.pool)));
        }
        cluster.keep_warm();
    }
    for cluster in &before.clusters {
        let known = now.named(&cluster.config.name);
        for server in servers(cluster) {
            if known.is_none_or(|known| known.server(server.info()).is_none()) {
                cluster.let_go(server);
            }
        }
    }
}

fn servers(cluster: &Cluster) -> impl Iterator<Item = &Server> {
    cluster.servers().iter().flat_map(|it| it.primary.iter().chain(&it.replicas))
}

/// A cluster with its servers; to new ones nothing is connected yet.
fn cluster(index: usize, config: &ClusterConfig, before: Option<&Arc<Cluster>>) -> Arc<Cluster> {
    if let Some(same) = before.filter(|it| it.index == index && it.config == *config) {
        return Arc::clone(same);
    }
    let server = |server: &ServerConfig| {
        let known = before.and_then(|before| before.server(&server.info));
        let new = || Server::new(server.info.clone(), pool(&config.pool));
        known.cloned().unwrap_or_else(new)
    };
    let shards = config.shards.iter().map(|shard| ShardServers {
        primary: shard.primary.as_ref().map(server),
        replicas: shard.replicas.iter().map(server).collect(),
    });
    let first = config.shards.iter().flat_map(ShardConfig::servers).next();
    let database = first.map_or_else(String::new, |server| server.info.database.clone());
    let before = before.map(|before| &**before);
    Arc::new(Cluster::new(index, (config.clone(), database), shards.collect(), before))
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
fn lane(clusters: &[Arc<Cluster>], before: Option<&SharedLane>, budget: &Budget) -> SharedLane {
    let clusters = clusters.iter().map(|cluster| {
        let shards = cluster.config.shards.iter().zip(cluster.servers()).map(|(shard, servers)| {
            let names = shard.replicas.iter().map(|replica| replica.name.clone());
            let replicas: Vec<_> = names.zip(servers.replicas.iter().cloned()).collect();
            let name = shard.primary.iter().map(|primary| primary.name.clone());
            let primary: Vec<_> = name.zip(servers.primary.clone()).collect();
            if replicas.is_empty() { [primary, Vec::new()] } else { [replicas, primary] }
        });
        let shards = shards.collect();
        let (config, database) = (&cluster.config, &*cluster.database);
        ClusterServers { config, database, valve: Arc::clone(&cluster.valve), shards }
    });
    SharedLane::new(clusters, (before, budget))
}

fn limits(config: &Config, budget: Budget) -> Limits {
    Limits {
        sessions_max: config.connections_max as usize,
        login_max: config.login_max,
        egress_stall_max: config.stall_max,
        budget,
        ..Limits::default()
    }
}
