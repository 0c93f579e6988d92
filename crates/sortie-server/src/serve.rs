//! `sortie serve`: puts the parts together, runs them, and takes them down again.
//!
//! # Invariants
//!
//! 1. The ports are taken before anything is made, and the announcement is printed when a client
//!    that reads it is answered.
//! 2. On the way out sessions end first, then the admin address, then the replicas with their
//!    temporary directory; also when something fails on the way in.

mod clusters;
mod endpoint;
mod front;
mod keepers;
mod observed;
mod reload;
mod worlds;

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use sortie_sqlite::{Embedded, EmbeddedConfig, Replica};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::{self, Admin, Readiness};
use crate::announce::Announcement;
use crate::cli::Serve;
use crate::config::{Config, ConfigError, Loaded, Mode, Tls};
use crate::cores::{self, Cores};
use crate::listener::Room;
use crate::logins::Logins;
use crate::metrics::{self, ProcessStats, Snapshot};
use crate::read::{ReadConfig, ReadPath};
use crate::said::HedgeDelay;
use crate::session::{Limits, Sessions};
use crate::sql::Catalog;

pub(crate) use clusters::serve as serve_clusters;
pub(crate) use front::Front;
pub(crate) use reload::{Reload, ReloadStats};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A port is taken, or may not be.
    #[error("can't listen on {address}: {source}{fix}", fix = fix(.source, .option))]
    Bind { address: SocketAddr, option: &'static str, source: io::Error },
    /// What was configured can't be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Everybody could come in.
    #[error("{0}")]
    Open(String),
    /// The embedded cluster could not be made.
    #[error("the embedded cluster: {0}")]
    Embedded(#[from] sortie_sqlite::Error),
    /// The system denied something that a server needs.
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// Serves until it is told to stop, by SIGINT or SIGTERM.
///
/// # Errors
///
/// [`Error`] when it can't start.
pub(crate) fn run(options: &Serve) -> Result<(), Error> {
    if options.embedded {
        return block_on(serve(options))?;
    }
    let read = || configured(options);
    block_on(clusters::run(&read()?, &read))?
}

/// Reads the configuration, as at the start so whenever it is read again.
fn configured(options: &Serve) -> Result<Config, Error> {
    let Loaded { mut config, warnings } = options.servers.load()?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    options.override_in(&mut config);
    refuse_open(&config)?;
    if !config.listen.ip().is_loopback() && config.tls == Tls::Off {
        tracing::warn!(
            listen = %config.listen,
            "clients are not encrypted: rows can be read on their way; set `tls`, \
             `tls_certificate` and `tls_key`",
        );
    }
    Ok(config)
}

/// A flag may have opened what the file had closed.
fn refuse_open(config: &Config) -> Result<(), Error> {
    config.too_open().map_or(Ok(()), |what| Err(Error::Open(what)))
}

/// Runs all of a command. The main thread is for the listener and the admin address; sessions run
/// on the cores.
///
/// # Errors
///
/// [`Error::System`] when there can't be a runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::System { what: "the runtime", source })?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(cores::END_MAX);
    Ok(done)
}

async fn serve(options: &Serve) -> Result<(), Error> {
    let mut general = Config::empty();
    options.override_in(&mut general);
    refuse_open(&general)?;
    let front = Front::bind(general.listen, general.admin).await?;
    let (listen, admin) = (front.listen, front.admin);
    let began = Instant::now();
    // On the runtime's main thread, while it has nothing else to do.
    let config = embedded(options);
    let cluster = Embedded::create(&config)?;
    let announcement = Announcement {
        users: config.rows,
        shards: config.shards,
        replicas: config.replicas,
        dir: cluster.dir().to_owned(),
        is_new: cluster.is_new(),
        is_temporary: cluster.is_temporary(),
        took: began.elapsed(),
        listen,
        admin,
    };

    let (drain, draining) = watch::channel(false);
    let sessions_max = general.connections_max as usize;
    let room = Room::for_sessions(sessions_max);
    let limits = Limits { sessions_max, ..Limits::default() };
    let mut way = ReadConfig::default();
    way.hedge = options.hedge.map_or(way.hedge, |HedgeDelay(delay)| delay);
    way.soft_age = options.soft_age.unwrap_or(way.soft_age);
    let reads = ReadPath::new(cluster.shards(), &way);
    let sessions = Sessions::new(reads.clone(), Catalog::embedded(), limits, draining.clone());
    let shards = cluster.shards().to_vec();
    let scrape = scrape(sessions.clone(), reads, (&shards, room.clone()));
    let probed = Box::new(move || -> Readiness { Box::pin(admin::probe(shards.clone())) });
    let set_mode = Box::new(|_: &str, _: Option<Mode>| {
        Err("an embedded cluster has no pipe lane, and so no mode".to_owned())
    });
    let reload = None;
    let admin = Admin { scrape, ready: probed, set_mode, reload, draining };
    let cores = cores()?;
    announcement.print();
    tracing::info!(event = "serving", %listen, admin = %announcement.admin, "clients are served");
    front.supervisor().ready(&serving(listen)).await;
    let session = move |stream, _peer| {
        let sessions = sessions.clone();
        async move { sessions.serve(stream).await }
    };
    front.serve((room, Logins::default()), (&cores, &drain), admin, pending(), session).await;
    Ok(())
}

fn embedded(options: &Serve) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::default();
    config.data.clone_from(&options.data);
    config.rows = options.rows;
    config.trouble.latency.clone_from(&options.latency);
    config.trouble.fail.clone_from(&options.fail);
    config
}

/// Returns what reads all counters for a page of metrics.
fn scrape(
    sessions: Sessions<ReadPath<Replica>>,
    reads: ReadPath<Replica>,
    (shards, room): (&[Vec<Replica>], Room),
) -> Box<dyn Fn() -> Snapshot + Send + Sync> {
    let replicas: Vec<Replica> = shards.iter().flatten().cloned().collect();
    Box::new(move || Snapshot {
        clients: sessions.stats().with_listened(room.closed(), room.moves()),
        process: ProcessStats::read(),
        flights: reads.flights(),
        hedge: reads.hedges(),
        legs: reads.legs(),
        replicas: metrics::replicas(&replicas),
        ..Snapshot::default()
    })
}

/// What the service manager shows of an endpoint that runs.
fn serving(listen: SocketAddr) -> String {
    format!("serving clients on {listen}")
}

fn cores() -> Result<Cores, Error> {
    Cores::start().map_err(|source| Error::System { what: "a thread for each core", source })
}

/// What to do when an address can't be listened on.
fn fix(error: &io::Error, option: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "; another process listens there: end it, or choose another port with {option} \
             (port 0 takes a free one)",
        ),
        ErrorKind::PermissionDenied => {
            format!("; choose a port above 1023 with {option} (port 0 takes a free one)")
        }
        _ => String::new(),
    }
}
