//! Metrics: what the library's ledgers and the server's own counters say, as a page of text.
//!
//! # Invariants
//!
//! 1. Nothing is counted here: a page shows one [`Snapshot`], whose parts come from those who do
//!    the counting.
//! 2. A gauge of something under way has `in_flight` in its name, and is zero when nobody asks for
//!    anything.
//!
//! The encoder appends `_total` to the names of counters.

mod front;
mod health;
mod lanes;
mod pools;
mod process;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sortie::{FlightStats, HedgeLedger, ScatterStats};
use sortie_postgres::PoolStats;
use sortie_sqlite::{Replica, ReplicaStats};

pub(crate) use self::process::ProcessStats;
use crate::budget::BudgetStats;
use crate::relay::{LaneStats, ReplicaHealth};
use crate::serve::ReloadStats;
use crate::session::ClientStats;

/// The content type of a [`page`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted, read at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) clients: ClientStats,
    /// What waits in memory, where that is bounded.
    pub(crate) budget: Option<BudgetStats>,
    pub(crate) flights: FlightStats,
    pub(crate) descriptions: FlightStats,
    pub(crate) hedge: HedgeLedger,
    pub(crate) legs: ScatterStats,
    /// The two lanes of each cluster by its name, where there are two.
    pub(crate) lanes: Vec<(String, LaneStats)>,
    /// The connections to each PostgreSQL server, by its cluster and address.
    pub(crate) pools: Vec<(String, PoolStats)>,
    /// Whether they answer, as far as they are watched.
    pub(crate) health: Vec<ReplicaHealth>,
    /// How reloads of the configuration ended, where there is one.
    pub(crate) reloads: Option<ReloadStats>,
    pub(crate) process: ProcessStats,
    /// Each replica by its label.
    pub(crate) replicas: Vec<(String, ReplicaStats)>,
}

/// Returns `snapshot` in the text format of `OpenMetrics`, which Prometheus reads.
pub(crate) fn page(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut page = String::with_capacity(8 << 10);
    text::encode(&mut page, &registry).expect("writing to a string never fails");
    page
}

/// Returns what each replica did so far, by label.
pub(crate) fn replicas<'a>(
    replicas: impl IntoIterator<Item = &'a Replica>,
) -> Vec<(String, ReplicaStats)> {
    replicas.into_iter().map(|replica| (replica.label().to_owned(), replica.stats())).collect()
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        front::build(&mut page)?;
        process::encode(&self.process, &mut page)?;
        self.encode_clients(&mut page)?;
        front::logins(&self.clients, &mut page)?;
        if let Some(reloads) = &self.reloads {
            front::reloads(reloads, &mut page)?;
        }
        if let Some(budget) = &self.budget {
            front::encode_budget(budget, &mut page)?;
        }
        if !self.lanes.is_empty() {
            lanes::encode(&self.lanes, &mut page)?;
        }
        if !self.pools.is_empty() {
            pools::encode(&self.pools, &mut page)?;
        }
        if !self.health.is_empty() {
            health::encode(&self.health, &mut page)?;
        }
        self.encode_flights(&mut page)?;
        self.encode_attempts(&mut page)?;
        self.encode_legs(&mut page)?;
        self.encode_replicas(&mut page)
    }
}

impl Snapshot {
    fn encode_clients(&self, page: &mut Page<'_>) -> fmt::Result {
        let clients = &self.clients;
        page.counter("client_connections", "Client connections accepted", clients.connections)?;
        page.gauge(
            "client_connections_in_flight",
            "Client connections now open",
            clients.connections_in_flight,
        )?;
        page.counter("client_statements", "Statements that clients sent", clients.statements)?;
        page.gauge(
            "client_statements_in_flight",
            "Statements of clients now running",
            clients.statements_in_flight,
        )?;
        page.counter("client_errors", "Errors reported to clients", clients.errors)?;
        page.counter("client_cancels", "Cancel requests with a right key", clients.cancels)?;
        page.counter(
            "client_stalls",
            "Connections ended as their client took nothing",
            clients.stalls,
        )?;
        page.counter("session_moves", "Sessions that went over to another core", clients.moves)
    }

    fn encode_flights(&self, page: &mut Page<'_>) -> fmt::Result {
        let flights = &self.flights;
        page.counters(
            "flights",
            "Reads by their role in a flight",
            "role",
            &[
                ("leader", flights.leaders),
                ("follower", flights.followers),
                ("solo", flights.solos),
            ],
        )?;
        page.counters(
            "flights_refused",
            "Reads that got no flight, by reason",
            "reason",
            &[
                ("busy", flights.busy),
                ("reentrant", flights.reentrant),
                ("expired", flights.expired),
            ],
        )?;
        page.counters(
            "flights_begun",
            "Flights by what began them",
            "cause",
            &[
                ("first", flights.leaders),
                ("next", flights.nexts),
                ("successor", flights.successors),
            ],
        )?;
        page.counters(
            "flights_ended",
            "Flights by how they ended",
            "outcome",
            &[
                ("landed", flights.landed),
                ("failed", flights.failed),
                ("panicked", flights.panicked),
                ("timed_out", flights.timed_out),
                ("aborted", flights.aborted),
                ("superseded", flights.superseded),
            ],
        )?;
        let descriptions = &self.descriptions;
        let loads = descriptions.leaders + descriptions.nexts + descriptions.successors;
        page.counter("descriptions_asked", "Descriptions asked of servers", loads)?;
        page.gauge("flights_in_flight", "Flights now running", flights.in_flight_flights)?;
        page.gauge("waiters_in_flight", "Reads now waiting", flights.in_flight_waiters)?;
        let untaken = "Bytes of answers that not all who share them have taken";
        page.gauge("shared_bytes_in_flight", untaken, flights.in_flight_bytes)
    }

    fn encode_attempts(&self, page: &mut Page<'_>) -> fmt::Result {
        let hedge = &self.hedge;
        page.counter("attempts", "Attempts started", hedge.attempts())?;
        page.counter("hedges", "Attempts started because others were slow", hedge.hedges)?;
        page.counter("hedge_wins", "Hedges that answered first", hedge.hedge_wins)?;
        page.counter("failovers", "Attempts started because another failed", hedge.failovers)?;
        page.counter("losers", "Attempts called back because another answered", hedge.lost)?;
        page.gauge("attempts_in_flight", "Attempts now running", hedge.in_flight())?;
        page.gauge(
            "hedged_reads_in_flight",
            "Reads of one shard now waiting for their first answer",
            hedge.requests_in_flight(),
        )
    }

    fn encode_legs(&self, page: &mut Page<'_>) -> fmt::Result {
        let legs = &self.legs;
        page.counters(
            "scatter_legs",
            "Legs of reads over several shards, by how they ended",
            "outcome",
            &[
                ("ok", legs.ok),
                ("failed", legs.failed),
                ("cancelled", legs.cancelled),
                ("timed_out", legs.timed_out),
                ("not_started", legs.not_started),
            ],
        )?;
        page.gauge("scatter_legs_in_flight", "Legs now running", legs.in_flight)
    }

    fn encode_replicas(&self, page: &mut Page<'_>) -> fmt::Result {
        let sum = |count: fn(&ReplicaStats) -> u64| -> u64 {
            self.replicas.iter().map(|(_, stats)| count(stats)).sum()
        };
        let each = |count: fn(&ReplicaStats) -> u64| -> Vec<(&str, u64)> {
            self.replicas.iter().map(|(label, stats)| (label.as_str(), count(stats))).collect()
        };
        page.counter(
            "backend_statements",
            "Statements that replicas began",
            sum(|stats| stats.statements),
        )?;
        page.counter(
            "backend_statements_cancelled",
            "Statements called back before replicas answered them",
            sum(|stats| stats.cancelled),
        )?;
        page.gauge(
            "backend_statements_in_flight",
            "Statements now queued at replicas or running there",
            sum(|stats| stats.in_flight),
        )?;
        page.counters(
            "replica_statements",
            "Statements begun, by replica",
            "replica",
            &each(|stats| stats.statements),
        )?;
        page.gauges(
            "replica_statements_in_flight",
            "Statements now queued or running, by replica",
            "replica",
            &each(|stats| stats.in_flight),
        )
    }
}

/// A page being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge, |metric| metric.encode_gauge(&value))
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Counter, |metric| {
            values.iter().try_for_each(|(value, count)| {
                let labels = [(label, *value)];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(count, None)
            })
        })
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge, |metric| {
            values.iter().try_for_each(|(value, count)| {
                metric.encode_family(&[(label, *value)])?.encode_gauge(count)
            })
        })
    }

    /// Gauges, or counters, with several labels each.
    fn labelled<V: AsRef<str>, L: AsRef<[(&'static str, V)]>>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        mut values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.metric(name, help, kind, |metric| {
            values.try_for_each(|(labels, count)| {
                let labels: Vec<(&str, &str)> =
                    labels.as_ref().iter().map(|(name, value)| (*name, value.as_ref())).collect();
                let mut family = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => {
                        family.encode_counter::<NoLabelSet, u64, u64>(&count, None)
                    }
                    _ => family.encode_gauge(&count),
                }
            })
        })
    }

    fn metric(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.named(&format!("sortie_{name}"), help, metric_type, encode)
    }

    /// A metric that is not sortie's own.
    fn named(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        encode(&mut self.0.encode_descriptor(name, help, None, metric_type)?)
    }
}

#[cfg(test)]
mod tests;
