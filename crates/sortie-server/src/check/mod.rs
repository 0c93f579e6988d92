//! `sortie check`: connects to every configured server and says what will work, and what not.
//!
//! What is needed and does not work is a problem, and makes the command fail: a server that does
//! not answer, servers of a shard that are no copies of one another, cancels that get lost, a
//! pooler that mixes sessions, tables that are missing or whose rows lie elsewhere than the hash
//! says. What works otherwise than one may expect is a warning, above all reads that may miss a
//! write which was acknowledged.
//!
//! # Invariants
//!
//! 1. Nothing is changed on a server; every statement reads, and the one that is cancelled sleeps.
//! 2. Every step is bounded by `--timeout`, and servers are asked at the same time.
//! 3. The report goes to standard output, everything else to standard error.

mod ask;
mod front;
mod judge;
mod lsn;
mod pooling;
mod probe;
mod promise;
mod report;
mod tables;
mod text;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::probe::Probe;
use self::report::{ClusterReport, Finding, Kind, Report, ShardReport};
use self::tables::Shard;
use crate::cli::Check;
use crate::config::{ClusterConfig, ConfigError, Loaded};

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What was configured can't be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The system denied something, or nobody takes the report.
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// Checks, prints the report, and says whether everything that is needed works.
///
/// # Errors
///
/// [`Error`] when there is nothing to check.
pub(crate) fn run(options: &Check) -> Result<ExitCode, Error> {
    let Loaded { config, warnings } = options.servers.load()?;
    let system = |what| move |source| Error::System { what, source };
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("the runtime"))?;
    let mut findings: Vec<Finding> =
        warnings.into_iter().map(|warning| Finding::warning("configuration", warning)).collect();
    let mut clusters = Vec::new();
    for cluster in &config.clusters {
        let cluster = &front::look(cluster, &config.auth, &mut findings);
        let progress = Progress::new(cluster);
        let cluster = (cluster, &config.clusters[..]);
        clusters.push(runtime.block_on(check(cluster, options.timeout, progress, &mut findings)));
    }
    let report = Report::new(clusters, findings);
    let text = if options.json {
        serde_json::to_string_pretty(&report).expect("a report has no maps and no failing parts")
    } else {
        report.to_string()
    };
    writeln!(io::stdout(), "{text}").map_err(system("standard output"))?;
    Ok(if report.works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(
    (cluster, all): (&ClusterConfig, &[ClusterConfig]),
    limit: Duration,
    mut progress: Progress,
    findings: &mut Vec<Finding>,
) -> ClusterReport {
    let mut shards = probe(cluster, limit, &mut progress).await;
    for probes in &mut shards {
        locate(probes, limit).await;
    }
    let judge =
        |(number, probes): (usize, &Vec<Probe>)| judge::shard(cluster, number, probes, findings);
    let reports: Vec<ShardReport> = shards.iter().enumerate().map(judge).collect();
    judge::distinct(cluster, &shards, findings);
    judge::crowded((all, cluster), &shards, findings);
    let mut tables = Vec::new();
    let mut readers = readers(&mut shards);
    for table in &cluster.tables {
        progress.step(&format!("table {}.{}", table.schema, table.name));
        let asked = tables::check(table, &mut readers, cluster.shards.len(), findings);
        match timeout(limit, asked).await {
            Ok(report) => tables.push(report),
            Err(_elapsed) => {
                let about = format!("{}.{}", table.schema, table.name);
                let text = format!("it could not be looked at within {limit:?}");
                findings.push(Finding::problem(about, text).fix("raise --timeout"));
            }
        }
    }
    let (name, role) = (cluster.name.clone(), cluster.role().to_owned());
    ClusterReport { name, role, shards: reports, tables }
}

/// Asks all servers at the same time; the results stand in the order of the configuration.
async fn probe(
    cluster: &ClusterConfig,
    limit: Duration,
    progress: &mut Progress,
) -> Vec<Vec<Probe>> {
    let mut asking = JoinSet::new();
    for (shard, servers) in cluster.shards.iter().enumerate() {
        for (place, server) in servers.servers().enumerate() {
            let is_primary = place == 0 && servers.primary.is_some();
            let kind = if is_primary { Kind::Primary } else { Kind::Standby };
            let (server, users) = (server.clone(), cluster.users.clone());
            asking.spawn(
                async move { ((shard, place), Probe::of(server, kind, users, limit).await) },
            );
        }
    }
    let mut probes = Vec::new();
    while let Some(asked) = asking.join_next().await {
        // A panic is a bug of ours, and its own message has been printed.
        let Ok((place, probe)) = asked else { continue };
        progress.step(&probe.name);
        probes.push((place, probe));
    }
    probes.sort_by_key(|(place, _probe)| *place);
    let mut shards: Vec<Vec<Probe>> = cluster.shards.iter().map(|_shard| Vec::new()).collect();
    for ((shard, _place), probe) in probes {
        shards[shard].push(probe);
    }
    shards
}

/// Primaries first: see [`Probe::locate`].
async fn locate(probes: &mut [Probe], limit: Duration) {
    for kind in [Kind::Primary, Kind::Standby] {
        let is_kind =
            |probe: &&mut Probe| probe.facts.as_ref().is_ok_and(|facts| facts.kind == kind);
        for probe in probes.iter_mut().filter(is_kind) {
            probe.locate(limit).await;
        }
    }
}

/// One server of each shard, a replica if one answers.
fn readers(shards: &mut [Vec<Probe>]) -> Vec<Shard<'_>> {
    shards.iter_mut().enumerate().filter_map(|(number, probes)| reader(number, probes)).collect()
}

fn reader(number: usize, probes: &mut [Probe]) -> Option<Shard<'_>> {
    let answers = |probe: &Probe| probe.facts.is_ok();
    let is_reader = |probe: &Probe| answers(probe) && probe.configured == Kind::Standby;
    let chosen = probes.iter().position(is_reader).or_else(|| probes.iter().position(answers))?;
    let Probe { name, facts, session, .. } = probes.get_mut(chosen)?;
    let encoding = facts.as_ref().ok()?.encoding.clone();
    Some(Shard { number, server: name.clone(), encoding, session: session.as_mut()? })
}

/// What has been done so far, for somebody who waits at a terminal.
struct Progress {
    done: usize,
    all: usize,
    is_watched: bool,
}

impl Progress {
    fn new(cluster: &ClusterConfig) -> Self {
        let servers: usize = cluster.shards.iter().map(|shard| shard.servers().count()).sum();
        Self {
            done: 0,
            all: servers + cluster.tables.len(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    fn step(&mut self, what: &str) {
        self.done += 1;
        if self.is_watched {
            eprintln!("  {}/{} {what}", self.done, self.all);
        }
    }
}
