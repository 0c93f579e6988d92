//! The page's part about whether PostgreSQL servers answer, and how far they are.

use std::fmt;

use prometheus_client::metrics::MetricType;

use super::Page;
use crate::relay::ReplicaHealth;

/// A name, what it means, and where it is.
type Shown = (&'static str, &'static str, fn(&ReplicaHealth) -> Option<u64>);

/// Gauges that are not zero when nobody asks for anything.
#[cfg(test)]
pub(super) const RESTING: &[&str] =
    &["sortie_replica_up", "sortie_replica_replayed_bytes", "sortie_replica_behind_bytes"];

pub(super) fn encode(health: &[ReplicaHealth], page: &mut Page<'_>) -> fmt::Result {
    let gauges: [Shown; 3] = [
        ("replica_up", "Whether the server answers (1 or 0), as far as anybody watches", |it| {
            Some(it.up.into())
        }),
        ("replica_replayed_bytes", "Where in the write-ahead log the standby is", |it| it.position),
        ("replica_behind_bytes", "How far it is behind the furthest of its shard", |it| it.behind),
    ];
    gauges.iter().try_for_each(|(name, help, of)| {
        let known = health.iter().filter_map(|it| Some((&it.labels, of(it)?)));
        page.labelled((name, help, MetricType::Gauge), known)
    })
}
