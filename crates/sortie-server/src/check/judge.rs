//! What the facts mean: for one server, for the servers of one shard. Pure.

use super::pooling::Pooling;
use super::probe::{Facts, Probe};
use super::promise::{Cause, Freshness, promise, remedy};
use super::report::{Finding, Kind, Reads, ServerReport, ShardReport};
use crate::config::{ClusterConfig, ShardConfig};

/// A standby this far behind is worth a word, in bytes.
const LAG_NOTABLE: u64 = 16 << 20;

/// `client_connection_check_interval` came with this version.
const NOTICES_SINCE: u32 = 140_000;

/// Judges the servers of one shard; the report's servers are in the order of the probes.
pub(super) fn shard(
    cluster: &ClusterConfig,
    number: usize,
    probes: &[Probe],
    findings: &mut Vec<Finding>,
) -> ShardReport {
    for probe in probes {
        match &probe.facts {
            Ok(facts) => server(cluster, probe, facts, findings),
            Err(error) => findings.push(Finding::problem(&probe.name, error)),
        }
    }
    let about = format!("{}.{number}", cluster.name);
    same_data(&about, probes, findings);
    one_primary(&about, probes, findings);
    let primary = probes.iter().find_map(|probe| {
        let facts = probe.facts.as_ref().ok()?;
        (facts.kind == Kind::Primary).then_some((probe, facts))
    });
    let mut servers: Vec<ServerReport> =
        probes.iter().map(|probe| report(probe, primary.map(|(_probe, facts)| facts))).collect();
    lag(&servers, findings);
    match primary {
        Some((primary, facts)) => freshness(primary, facts, probes, &mut servers, findings),
        None => findings.push(
            Finding::note(&about, "what reads right after a write see is unknown: no primary here")
                .fix("name the primary: `primary = \"postgres://…\"` in the shard's table"),
        ),
    }
    let readers = || {
        let is_reader =
            |probe: &&Probe| probe.configured == Kind::Standby || cluster_reads_primary(probes);
        probes.iter().filter(is_reader).filter_map(|probe| probe.facts.as_ref().ok())
    };
    let hedge = readers().filter(|facts| facts.cancel.is_ok()).count() >= 2;
    if !hedge && cluster.hedge.is_some() {
        let text =
            "a slow replica can't be outrun: that takes two that answer and can be cancelled";
        let finding = Finding::warning(&about, text);
        findings.push(finding.fix("add a replica, or set `hedge = \"off\"`"));
    }
    ShardReport { shard: number, servers, hedge }
}

/// Whether servers take as many connections as all clusters together may open there; told with the
/// first cluster that names one.
pub(super) fn crowded(
    (all, cluster): (&[ClusterConfig], &ClusterConfig),
    probes: &[Vec<Probe>],
    findings: &mut Vec<Finding>,
) {
    for probe in probes.iter().flatten() {
        let Ok(facts) = &probe.facts else { continue };
        let here = |it: &&ClusterConfig| {
            it.shards.iter().flat_map(ShardConfig::servers).any(|it| it.name == probe.name)
        };
        let clusters: Vec<_> = all.iter().filter(here).collect();
        let max = |it: &&ClusterConfig| u64::from(it.pool.connections_max);
        let wanted: u64 = clusters.iter().map(max).sum();
        let is_told = clusters.first().is_none_or(|first| first.name != cluster.name);
        if is_told || u64::from(facts.max_connections) >= wanted {
            continue;
        }
        let names: Vec<_> = clusters.iter().map(|it| it.name.as_str()).collect();
        let whose = match names[..] {
            [_] => String::new(),
            _ => format!(" of the clusters {} together", names.join(", ")),
        };
        let text = format!(
            "pool.connections_max{whose} is {wanted}, and the server takes {}",
            facts.max_connections
        );
        findings
            .push(Finding::warning(&probe.name, text).fix("lower it, or raise max_connections"));
    }
}

/// Where no replica is configured the primary answers reads.
fn cluster_reads_primary(probes: &[Probe]) -> bool {
    probes.iter().all(|probe| probe.configured == Kind::Primary)
}

fn server(cluster: &ClusterConfig, probe: &Probe, facts: &Facts, findings: &mut Vec<Finding>) {
    let name = &probe.name;
    match facts.pooling {
        Pooling::None => {}
        Pooling::Session => findings.push(
            Finding::warning(
                name,
                "a pooler or proxy stands in between (its keys are not the server's)",
            )
            .fix("name the server itself: a hop less, and cancels go straight to it"),
        ),
        Pooling::Transaction => findings.push(
            Finding::problem(
                name,
                "a pooler in transaction mode stands in between (sessions change server \
                 processes): what a session sets or prepares would be lost or be a stranger's",
            )
            .fix("name the server itself, or a pooler in session mode"),
        ),
    }
    if let Err(error) = &facts.cancel {
        findings.push(
            Finding::problem(name, format!("a running statement can't be cancelled: {error}"))
                .fix("name the server itself: some poolers and proxies pass no CancelRequest on"),
        );
    }
    if facts.kind == Kind::Standby && !matches!(facts.fence, Ok(true)) {
        let why = facts.fence.as_ref().err().map_or_else(
            || "the server says no position".to_owned(),
            |error| format!("pg_last_wal_replay_lsn() failed: {error}"),
        );
        let role = cluster.role();
        findings.push(
            Finding::problem(name, format!("answers can't be fenced by a position: {why}"))
                .fix(format!("GRANT EXECUTE ON FUNCTION pg_last_wal_replay_lsn() TO {role}")),
        );
    }
    if !facts.notices_vanished {
        let why = if facts.version_number < NOTICES_SINCE { " (it came with 14)" } else { "" };
        let text = format!(
            "client_connection_check_interval can't be set{why}: a statement whose connection is \
             cut runs to its end"
        );
        findings.push(Finding::warning(name, text));
    }
    if let Some(service) = &facts.managed {
        let text =
            format!("a managed service ({service}); its failover may be a change of address");
        findings.push(Finding::note(name, text));
    }
    for (role, error) in &facts.locked_out {
        findings.push(Finding::problem(name, format!("role {role} can't log in: {error}")));
    }
    if facts.kind == Kind::Standby {
        standby(cluster, name, facts, findings);
    }
}

fn standby(cluster: &ClusterConfig, name: &str, facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.standby.paused {
        let finding = Finding::warning(name, "replay is paused: it shows nothing newer");
        findings.push(finding.fix("SELECT pg_wal_replay_resume()"));
    }
    match facts.standby.streaming {
        Some(true) => {}
        Some(false) => findings.push(Finding::warning(name, "it does not stream from its primary")),
        None => {
            let role = cluster.role();
            findings.push(
                Finding::note(name, format!("role {role} may not see how it is replicated"))
                    .fix(format!("GRANT pg_monitor TO {role}")),
            );
        }
    }
    if !facts.feedback && facts.streaming_delay != "-1" {
        let delay = &facts.streaming_delay;
        findings.push(
            Finding::note(
                name,
                format!("a read longer than {delay} may be ended by replay (40001) and asked anew"),
            )
            .fix(
                "hot_standby_feedback = on avoids most of it; the primary then keeps dead rows for \
                 as long as a read takes",
            ),
        );
    }
}

/// All servers of a shard are copies of one another.
fn same_data(about: &str, probes: &[Probe], findings: &mut Vec<Finding>) {
    let mut known = probes.iter().filter_map(|probe| {
        let facts = probe.facts.as_ref().ok()?;
        Some((&probe.name, facts.system.as_ref()?, facts.timeline))
    });
    let Some((first, system, timeline)) = known.next() else { return };
    for (name, other_system, other_timeline) in known {
        if other_system != system {
            findings.push(
                Finding::problem(
                    about,
                    format!(
                        "{name} is no copy of {first}: its system identifier is {other_system}, \
                         not {system}"
                    ),
                )
                .fix(
                    "servers of one shard are a primary and its standbys; put it where it belongs",
                ),
            );
        } else if other_timeline != timeline {
            let shown =
                |timeline: Option<u32>| timeline.map_or("unknown".into(), |t| t.to_string());
            findings.push(
                Finding::warning(
                    about,
                    format!(
                        "{name} is on timeline {}, {first} on {}: one of them may not follow a \
                         promotion",
                        shown(other_timeline),
                        shown(timeline),
                    ),
                )
                .fix("if it stays like that: pg_rewind, or a new base backup"),
            );
        }
    }
}

/// Each shard has rows of its own: no server is named for two of them.
pub(super) fn distinct(
    cluster: &ClusterConfig,
    shards: &[Vec<Probe>],
    findings: &mut Vec<Finding>,
) {
    let mut seen: Vec<(usize, &str)> = Vec::new();
    for (number, probes) in shards.iter().enumerate() {
        let system = probes.iter().find_map(|probe| probe.facts.as_ref().ok()?.system.as_deref());
        let Some(system) = system else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == system) {
            let text = format!("it is the same database as shard {other}: rows would count twice");
            let about = format!("{}.{number}", cluster.name);
            findings.push(Finding::problem(about, text).fix("name each shard's own servers"));
        }
        seen.push((number, system));
    }
}

fn one_primary(about: &str, probes: &[Probe], findings: &mut Vec<Finding>) {
    let primaries: Vec<&Probe> = probes
        .iter()
        .filter(|probe| probe.facts.as_ref().is_ok_and(|facts| facts.kind == Kind::Primary))
        .collect();
    if let [first, second, ..] = primaries[..] {
        let text = format!("{} and {} both take writes", first.name, second.name);
        findings.push(
            Finding::problem(about, text)
                .fix("one of them must be a standby of the other: fence it"),
        );
    }
    for probe in probes {
        let Ok(facts) = &probe.facts else { continue };
        match (probe.configured, facts.kind) {
            (Kind::Primary, Kind::Standby) => findings.push(
                Finding::problem(&probe.name, "it is configured as `primary` and is a standby")
                    .fix("name the server that was promoted as `primary`, this one in `replicas`"),
            ),
            (Kind::Standby, Kind::Primary) => findings.push(Finding::note(
                &probe.name,
                "it is configured as a replica and takes writes itself",
            )),
            _ => {}
        }
    }
}

/// Notes how far each standby is behind, where that can be told.
fn report(probe: &Probe, primary: Option<&Facts>) -> ServerReport {
    let facts = probe.facts.as_ref().ok();
    let is_standby = facts.is_some_and(|facts| facts.kind == Kind::Standby);
    let written = primary.and_then(|primary| primary.position);
    let replayed = facts.and_then(|facts| facts.position);
    let behind =
        written.zip(replayed).map(|(written, replayed)| written.0.saturating_sub(replayed.0));
    // An idle primary makes the age of the last transaction grow, and nobody is behind by that.
    let all_replayed = behind == Some(0)
        || (behind.is_none() && facts.is_some_and(|facts| facts.received == facts.position));
    let age = facts.and_then(|facts| facts.replayed_age);
    let lag = if all_replayed { Some(std::time::Duration::ZERO) } else { age };
    ServerReport {
        name: probe.name.clone(),
        configured: probe.configured,
        kind: facts.map(|facts| facts.kind),
        version: facts.map(|facts| facts.version.clone()),
        system: facts.and_then(|facts| facts.system.clone()),
        timeline: facts.and_then(|facts| facts.timeline),
        connect: facts.map(|facts| facts.connect),
        streaming: facts.and_then(|facts| facts.standby.streaming),
        lag_bytes: behind.filter(|_| is_standby),
        lag: lag.filter(|_| is_standby),
        position: replayed,
        fence: facts.filter(|_| is_standby).map(|facts| matches!(facts.fence, Ok(true))),
        cancel: facts.map(|facts| facts.cancel.is_ok()),
        cancel_took: facts.and_then(|facts| facts.cancel.as_ref().ok().copied()),
        reads: None,
        between: facts.and_then(between),
    }
}

fn between(facts: &Facts) -> Option<String> {
    let pooler = match facts.pooling {
        Pooling::None => None,
        Pooling::Session => Some("a pooler"),
        Pooling::Transaction => Some("a pooler in transaction mode"),
    };
    pooler.map(str::to_owned).or_else(|| facts.managed.clone())
}

fn lag(servers: &[ServerReport], findings: &mut Vec<Finding>) {
    for server in servers {
        if let Some(bytes) = server.lag_bytes.filter(|bytes| *bytes >= LAG_NOTABLE) {
            let text = format!("it is {} MiB of write-ahead log behind its primary", bytes >> 20);
            findings.push(Finding::warning(&server.name, text));
        }
    }
}

/// What the primary's settings promise for reads from these standbys.
fn freshness(
    primary: &Probe,
    facts: &Facts,
    probes: &[Probe],
    servers: &mut [ServerReport],
    findings: &mut Vec<Finding>,
) {
    let standbys: Vec<usize> =
        (0..probes.len()).filter(|at| servers[*at].kind == Some(Kind::Standby)).collect();
    let name = |at: &usize| probes[*at].facts.as_ref().ok().and_then(|f| f.standby.name.clone());
    let names: Vec<Option<String>> = standbys.iter().map(name).collect();
    let Some(list) = &facts.standby_names else { return };
    waits_for_nobody(primary, facts, findings);
    let mut behind = 0;
    for (at, promised) in standbys.iter().zip(promise(&facts.synchronous_commit, list, &names)) {
        let (name, reads) = (&probes[*at].name, &mut servers[*at].reads);
        match promised {
            Freshness::Current => *reads = Some(Reads::Current),
            Freshness::MayBeBehind(cause @ Cause::NameUnknown) => findings.push(
                Finding::warning(name, format!("whether it may be behind is unknown: {cause}"))
                    .fix("GRANT pg_monitor to this role, or set cluster_name on the standby"),
            ),
            Freshness::MayBeBehind(cause) => {
                *reads = Some(Reads::MayBeBehind);
                let text = format!("reads may miss an acknowledged write: {cause}");
                let mut finding = Finding::warning(name, text);
                finding.fix = match (behind, remedy(&names)) {
                    (0, Some(statements)) => Some(format!("on {}: {statements}", primary.name)),
                    (0, None) => None,
                    (_, _) => Some("the same".to_owned()),
                };
                behind += 1;
                findings.push(finding);
            }
        }
    }
    let all_current = standbys.iter().all(|at| servers[*at].reads == Some(Reads::Current));
    for weaker in facts.overrides.iter().filter(|_| all_current) {
        let text = format!("writes with {weaker} may be acknowledged before they can be read");
        findings.push(Finding::warning(&primary.name, text).fix("reset it for whoever writes"));
    }
}

/// A list that nobody can fulfil stops all writes.
fn waits_for_nobody(primary: &Probe, facts: &Facts, findings: &mut Vec<Finding>) {
    let (Some(list), Some(senders)) = (&facts.standby_names, &facts.senders) else { return };
    let is_listed = |name: &str| {
        list.names.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(name))
    };
    let there = senders.iter().filter(|one| one.streaming && is_listed(&one.name)).count();
    if there < list.needed {
        let text = format!(
            "writes wait for ever: synchronous_standby_names needs {} standbys, {there} stream",
            list.needed
        );
        findings.push(
            Finding::warning(&primary.name, text)
                .fix("bring the standby back, or take it out of synchronous_standby_names"),
        );
    }
}

#[cfg(test)]
mod tests;
