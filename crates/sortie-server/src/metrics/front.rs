//! The page's part about who is let in, what waits for slow clients, and what was done about the
//! configuration.

use std::fmt;

use prometheus_client::metrics::MetricType;

use super::Page;
use crate::budget::BudgetStats;
use crate::serve::ReloadStats;
use crate::session::ClientStats;

/// Gauges that are not zero when nobody asks for anything.
#[cfg(test)]
pub(super) const RESTING: &[&str] = &[
    "sortie_buffered_bytes_max",
    "sortie_config_in_force",
    "sortie_config_read_timestamp_seconds",
    "sortie_build_info",
];

/// Writes who was let in and who was not.
pub(super) fn logins(clients: &ClientStats, page: &mut Page<'_>) -> fmt::Result {
    page.counter("client_logins", "Sessions that began", clients.logins)?;
    let help = "Clients that were not let in, by reason";
    page.counters("logins_refused", help, "reason", &clients.refusals)
}

/// Writes how reloads ended, and how the last one did.
pub(super) fn reloads(reloads: &ReloadStats, page: &mut Page<'_>) -> fmt::Result {
    let help = "How often the configuration was read again, by what came of it";
    page.counters("config_reloads", help, "outcome", &reloads.outcomes)?;
    let help = "Whether what the configuration said when it was last read is in force (1 or 0)";
    page.gauge("config_in_force", help, reloads.is_in_force.into())?;
    let help = "When the configuration that is in force was last read, in seconds since 1970";
    page.gauge("config_read_timestamp_seconds", help, reloads.read_at)
}

/// Writes which version this is.
pub(super) fn build(page: &mut Page<'_>) -> fmt::Result {
    let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
    let shown = ("build_info", "Which version of sortie this is", MetricType::Gauge);
    page.labelled(shown, version.into_iter())
}

/// Writes what waits in memory, and what was done about it.
pub(super) fn encode_budget(budget: &BudgetStats, page: &mut Page<'_>) -> fmt::Result {
    let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
    let used = "Bytes that wait in memory for clients";
    page.gauge("buffered_bytes_in_flight", used, count(budget.used))?;
    page.gauge("buffered_bytes_max", "How many may", count(budget.used_max))?;
    let holders = "Clients that hold some of them, besides shared answers";
    page.gauge("buffering_clients_in_flight", holders, count(budget.holders))?;
    let ended = "Clients ended because too many bytes waited, and they held many for long";
    page.counter("client_evictions", ended, budget.ended)
}
