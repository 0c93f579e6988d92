//! The page's part about lanes, by cluster.

use std::fmt;

use prometheus_client::metrics::MetricType::{self, Counter, Gauge};

use super::Page;
use crate::relay::LaneStats;

/// Its name, what it means, its kind, a label besides the cluster's, and its value by that label.
type Shown = (
    &'static str,
    &'static str,
    MetricType,
    Option<&'static str>,
    fn(&LaneStats) -> Vec<(&'static str, u64)>,
);

const SHOWN: [Shown; 18] = [
    ("lane_statements", "Statements of clients by their lane", Counter, Some("lane"), |it| {
        let piped = it.piped.iter().map(|(_, count)| count).sum();
        vec![("shared", it.shared), ("pipe", piped), ("refused", it.refused)]
    }),
    (
        "pipe_statements",
        "Statements that took the pipe lane, by reason",
        Counter,
        Some("reason"),
        |it| it.piped.clone(),
    ),
    (
        "lone_statements",
        "Shared statements that nobody else asked for at the time, and that were read by no flight",
        Counter,
        None,
        |it| alone(it.lone),
    ),
    (
        "large_answers",
        "Answers too big to be shared, passed on as they came",
        Counter,
        None,
        |it| alone(it.large),
    ),
    ("observed_statements", "Statements that would have been shared", Counter, None, |it| {
        alone(it.observed)
    }),
    (
        "observed_microseconds",
        "What servers took for statements that would have been shared",
        Counter,
        None,
        |it| alone(it.observed_micros),
    ),
    (
        "observed_saved_statements",
        "Statements that an equal one's answer would have done for, had they been shared",
        Counter,
        None,
        |it| alone(it.saved),
    ),
    ("observed_saved_microseconds", "What servers took for these", Counter, None, |it| {
        alone(it.saved_micros)
    }),
    (
        "observed_unfollowed_statements",
        "Statements that would have been shared, and may or may not have been saved by it",
        Counter,
        None,
        |it| alone(it.blind),
    ),
    (
        "lazy_transactions",
        "Transactions begun without a server, by whether they needed one before their end",
        Counter,
        Some("server"),
        |it| vec![("none", it.spared), ("needed", it.begun)],
    ),
    ("pins", "Server connections taken by sessions", Counter, None, |it| alone(it.pins)),
    ("pins_in_flight", "Server connections now held by sessions", Gauge, None, |it| {
        alone(it.pinned)
    }),
    ("replays", "Statements run again on another connection", Counter, None, |it| {
        alone(it.replays)
    }),
    ("mended_batches", "Batches sent again with a statement prepared anew", Counter, None, |it| {
        alone(it.mended)
    }),
    ("dirty_sessions", "Sessions that became dirty, by reason", Counter, Some("reason"), |it| {
        it.dirty.clone()
    }),
    ("dirty_sessions_in_flight", "Sessions now dirty", Gauge, None, |it| alone(it.dirty_now)),
    ("cancels_forwarded", "Cancel requests forwarded to servers", Counter, None, |it| {
        alone(it.cancels)
    }),
    ("connections_lost", "Server connections lost under a session", Counter, None, |it| {
        alone(it.lost)
    }),
];

fn alone(value: u64) -> Vec<(&'static str, u64)> {
    vec![("", value)]
}

pub(super) fn encode(clusters: &[(String, LaneStats)], page: &mut Page<'_>) -> fmt::Result {
    SHOWN.iter().try_for_each(|(name, help, kind, label, of)| {
        let values = clusters.iter().flat_map(|(cluster, lanes)| {
            of(lanes).into_iter().map(move |(value, count)| {
                let mut labels = vec![("cluster", cluster.as_str())];
                labels.extend(label.map(|label| (label, value)));
                (labels, count)
            })
        });
        page.labelled((name, help, *kind), values)
    })
}
