//! What the three examples share: looking at a cluster, and the table they print.

mod table;

use sortie_sqlite::{Embedded, ReplicaStats, Rows, Value};

pub(crate) use self::table::{Fallible, Table, chain, ms};

/// Users in the examples' clusters: few, so that a cluster is there at once.
pub(crate) const USERS: u32 = 1_000;

/// What all replicas of a cluster did so far, and what they do now.
pub(crate) fn stats(embedded: &Embedded) -> ReplicaStats {
    let mut sum = ReplicaStats::default();
    for stats in embedded.shards().iter().flatten().map(sortie_sqlite::Replica::stats) {
        sum.statements += stats.statements;
        sum.cancelled += stats.cancelled;
        sum.in_flight += stats.in_flight;
        sum.running += stats.running;
    }
    sum
}

/// The integer in the first column of the first row.
pub(crate) fn first_int(rows: &Rows) -> i64 {
    match rows.rows.first().and_then(|row| row.first()) {
        Some(Value::Int(value)) => *value,
        other => panic!("every query of the examples returns an integer, not {other:?}"),
    }
}
