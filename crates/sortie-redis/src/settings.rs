//! What a cache was told when it was made.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) lease: Duration,
    pub(crate) lease_max: Duration,
    pub(crate) soft_ttl: Option<Duration>,
    pub(crate) hard_ttl: Duration,
    pub(crate) keep: Duration,
    pub(crate) early: f64,
    pub(crate) cooling: Duration,
    pub(crate) floor_ttl: Duration,
    pub(crate) local_max: usize,
    pub(crate) local_bound: Duration,
    pub(crate) owed_max: usize,
}

/// The ages of one value, in whole milliseconds: they differ by a tenth from value to value, so
/// that what was stored together does not end together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    pub(crate) fresh: u64,
    pub(crate) usable: u64,
    pub(crate) kept: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(100),
            lease: Duration::from_secs(1),
            lease_max: Duration::from_secs(5),
            soft_ttl: None,
            hard_ttl: Duration::from_secs(3_600),
            keep: Duration::ZERO,
            early: 1.0,
            cooling: Duration::from_secs(1),
            floor_ttl: Duration::from_secs(600),
            local_max: 0,
            local_bound: Duration::from_secs(1),
            owed_max: 10_000,
        }
    }
}

impl Settings {
    /// The ages of a value that may bring its own.
    pub(crate) fn ages(&self, fresh: Option<Duration>, usable: Option<Duration>) -> Ages {
        let factor = 0.9 + fastrand::f64() * 0.2;
        let usable = millis(usable.unwrap_or(self.hard_ttl).mul_f64(factor)).max(1);
        let fresh = fresh.or(self.soft_ttl);
        let fresh = fresh.map_or(usable, |soft| millis(soft.mul_f64(factor)));
        Ages { fresh: fresh.min(usable), usable, kept: usable.saturating_add(millis(self.keep)) }
    }

    /// How many load times ahead of its end a value is refreshed: exponentially distributed, so
    /// that of many readers one is early (`XFetch`).
    pub(crate) fn early_by(&self) -> f64 {
        let at_random = 1.0 - fastrand::f64(); // In (0, 1].
        -at_random.ln() * self.early
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
