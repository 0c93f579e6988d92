//! `sortie lab`: a real cluster in a temporary folder, and sortie in front of it.
//!
//! # Invariants
//!
//! 1. The ports are taken before anything is made, and what the last lines say can be typed when
//!    they are printed.
//! 2. On the way out sessions end first, then the standbys, then the primaries, then the folder
//!    goes; also when something fails on the way in, and when a server has ended by itself.

mod guide;

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use sortie_lab::{Cancel, Lab, LabConfig, Server};
use sortie_postgres::ConnInfo;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::cli;
use crate::config::{
    ClusterConfig, Config, ServerConfig, ShardConfig, Spread, TableConfig, UserConfig,
};
use crate::serve::{self, Front, block_on, serve_clusters};
use guide::Guide;

/// The database of the lab's servers, and the name of the cluster.
const DATABASE: &str = "sortie";
const ROLE: &str = "reader";

/// How often it is looked whether a server has ended.
const WATCH: Duration = Duration::from_secs(1);

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// sortie itself can't start.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// PostgreSQL can't, or did not end in order.
    #[error("{error}{}", cause(.error))]
    Lab {
        #[from]
        error: sortie_lab::Error,
    },
}

/// Makes a cluster and serves it until it is told to stop, by SIGINT or SIGTERM.
///
/// # Errors
///
/// [`Error`] when it can't start or stop in order; nothing is left then.
pub(crate) fn run(options: &cli::Lab) -> Result<(), Error> {
    block_on(lab(options))?
}

async fn lab(options: &cli::Lab) -> Result<(), Error> {
    let mut front = Front::bind(options.listen.0, options.admin).await?;
    let Some(lab) = make(options, &mut front).await? else {
        say("stopped before it was ready; nothing is left");
        return Ok(());
    };
    let mut config = Config::empty();
    (config.listen, config.admin) = (options.listen.0, options.admin);
    config.clusters.push(cluster(&lab));
    config.console.make_way(&config.clusters);
    let guide = Guide::new(&lab, front.listen, front.admin);
    let served = tokio::select! {
        served = serve_clusters(front, (&config, None), || say(&guide)) => served,
        never = watch(&lab) => match never {},
    };
    say("stopping");
    let stopped = blocking(|| lab.stop()).await;
    served?;
    stopped?;
    say("stopped; nothing is left");
    Ok(())
}

/// Makes the cluster; `None` when it was told to stop before that was done.
async fn make(options: &cli::Lab, front: &mut Front) -> Result<Option<Lab>, Error> {
    let mut config = LabConfig::default();
    config.shards = options.shards;
    config.replicas = options.replicas;
    config.rows = options.rows;
    config.pg_bin.clone_from(&options.pg_bin);
    config.cancel = Cancel::default();
    let cancel = config.cancel.clone();
    let mut making = std::pin::pin!(blocking(move || Lab::start(&config, |step| say(step))));
    let made = tokio::select! {
        made = &mut making => made,
        () = front.told_to_stop() => {
            cancel.cancel();
            // In the same moment it may have succeeded: then it is dropped here, which ends it.
            making.await.and(Err(sortie_lab::Error::Cancelled))
        }
    };
    match made {
        Ok(lab) => Ok(Some(lab)),
        Err(sortie_lab::Error::Cancelled) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What sortie is told about the lab.
fn cluster(lab: &Lab) -> ClusterConfig {
    let mut cluster = ClusterConfig::named(DATABASE);
    let server = |server: &Server| {
        let name = server.address().to_string();
        let info: ConnInfo = format!("postgres://{ROLE}@{name}/{DATABASE}")
            .parse()
            .expect("a URL of an address and two plain names");
        ServerConfig { name, info }
    };
    cluster.shards = lab
        .shards()
        .iter()
        .map(|shard| ShardConfig {
            primary: Some(server(shard.primary())),
            replicas: shard.standbys().iter().map(server).collect(),
        })
        .collect();
    cluster.tables.push(TableConfig {
        schema: "public".to_owned(),
        name: "users".to_owned(),
        spread: Spread::Hash { key: "user_id".to_owned() },
    });
    let reader = UserConfig::of(&cluster, ROLE);
    cluster.users.push(reader);
    cluster
}

/// Says of each server once that it has ended by itself.
async fn watch(lab: &Lab) -> Infallible {
    let mut ended = HashSet::new();
    loop {
        sleep(WATCH).await;
        for server in lab.servers() {
            if server.process().is_none() && ended.insert(server.name()) {
                tracing::warn!(
                    server = server.name(),
                    log = %server.folder().join("log").display(),
                    "a server has ended by itself; what needs it waits"
                );
            }
        }
    }
}

/// Runs something that blocks on a thread for that. Dropping this does not end it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // It is awaited by its caller, who owns it.
    spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Writes a line, if anybody takes it.
fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        tracing::warn!(%error, "can't write to standard output");
    }
}

fn cause(error: &sortie_lab::Error) -> String {
    error.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}
