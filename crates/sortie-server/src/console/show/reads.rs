//! Shared reads: those under way, the replicas that they go to, and what is not shared, and why.

use super::super::Console;
use super::super::table::{Cell, Column, Kind, Table};
use crate::relay::ReplicaHealth;

/// Flights that are shown.
const FLIGHTS_MAX: usize = 1_000;

/// Characters of a statement that are shown.
const TEXT_MAX: usize = 300;

pub(super) const FLIGHTS: &[Column] = &[
    ("database", Kind::Text),
    ("flight", Kind::Int8),
    ("user", Kind::Text),
    ("age_us", Kind::Int8),
    ("waiters", Kind::Int4),
    ("waiting_for_next", Kind::Int4),
    ("protocol", Kind::Text),
    ("shards", Kind::Text),
    ("replicas", Kind::Text),
    ("statement", Kind::Text),
];

pub(super) const REPLICAS: &[Column] = &[
    ("database", Kind::Text),
    ("shard", Kind::Int4),
    ("replica", Kind::Text),
    ("state", Kind::Text),
    ("in_flight", Kind::Int4),
    ("latency_us", Kind::Int8),
    ("attempts", Kind::Int8),
    ("answered", Kind::Int8),
    ("failed", Kind::Int8),
    ("hedges", Kind::Int8),
    ("hedge_wins", Kind::Int8),
    ("position", Kind::Text),
    ("behind_bytes", Kind::Int8),
];

pub(super) const WHY: &[Column] = &[
    ("database", Kind::Text),
    ("lane", Kind::Text),
    ("reason", Kind::Text),
    ("meaning", Kind::Text),
    ("count", Kind::Int8),
    ("server_time_us", Kind::Int8),
    ("saved", Kind::Int8),
    ("saved_time_us", Kind::Int8),
    ("statement", Kind::Text),
];

impl Console {
    pub(super) fn flights(&self, table: &mut Table) {
        for (database, flight, replicas) in self.subject.flights(FLIGHTS_MAX) {
            let shards: Vec<_> = flight.shards.iter().map(u32::to_string).collect();
            table.row([
                database.into(),
                flight.number.into(),
                (*flight.user).into(),
                micros(flight.age).into(),
                flight.waiters.into(),
                flight.waiting_for_next.into(),
                flight.protocol.into(),
                shards.join(",").into(),
                replicas.join(",").into(),
                bounded(&flight.text).into(),
            ]);
        }
    }

    pub(super) fn replicas(&self, table: &mut Table) {
        let clusters = self.subject.clusters();
        let health: Vec<_> = clusters.iter().flat_map(|cluster| cluster.health()).collect();
        for (database, shard, replica, stats) in self.subject.replicas() {
            let labels = [&database, &shard.to_string(), &replica];
            let is_it = |it: &&ReplicaHealth| it.labels.iter().map(|label| &label.1).eq(labels);
            let health = health.iter().find(is_it);
            let state = health.map(|it| if it.up { "up" } else { "silent" });
            table.row([
                database.clone().into(),
                shard.into(),
                replica.clone().into(),
                // Nobody watches a primary that nothing but reads without a replica goes to.
                state.into(),
                stats.flights.len().into(),
                stats.usual.map(micros).into(),
                stats.begun.into(),
                stats.answered.into(),
                stats.failed.into(),
                stats.hedges.into(),
                stats.hedge_wins.into(),
                health.and_then(|it| it.position).map(lsn).into(),
                health.and_then(|it| it.behind).into(),
            ]);
        }
    }

    pub(super) fn why(&self, table: &mut Table) {
        for cluster in self.subject.clusters() {
            for (cause, stats) in cluster.insight.causes_by_time() {
                table.row([
                    cluster.config.name.as_str().into(),
                    "pipe".into(),
                    cause.reason.label().into(),
                    cause.reason.words().into(),
                    stats.count.into(),
                    stats.micros.into(),
                    stats.saved.into(),
                    stats.saved_micros.into(),
                    cause.text.as_deref().map_or(Cell::Null, Cell::from),
                ]);
            }
        }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A place in the write-ahead log, as PostgreSQL writes it.
fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

/// As much of a text as is shown, on one line.
fn bounded(text: &str) -> String {
    let mut shown: String = text.chars().take(TEXT_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(['\n', '\r', '\t'], " ")
}
