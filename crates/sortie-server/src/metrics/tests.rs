use super::*;
use crate::session::refusal::Refusals;

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.clients.statements = 200;
    snapshot.clients.refusals = Refusals::default().read();
    snapshot.clients = snapshot.clients.with_listened(3, 4);
    snapshot.process = ProcessStats::read();
    snapshot.budget = Some(BudgetStats { used: 30, used_max: 400, holders: 1, ended: 2 });
    snapshot.flights.leaders = 2;
    snapshot.flights.followers = 198;
    (snapshot.hedge.firsts, snapshot.hedge.hedges, snapshot.hedge.hedge_wins) = (4, 2, 1);
    snapshot.legs.ok = 3;
    let mut stats = ReplicaStats::default();
    (stats.statements, stats.in_flight) = (5, 1);
    snapshot.replicas = vec![("0.0".into(), stats), ("0.1".into(), stats)];
    let mut pool = PoolStats::default();
    (pool.idle, pool.cancelled) = (3, 2);
    snapshot.pools = vec![("shop/db1:5432".into(), pool), ("shop/db2:5432".into(), pool)];
    let (piped, dirty) = (vec![("lane", 3)], vec![("function", 1)]);
    let lanes = |shared| {
        let (piped, dirty) = (piped.clone(), dirty.clone());
        LaneStats { shared, piped, dirty, ..LaneStats::default() }
    };
    snapshot.lanes = vec![("shop".into(), lanes(5)), ("bank".into(), lanes(7))];
    let labels =
        |name: &str| [("cluster", "shop".into()), ("shard", "0".into()), ("replica", name.into())];
    let ahead = ReplicaHealth {
        labels: labels("db1:5432"),
        up: true,
        position: Some(300),
        behind: Some(0),
    };
    let silent = ReplicaHealth { labels: labels("db2:5432"), up: false, ..ahead.clone() };
    let primary =
        ReplicaHealth { labels: labels("db0:5432"), up: true, position: None, behind: None };
    snapshot.health =
        vec![primary, ahead, ReplicaHealth { position: Some(100), behind: Some(200), ..silent }];
    snapshot
}

#[test]
fn names_and_labels_are_those_that_dashboards_know() {
    let page = page(snapshot());
    for sample in [
        "sortie_client_statements_total 200",
        "sortie_logins_refused_total{reason=\"room\"} 3",
        "sortie_session_moves_total 4",
        "sortie_logins_refused_total{reason=\"password\"} 0",
        "sortie_backend_statements_total 10",
        "sortie_buffered_bytes_in_flight 30",
        "sortie_client_evictions_total 2",
        "sortie_flights_total{role=\"leader\"} 2",
        "sortie_flights_total{role=\"follower\"} 198",
        "sortie_hedges_total 2",
        "sortie_hedge_wins_total 1",
        "sortie_scatter_legs_total{outcome=\"ok\"} 3",
        "sortie_attempts_in_flight 6",
        "sortie_backend_statements_in_flight 2",
        "sortie_replica_statements_total{replica=\"0.1\"} 5",
        "sortie_server_connections_idle{server=\"shop/db2:5432\"} 3",
        "sortie_abandoned_queries_total{end=\"cancelled\"} 4",
        "sortie_lane_statements_total{cluster=\"shop\",lane=\"shared\"} 5",
        "sortie_lane_statements_total{cluster=\"bank\",lane=\"shared\"} 7",
        "sortie_pipe_statements_total{cluster=\"bank\",reason=\"lane\"} 3",
        "sortie_pins_in_flight{cluster=\"bank\"} 0",
        "sortie_replica_up{cluster=\"shop\",shard=\"0\",replica=\"db0:5432\"} 1",
        "sortie_replica_up{cluster=\"shop\",shard=\"0\",replica=\"db2:5432\"} 0",
        "sortie_replica_behind_bytes{cluster=\"shop\",shard=\"0\",replica=\"db2:5432\"} 200",
    ] {
        assert!(page.lines().any(|line| line == sample), "no {sample} in\n{page}");
    }
}

/// The rows that `docs/metrics.md` has to have, as the page describes itself.
fn rows(page: &str) -> Vec<String> {
    let lines: Vec<&str> = page.lines().collect();
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let samples = lines[at + 1..].iter().skip_while(|line| line.starts_with("# TYPE"));
        let labels: std::collections::BTreeSet<&str> = samples
            .take_while(|line| !line.starts_with('#'))
            .flat_map(|line| line.split_once('{').map_or("", |(_, rest)| rest).split(','))
            .filter_map(|label| label.split_once("=\"").map(|(name, _)| name))
            .collect();
        let is_counter = lines.contains(&&*format!("# TYPE {name} counter"));
        let (kind, end) = if is_counter { ("counter", "_total") } else { ("gauge", "") };
        let labels: Vec<&str> = labels.into_iter().collect();
        let help = help.trim_end_matches('.');
        rows.push(format!("| `{name}{end}` | {kind} | {} | {help} |", labels.join(", ")));
    }
    rows
}

#[test]
fn the_document_lists_all_series_and_no_other() {
    let mut snapshot = snapshot();
    let outcomes = [("applied", 1), ("unchanged", 2), ("refused", 3)];
    snapshot.reloads = Some(ReloadStats { outcomes, is_in_force: true, read_at: 1 });
    let expected = rows(&page(snapshot));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let found: Vec<&str> =
        text.lines().filter(|it| it.starts_with("| `") && it.matches('|').count() == 5).collect();
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(&row.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks:\n{missing:#?}");
    let gone: Vec<_> = found.iter().filter(|row| !expected.contains(&(**row).to_owned())).collect();
    assert!(gone.is_empty(), "docs/metrics.md has what the page has not:\n{gone:#?}");
}

/// The grammar of the text format, as far as this page uses it.
#[test]
fn the_page_is_well_formed_and_names_its_gauges_alike() {
    let page = page(snapshot());
    assert!(page.ends_with("# EOF\n"), "{page}");
    let mut described = Vec::new();
    let mut kind = "";
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert!(!described.contains(&name), "{name} is described twice");
            described.push(name);
            kind = of;
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| help.len() > 5), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<u64>().is_ok(), "{line}");
            let name = series.split('{').next().unwrap();
            let family = described.last().unwrap();
            match kind {
                "counter" => assert_eq!(name, format!("{family}_total")),
                "gauge" => {
                    let resting =
                        [pools::RESTING, health::RESTING, front::RESTING, process::RESTING]
                            .concat();
                    let fits = name.contains("in_flight") || resting.contains(&name);
                    assert!(name == *family && fits, "{line}");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(described.len() > 15);
}
