//! Commands that change something.
//!
//! # What they mean
//!
//! `PAUSE` holds new statements back, waits for those under way, and closes the servers'
//! connections; `RESUME` lets everything go on. `KILL DATABASE` pauses as well, and ends the
//! sessions instead of waiting for them, as `PgBouncer` does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Console;
use super::command::Whom;
use crate::relay::Cluster;
use crate::relay::roster::{Doing, Entry};
use crate::sql::{SqlError, state};

/// How long a `PAUSE` waits for statements and transactions that are under way.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long a `KILL` waits for sessions to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);

/// How often is looked whether they are done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How many sessions a message names.
const NAMED_MAX: usize = 5;

/// The SQLSTATE of a configuration that can't be used.
const CONFIG_FILE_ERROR: &str = "F0000";

/// The SQLSTATE of something that is not there to be resumed.
const NOT_IN_STATE: &str = "55000";

/// The SQLSTATE of a database that does not exist.
const INVALID_CATALOG_NAME: &str = "3D000";

impl Console {
    /// Holds back what is asked of a cluster, or of all, and waits until nothing is under way.
    ///
    /// # Errors
    ///
    /// Nobody knows the cluster; or something is still under way after `PAUSE_MAX`, and what comes
    /// is held back all the same.
    pub(super) async fn pause(&self, database: Option<&str>) -> Result<(), SqlError> {
        let clusters = self.named(database)?;
        for cluster in &clusters {
            if cluster.valve.close() {
                tracing::info!(cluster = cluster.config.name, "paused");
            }
        }
        let end = Instant::now() + PAUSE_MAX;
        loop {
            let busy = self.of(&clusters, |entry| {
                // Whoever waits for a server is about to have it.
                matches!(entry.doing(), Doing::Works | Doing::Waits)
            });
            if busy.is_empty() {
                break;
            }
            if Instant::now() >= end {
                return Err(still_busy(&busy));
            }
            sleep(LOOK_EVERY).await;
        }
        for cluster in &clusters {
            cluster.retire();
        }
        Ok(())
    }

    /// Lets a cluster, or all, go on.
    ///
    /// # Errors
    ///
    /// Nobody knows the cluster, or nothing is paused.
    pub(super) fn resume(&self, database: Option<&str>) -> Result<(), SqlError> {
        let mut was_paused = false;
        for cluster in self.named(database)? {
            if cluster.valve.open() {
                cluster.keep_warm();
                tracing::info!(cluster = cluster.config.name, "resumed");
                was_paused = true;
            }
        }
        if was_paused {
            return Ok(());
        }
        let message = match database {
            Some(database) => format!("database {database} is not paused"),
            None => "pooler is not paused/suspended".to_owned(),
        };
        Err(SqlError::new(NOT_IN_STATE, message))
    }

    /// Ends sessions, and waits until they are gone.
    ///
    /// # Errors
    ///
    /// Nobody knows whom, or somebody is still there after a while.
    pub(super) async fn kill(&self, whom: &Whom, own: i32) -> Result<(), SqlError> {
        let told: Vec<i32> = match whom {
            Whom::Client(id) => {
                let entry = self.roster.entry(*id).filter(|entry| entry.person.id != own);
                let entry = entry.ok_or_else(|| {
                    let message = format!("no such client: {id}");
                    SqlError::new(state::UNDEFINED_OBJECT, message)
                        .hint("SHOW CLIENTS has their numbers, in column id.")
                })?;
                entry.kill();
                vec![*id]
            }
            Whom::Database(name) => {
                let clusters = self.named(Some(name))?;
                for cluster in &clusters {
                    cluster.valve.close();
                    tracing::info!(cluster = cluster.config.name, "killed, and paused");
                }
                let told = self.of(&clusters, |entry| {
                    entry.kill();
                    true
                });
                for cluster in &clusters {
                    cluster.retire();
                }
                told.iter().map(|entry| entry.person.id).collect()
            }
        };
        let end = Instant::now() + GONE_MAX;
        while told.iter().any(|id| self.roster.entry(*id).is_some_and(|entry| entry.is_told())) {
            if Instant::now() >= end {
                let message = "they have been told to end, and are not gone yet";
                return Err(SqlError::new(NOT_IN_STATE, message));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Has the configuration read again. Returns what has changed.
    ///
    /// # Errors
    ///
    /// Why it can't be used: nothing has changed.
    pub(super) async fn reload(&self) -> Result<String, SqlError> {
        self.subject.reload().await.map_err(|why| SqlError::new(CONFIG_FILE_ERROR, why))
    }

    /// The cluster of this name, or all of them.
    fn named(&self, database: Option<&str>) -> Result<Vec<Arc<Cluster>>, SqlError> {
        let mut clusters = self.subject.clusters();
        let Some(name) = database else { return Ok(clusters) };
        let names: Vec<_> = clusters.iter().map(|it| it.config.name.clone()).collect();
        clusters.retain(|cluster| cluster.config.name.eq_ignore_ascii_case(name));
        if clusters.len() > 1 {
            clusters.retain(|cluster| cluster.config.name == name);
        }
        if clusters.is_empty() {
            let message = format!("no such database: {name}");
            let error = SqlError::new(INVALID_CATALOG_NAME, message);
            return Err(error.hint(format!("There are: {}.", names.join(", "))));
        }
        Ok(clusters)
    }

    /// The sessions of these clusters of which that holds.
    fn of(&self, clusters: &[Arc<Cluster>], holds: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let mut entries = self.roster.entries();
        entries.retain(|entry| {
            let mut names = clusters.iter().map(|cluster| cluster.config.name.as_str());
            names.any(|name| *name == *entry.person.database) && holds(entry)
        });
        entries
    }
}

fn still_busy(busy: &[Arc<Entry>]) -> SqlError {
    let ids = busy.iter().take(NAMED_MAX).map(|entry| entry.person.id.to_string());
    let mut ids = ids.collect::<Vec<_>>().join(", ");
    if busy.len() > NAMED_MAX {
        ids += ", …";
    }
    let message = format!("{} sessions still have a server after {PAUSE_MAX:?}", busy.len());
    SqlError::new(NOT_IN_STATE, message)
        .detail(format!("They are clients {ids}. What others ask for is held back."))
        .hint("KILL ends a client, PAUSE waits once more, RESUME lets everything go on.")
}
