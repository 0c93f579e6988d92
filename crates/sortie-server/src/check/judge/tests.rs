use std::time::Duration;

use sortie_postgres::{Address, ConnInfo};

use super::super::lsn::Lsn;
use super::super::probe::{Sender, StandbyFacts};
use super::super::promise::StandbyNames;
use super::super::report::Level;
use super::*;
use crate::config::ServerConfig;

fn cluster() -> ClusterConfig {
    let mut cluster = ClusterConfig::named("bank");
    cluster.users = vec![crate::config::UserConfig::of(&cluster, "reader")];
    cluster
}

fn facts(kind: Kind) -> Facts {
    Facts {
        connect: Duration::from_millis(2),
        kind,
        version: "15.14 (Debian)".into(),
        version_number: 150_014,
        system: Some("7".into()),
        timeline: Some(1),
        synchronous_commit: "remote_apply".into(),
        standby_names: StandbyNames::parse("ANY 2 (s1, s2)").ok(),
        feedback: true,
        streaming_delay: "30s".into(),
        max_connections: 100,
        encoding: "UTF8".into(),
        managed: None,
        pooling: Pooling::None,
        notices_vanished: true,
        cancel: Ok(Duration::from_millis(3)),
        fence: Ok(kind == Kind::Standby),
        standby: StandbyFacts::default(),
        senders: Some(
            ["s1", "s2"].map(|name| Sender { name: name.into(), streaming: true }).to_vec(),
        ),
        overrides: Vec::new(),
        position: Some(Lsn(1_000)),
        received: Some(Lsn(1_000)),
        replayed_age: Some(Duration::from_secs(60)),
        locked_out: Vec::new(),
    }
}

fn probe(name: &str, configured: Kind, change: impl FnOnce(&mut Facts)) -> Probe {
    let mut facts = facts(configured);
    if configured == Kind::Standby {
        let standby = &mut facts.standby;
        (standby.name, standby.streaming) = (Some(name.to_owned()), Some(true));
    }
    change(&mut facts);
    Probe { name: name.into(), configured, facts: Ok(facts), session: None }
}

/// A primary and two standbys that are as they should be.
fn sound() -> [Probe; 3] {
    [
        probe("p", Kind::Primary, |_| {}),
        probe("s1", Kind::Standby, |_| {}),
        probe("s2", Kind::Standby, |_| {}),
    ]
}

fn judged(probes: &[Probe]) -> (ShardReport, Vec<Finding>) {
    let mut findings = Vec::new();
    let report = shard(&cluster(), 0, probes, &mut findings);
    (report, findings)
}

#[track_caller]
fn found(probes: &[Probe], level: Level, about: &str, what: &str) {
    let (_report, findings) = judged(probes);
    let is_it = |one: &Finding| one.level == level && one.about == about && one.what.contains(what);
    assert!(findings.iter().any(is_it), "{about}: {what}: {findings:#?}");
}

#[test]
fn a_sound_shard_has_nothing_to_say() {
    let (report, findings) = judged(&sound());
    assert_eq!(findings, []);
    assert!(report.hedge);
    assert_eq!(
        report.servers.iter().map(|server| server.reads).collect::<Vec<_>>(),
        [None, Some(Reads::Current), Some(Reads::Current)]
    );
    assert_eq!(report.servers[1].lag, Some(Duration::ZERO), "the primary is idle, not ahead");
}

#[test]
fn standbys_that_may_be_behind_are_named_with_what_to_set() {
    let mut probes = sound();
    probes[0] = probe("p", Kind::Primary, |facts| {
        facts.standby_names = StandbyNames::parse("FIRST 1 (s1, s2)").ok();
    });
    found(&probes, Level::Warning, "s2", "FIRST 1 of 2 standbys confirm");
    let (report, findings) = judged(&probes);
    assert_eq!(report.servers[2].reads, Some(Reads::MayBeBehind));
    let fix = findings.iter().find_map(|finding| finding.fix.as_deref()).unwrap();
    assert!(fix.contains("on p: ALTER SYSTEM") && fix.contains("ANY 2 (\"s1\", \"s2\")"), "{fix}");
    probes[0] = probe("p", Kind::Primary, |facts| {
        facts.overrides = vec!["role batch: synchronous_commit=off".into()];
    });
    found(&probes, Level::Warning, "p", "role batch: synchronous_commit=off");
}

#[test]
fn a_list_that_nobody_fulfils_is_noticed() {
    let mut probes = sound();
    probes[0] = probe("p", Kind::Primary, |facts| facts.senders.as_mut().unwrap().truncate(1));
    found(&probes, Level::Warning, "p", "writes wait for ever: synchronous_standby_names needs 2");
}

#[test]
fn what_does_not_work_is_a_problem() {
    let s1 = |change: fn(&mut Facts)| {
        let mut probes = sound();
        probes[1] = probe("s1", Kind::Standby, change);
        probes
    };
    let problem = |change, about, what| found(&s1(change), Level::Problem, about, what);
    problem(|facts| facts.cancel = Err("lost".into()), "s1", "can't be cancelled: lost");
    problem(|facts| facts.fence = Ok(false), "s1", "fenced by a position");
    problem(|facts| facts.pooling = Pooling::Transaction, "s1", "transaction mode");
    problem(|facts| facts.system = Some("8".into()), "bank.0", "s1 is no copy of p");
    problem(|facts| facts.kind = Kind::Primary, "bank.0", "p and s1 both take writes");
    problem(|facts| facts.locked_out = vec![("w".into(), "no".into())], "s1", "role w can't log");
    let mut probes = sound();
    probes[0].facts = Err("nobody answers there".into());
    found(&probes, Level::Problem, "p", "nobody answers");
    probes[0] = probe("p", Kind::Primary, |facts| facts.kind = Kind::Standby);
    found(&probes, Level::Problem, "p", "configured as `primary` and is a standby");
}

#[test]
fn what_works_otherwise_than_expected_is_a_warning() {
    let s1 = |change: fn(&mut Facts), about, what| {
        let mut probes = sound();
        probes[1] = probe("s1", Kind::Standby, change);
        found(&probes, Level::Warning, about, what);
    };
    s1(|facts| facts.pooling = Pooling::Session, "s1", "a pooler or proxy");
    s1(|facts| facts.timeline = Some(2), "bank.0", "s1 is on timeline 2, p on 1");
    s1(|facts| facts.standby.paused = true, "s1", "replay is paused");
    s1(|facts| facts.standby.streaming = Some(false), "s1", "does not stream");
    s1(|facts| facts.notices_vanished = false, "s1", "client_connection_check_interval");
    let mut probes = sound();
    let far = 64 << 20;
    probes[0] = probe("p", Kind::Primary, |facts| facts.position = Some(Lsn(far)));
    probes[1] = probe("s1", Kind::Standby, |_| {});
    found(&probes, Level::Warning, "s1", "63 MiB of write-ahead log behind");
}

#[test]
fn without_a_second_reader_nobody_can_be_outrun() {
    let [primary, standby, _] = sound();
    let probes = [primary, standby];
    assert!(!judged(&probes).0.hedge);
    found(&probes, Level::Warning, "bank.0", "can't be outrun");
    let replicas_only = &sound()[1..];
    assert!(judged(replicas_only).0.hedge);
    found(replicas_only, Level::Note, "bank.0", "is unknown: no primary");
}

#[test]
fn pools_are_counted_together_where_clusters_share_a_server() {
    let named = |name: &str, servers: &[&str]| {
        let server = |name: &&str| ServerConfig {
            name: (*name).to_owned(),
            info: ConnInfo::new(Address::tcp(*name, 5432), "u", "d"),
        };
        let mut cluster = ClusterConfig::named(name);
        let replicas = servers.iter().map(server).collect();
        cluster.shards = vec![ShardConfig { primary: None, replicas }];
        cluster
    };
    let clusters = [named("a", &["s1"]), named("b", &["s1", "s2"]), named("c", &["s2"])];
    let said = |at: usize, max_connections| {
        let of = |name| probe(name, Kind::Standby, |it| it.max_connections = max_connections);
        let mut findings = Vec::new();
        crowded((&clusters, &clusters[at]), &[vec![of("s1"), of("s2")]], &mut findings);
        findings.into_iter().map(|it| format!("{}: {}", it.about, it.what)).collect::<Vec<_>>()
    };
    assert_eq!(said(0, 40), Vec::<String>::new());
    let together = |server, names| {
        format!(
            "{server}: pool.connections_max of the clusters {names} together is 40, and the \
             server takes 39"
        )
    };
    assert_eq!(said(0, 39), [together("s1", "a, b")]);
    // What is shared with the first one was told there.
    assert_eq!(said(1, 39), [together("s2", "b, c")]);
    assert_eq!(said(2, 39), Vec::<String>::new());
    let alone = [named("a", &["s1"])];
    let probes = [vec![probe("s1", Kind::Standby, |it| it.max_connections = 19)]];
    let mut findings = Vec::new();
    crowded((&alone, &alone[0]), &probes, &mut findings);
    assert_eq!(findings[0].what, "pool.connections_max is 20, and the server takes 19");
}
