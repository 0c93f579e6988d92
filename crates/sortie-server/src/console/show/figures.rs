//! What was done so far, and lately, by database.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Console;
use super::super::table::{Cell, Column, Kind, Table};
use crate::relay::roster::Totals;

pub(super) const STATS: &[Column] = &[
    ("database", Kind::Text),
    ("total_xact_count", Kind::Numeric),
    ("total_query_count", Kind::Numeric),
    ("total_received", Kind::Numeric),
    ("total_sent", Kind::Numeric),
    ("total_xact_time", Kind::Numeric),
    ("total_query_time", Kind::Numeric),
    ("total_wait_time", Kind::Numeric),
    ("avg_xact_count", Kind::Numeric),
    ("avg_query_count", Kind::Numeric),
    ("avg_recv", Kind::Numeric),
    ("avg_sent", Kind::Numeric),
    ("avg_xact_time", Kind::Numeric),
    ("avg_query_time", Kind::Numeric),
    ("avg_wait_time", Kind::Numeric),
];

pub(super) const SUMS: &[Column] = &[
    ("database", Kind::Text),
    ("xact_count", Kind::Numeric),
    ("query_count", Kind::Numeric),
    ("bytes_received", Kind::Numeric),
    ("bytes_sent", Kind::Numeric),
    ("xact_time", Kind::Numeric),
    ("query_time", Kind::Numeric),
    ("wait_time", Kind::Numeric),
];

pub(super) const TOTALS: &[Column] = &[("name", Kind::Text), ("value", Kind::Numeric)];

/// The names of the seven numbers in `SHOW TOTALS`.
const NAMES: [&str; 7] = [
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
];

impl Console {
    pub(super) fn stats(&self, table: &mut Table) {
        for (database, (total, average)) in self.figures() {
            let cells = sums(&total).into_iter().chain(average).map(Cell::from);
            table.rows.push([database.into()].into_iter().chain(cells).collect());
        }
    }

    pub(super) fn stats_totals(&self, table: &mut Table) {
        for (database, (total, _)) in self.figures() {
            let cells = sums(&total).into_iter().map(Cell::from);
            table.rows.push([database.into()].into_iter().chain(cells).collect());
        }
    }

    pub(super) fn stats_averages(&self, table: &mut Table) {
        for (database, (_, average)) in self.figures() {
            let cells = average.into_iter().map(Cell::from);
            table.rows.push([database.into()].into_iter().chain(cells).collect());
        }
    }

    pub(super) fn totals(&self, table: &mut Table) {
        let mut sum = Totals::default();
        for one in self.roster.totals().values() {
            sum.add(one);
        }
        let mut lately = Totals::default();
        let (time, recent) = self.roster.lately();
        for one in recent.values() {
            lately.add(one);
        }
        for (prefix, values) in [("total", sums(&sum)), ("avg", averages(&lately, time))] {
            for (name, value) in NAMES.iter().zip(values) {
                table.row([format!("{prefix}_{name}").into(), value.into()]);
            }
        }
    }

    /// Sums and averages of each database that there is.
    fn figures(&self) -> BTreeMap<String, (Totals, [u64; 7])> {
        let (time, lately) = self.roster.lately();
        let totals = self.roster.totals();
        let config = self.subject.config();
        let clusters = config.clusters.iter().map(|cluster| cluster.name.as_str());
        let names = clusters.chain([config.console.database.as_str()]);
        let figures = names.map(|name| {
            let total = totals.get(name).copied().unwrap_or_default();
            let recent = lately.get(name).copied().unwrap_or_default();
            (name.to_owned(), (total, averages(&recent, time)))
        });
        figures.collect()
    }
}

fn sums(totals: &Totals) -> [u64; 7] {
    [
        totals.transactions,
        totals.statements,
        totals.received,
        totals.sent,
        totals.transaction_micros,
        totals.statement_micros,
        totals.wait_micros,
    ]
}

/// Counts and bytes in a second, times of one transaction or statement, and of waiting in a second.
fn averages(totals: &Totals, time: Duration) -> [u64; 7] {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let in_second = |count: u64| count.saturating_mul(1_000) / millis;
    let of_one = |micros: u64, count: u64| micros.checked_div(count).unwrap_or(0);
    [
        in_second(totals.transactions),
        in_second(totals.statements),
        in_second(totals.received),
        in_second(totals.sent),
        of_one(totals.transaction_micros, totals.transactions),
        of_one(totals.statement_micros, totals.statements),
        in_second(totals.wait_micros),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_of_a_second_or_of_one() {
        let totals = Totals {
            transactions: 20,
            statements: 40,
            received: 1_000,
            sent: 3_000,
            transaction_micros: 4_000,
            statement_micros: 2_000,
            wait_micros: 1_000,
        };
        let two_seconds = averages(&totals, Duration::from_secs(2));
        assert_eq!(two_seconds, [10, 20, 500, 1_500, 200, 50, 500]);
        assert_eq!(averages(&Totals::default(), Duration::ZERO), [0; 7]);
    }
}
