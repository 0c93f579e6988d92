//! One shard: a primary and its synchronous standbys.

use std::sync::Arc;
use std::thread;

use crate::clock::joined;
use crate::config::LabConfig;
use crate::error::Error;
use crate::sample;
use crate::server::Server;
use crate::site::Site;

/// What every server is told. No disk is waited for: what a machine's crash would lose is
/// temporary anyway.
const SETTINGS: [(&str, &str); 15] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "300"),
    ("max_wal_senders", "16"),
    ("shared_buffers", "64MB"),
    // In the data directory, so that a server that is killed leaves nothing elsewhere.
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("hot_standby", "on"),
    ("wal_level", "replica"),
    // A standby that was away for a while finds what it missed, and soon.
    ("wal_keep_size", "512MB"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("synchronous_commit", "remote_apply"),
    ("log_checkpoints", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("timezone", "UTC"),
];

/// A primary and its standbys.
#[derive(Debug)]
pub struct Shard {
    primary: Server,
    standbys: Vec<Server>,
}

impl Shard {
    /// Returns the server that was made as the primary.
    pub fn primary(&self) -> &Server {
        &self.primary
    }

    /// Returns the servers that were made as standbys.
    pub fn standbys(&self) -> &[Server] {
        &self.standbys
    }

    /// Returns all, the primary first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.primary).chain(&self.standbys)
    }

    pub(crate) fn make(
        site: &Arc<Site>,
        config: &LabConfig,
        number: u32,
        done: &(impl Fn(String) + Sync),
    ) -> Result<Self, Error> {
        let fixed = settings(site, config);
        let server =
            |role: &str| Server::new(site, format!("shard {number} {role}"), fixed.clone());
        let primary = server("primary");
        primary.create()?;
        done(format!("shard {number}: files made"));
        primary.start_somewhere()?;
        let rows = if config.sample { fill(&primary, config, number)? } else { 0 };
        done(format!("shard {number}: primary on {} has {rows} rows", primary.address()));
        let standbys: Vec<Server> =
            (1..=config.replicas).map(|standby| server(&format!("standby {standby}"))).collect();
        thread::scope(|scope| {
            let starts: Vec<_> = standbys
                .iter()
                .map(|standby| {
                    let primary = &primary;
                    scope.spawn(move || {
                        standby.copy_from(primary)?;
                        standby.start_somewhere()?;
                        done(format!("{} on {}", standby.name(), standby.address()));
                        Ok(())
                    })
                })
                .collect();
            starts.into_iter().try_for_each(|start| joined(start))
        })?;
        if !standbys.is_empty() {
            primary.require(&standbys.iter().collect::<Vec<_>>())?;
            done(format!("shard {number}: every commit waits for every standby"));
        }
        Ok(Self { primary, standbys })
    }
}

/// Makes the sample table and returns how many rows it got.
fn fill(primary: &Server, config: &LabConfig, number: u32) -> Result<u64, Error> {
    primary.script("postgres", sample::DATABASE)?;
    primary.script("sortie", &sample::table(config.rows, config.shards, number))?;
    let rows = primary.script("sortie", "SELECT count(*) FROM users")?;
    Ok(rows.trim().parse().unwrap_or(0))
}

fn settings(site: &Site, config: &LabConfig) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let sockets = site.has_sockets().then(|| site.sockets().display().to_string());
    all.push(("unix_socket_directories".into(), sockets.unwrap_or_default()));
    all.extend(config.settings.iter().cloned());
    all
}
