//! The page's part about lanes.

use std::fmt;

use super::Page;
use crate::relay::LaneStats;

pub(super) fn encode(lanes: &LaneStats, page: &mut Page<'_>) -> fmt::Result {
    let piped = lanes.piped.iter().map(|(_, count)| count).sum();
    page.counters(
        "lane_statements",
        "Statements of clients by their lane",
        "lane",
        &[("shared", lanes.shared), ("pipe", piped), ("refused", lanes.refused)],
    )?;
    page.counters(
        "pipe_statements",
        "Statements that took the pipe lane, by reason",
        "reason",
        &lanes.piped,
    )?;
    page.counter("observed_statements", "Statements that would have been shared", lanes.observed)?;
    page.counter(
        "observed_microseconds",
        "What servers took for statements that would have been shared",
        lanes.observed_micros,
    )?;
    page.counter("pins", "Server connections taken by sessions", lanes.pins)?;
    page.gauge("pins_in_flight", "Server connections now held by sessions", lanes.pinned)?;
    page.counter("replays", "Statements run again on another connection", lanes.replays)?;
    page.counters(
        "dirty_sessions",
        "Sessions that became dirty, by reason",
        "reason",
        &lanes.dirty,
    )?;
    page.gauge("dirty_sessions_in_flight", "Sessions now dirty", lanes.dirty_now)?;
    page.counter("cancels_forwarded", "Cancel requests forwarded to servers", lanes.cancels)?;
    page.counter("connections_lost", "Server connections lost under a session", lanes.lost)
}
