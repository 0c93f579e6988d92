//! The page's part about connections to PostgreSQL servers.

use std::fmt;

use sortie_postgres::PoolStats;

use super::Page;

type Pools = [(String, PoolStats)];

/// A name, what it means, and where it is.
type Shown = (&'static str, &'static str, fn(&PoolStats) -> u64);

/// Gauges that are not zero when nobody asks for anything.
#[cfg(test)]
pub(super) const RESTING: &[&str] =
    &["sortie_server_connections_idle", "sortie_cancel_cost_microseconds"];

pub(super) fn encode(pools: &Pools, page: &mut Page<'_>) -> fmt::Result {
    gauges(pools, page)?;
    counters(pools, page)
}

fn gauges(pools: &Pools, page: &mut Page<'_>) -> fmt::Result {
    let gauges: [Shown; 6] = [
        ("server_connections_idle", "Server connections that nobody uses", |it| it.idle.into()),
        ("server_connections_in_flight", "Server connections in use", |it| it.in_use.into()),
        ("server_connects_in_flight", "Server connections being opened", |it| it.connecting.into()),
        ("server_waiters_in_flight", "Who waits for a server connection", |it| it.waiting.into()),
        ("server_quarantined_in_flight", "Server connections whose query is being stopped", |it| {
            it.quarantined.into()
        }),
        ("cancel_cost_microseconds", "What a cancel takes at present", |it| {
            u64::try_from(it.cancel_cost.as_micros()).unwrap_or(u64::MAX)
        }),
    ];
    gauges
        .iter()
        .try_for_each(|(name, help, of)| page.gauges(name, help, "server", &each(pools, *of)))
}

fn counters(pools: &Pools, page: &mut Page<'_>) -> fmt::Result {
    let counters: [Shown; 8] = [
        ("server_connections", "Server connections opened", |it| it.opened),
        ("server_connect_failures", "Attempts to connect that failed", |it| it.open_failures),
        ("server_connections_closed", "Server connections closed", |it| it.closed),
        ("server_connections_broken", "Server connections found broken", |it| it.broken),
        ("server_checkouts", "Server connections handed out at once", |it| it.checkouts),
        ("server_checkouts_queued", "Callers that had to wait for one", |it| it.queued),
        ("server_checkouts_refused", "Callers that were told there is none", |it| it.refused),
        ("cancels_sent", "Cancel requests sent for queries nobody waits for", |it| it.cancels_sent),
    ];
    counters
        .iter()
        .try_for_each(|(name, help, of)| page.counters(name, help, "server", &each(pools, *of)))?;
    let sum = |of: fn(&PoolStats) -> u64| pools.iter().map(|(_, stats)| of(stats)).sum();
    page.counters(
        "abandoned_queries",
        "Queries nobody waited for any more, by how they ended",
        "end",
        &[
            ("drained", sum(|it| it.drained)),
            ("cancelled", sum(|it| it.cancelled)),
            ("closed", sum(|it| it.killed)),
        ],
    )
}

fn each(pools: &Pools, of: fn(&PoolStats) -> u64) -> Vec<(&str, u64)> {
    pools.iter().map(|(server, stats)| (server.as_str(), of(stats))).collect()
}
