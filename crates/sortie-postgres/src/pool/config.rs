//! What a pool may do, and what it counts.

use std::time::Duration;

use super::book::{Gauges, Limits};

/// The limits of one server's connections, over all roles, databases and parameters.
///
/// # Examples
///
/// ```
/// let mut config = sortie_postgres::PoolConfig::default();
/// config.size_max = 40;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Connections at most, whatever they do. Default 20.
    pub size_max: u32,
    /// Connections that [`Server::keep_warm`](crate::Server::keep_warm) keeps open for a login
    /// that nobody uses. Default 1.
    pub warm_min: u32,
    /// Attempts to connect at a time. Default 4.
    pub connecting_max: u32,
    /// Callers in the queue. Default 1,000.
    pub waiters_max: u32,
    /// Connections set apart at a time while their last query is being stopped; one more is
    /// closed. Default: three quarters of `size_max`.
    pub quarantined_max: Option<u32>,
    /// How many callers who came later may be served, at a full server, before a connection of
    /// another login is closed for the one who waits. Default 8.
    pub overtakes_max: u32,
    /// A connection is closed when it is so old, less up to a tenth at random. Default one hour.
    pub lifetime: Duration,
    /// A connection is closed when nobody has used it for so long. Default ten minutes.
    pub idle_timeout: Duration,
    /// The pause after a failure to connect; each further failure doubles it. Default 100 ms.
    pub backoff_min: Duration,
    /// The longest pause after failures to connect. Default ten seconds.
    pub backoff_max: Duration,
    /// Cancel requests under way at a time: for each one the server starts a process. Default 8.
    pub cancels_max: u32,
    /// How long a cancel request, or cleaning up behind a session, may take. Default five seconds.
    pub cancel_timeout: Duration,
    /// How long a query that nobody waits for may take to end by itself, at most, before it is
    /// cancelled: all of this if it is [expected](crate::Pooled::expect_end) to end sooner than a
    /// cancel would, as long as a cancel takes if nothing is known. Zero: not at all. Default
    /// 50 ms.
    pub drain_max: Duration,
    /// How often a server (14 or newer) looks whether we still are there while it runs a query.
    /// Zero leaves the server's own setting. Default 500 ms.
    pub check_interval: Duration,
    /// Uses a connection again before its cancel request has ended, which lets the request hit a
    /// stranger's query. It exists so that a test can show that it sees this.
    #[doc(hidden)]
    pub reuse_before_cancel_ends: bool,
}

/// A server's connections: how many there are now, and what has happened so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that nobody uses.
    pub idle: u32,
    /// Connections that somebody uses.
    pub in_use: u32,
    /// Connections that are being opened.
    pub connecting: u32,
    /// Callers in the queue.
    pub waiting: u32,
    /// Connections whose last query is being stopped.
    pub quarantined: u32,
    /// Connections opened.
    pub opened: u64,
    /// Attempts to connect that failed.
    pub open_failures: u64,
    /// Connections closed, for whatever reason.
    pub closed: u64,
    /// Of those, the ones that were found broken.
    pub broken: u64,
    /// Callers that got a connection at once.
    pub checkouts: u64,
    /// Callers that had to queue.
    pub queued: u64,
    /// Callers that were told that there is none: the queue was full, or their time was up.
    pub refused: u64,
    /// Queries that were left to end by themselves, and did so in time.
    pub drained: u64,
    /// Cancel requests sent.
    pub cancels_sent: u64,
    /// Connections that came back from a cancel.
    pub cancelled: u64,
    /// Connections closed because their query could not be stopped, or nobody knew if.
    pub killed: u64,
    /// What a cancel costs at present, from the decision to the connection's return.
    pub cancel_cost: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            size_max: 20,
            warm_min: 1,
            connecting_max: 4,
            waiters_max: 1_000,
            quarantined_max: None,
            overtakes_max: 8,
            lifetime: Duration::from_secs(3_600),
            idle_timeout: Duration::from_secs(600),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            cancels_max: 8,
            cancel_timeout: Duration::from_secs(5),
            drain_max: Duration::from_millis(50),
            check_interval: Duration::from_millis(500),
            reuse_before_cancel_ends: false,
        }
    }
}

impl PoolConfig {
    /// At least one of each, or nothing would ever happen.
    pub(super) fn limits(&self) -> Limits {
        let size_max = self.size_max.max(1);
        let quarantined_max = self.quarantined_max.unwrap_or(size_max - size_max / 4);
        Limits {
            size_max,
            connecting_max: self.connecting_max.max(1),
            waiters_max: self.waiters_max,
            quarantined_max,
            overtakes_max: self.overtakes_max,
            idle_timeout: self.idle_timeout,
            backoff: (self.backoff_min, self.backoff_max),
        }
    }

    /// When a connection that is opened now is too old, in time from now.
    pub(super) fn lifetime_of_one(&self) -> Duration {
        let tenths = fastrand::u32(0..=1_000);
        self.lifetime.saturating_sub(self.lifetime / 10 * tenths / 1_000)
    }
}

impl PoolStats {
    pub(super) fn of(counted: PoolStats, now: Gauges, cancel_cost: Duration) -> Self {
        let Gauges { idle, in_use, connecting, waiting, quarantined } = now;
        Self { idle, in_use, connecting, waiting, quarantined, cancel_cost, ..counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_live_for_up_to_a_tenth_less_and_differ() {
        let config = PoolConfig { lifetime: Duration::from_secs(3_600), ..PoolConfig::default() };
        let mut lives: Vec<_> = (0..1_000).map(|_| config.lifetime_of_one().as_secs()).collect();
        lives.sort_unstable();
        // Spread over the whole tenth: with chance alone this fails once in 10^40 runs.
        assert!((3_240..3_276).contains(&lives[0]), "{}", lives[0]);
        assert!((3_564..=3_600).contains(&lives[999]), "{}", lives[999]);
        assert!((3_384..3_456).contains(&lives[500]), "{}", lives[500]);
    }
}
