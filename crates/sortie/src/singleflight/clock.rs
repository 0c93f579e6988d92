//! Whether the clock is read when a load begins.
//!
//! Nobody asks for the age of a load that is over soon and that its caller has for itself, and
//! reading the clock would be a good part of what it costs. So it is read only where somebody is
//! told when loads begin, or where ages are short. Elsewhere a load's age counts from when somebody
//! else comes for its key, or from the look of its watcher before the one that found it: give or
//! take a few milliseconds from when it began, as long as its runtime keeps up.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::config::{Config, Join};

/// Beside ages from here on, the few milliseconds by which one may be mistaken are nothing.
const LONG: Duration = Duration::from_secs(1);

pub(super) struct Clock {
    /// When its registry was made: no load began before that.
    pub(super) made: Instant,
    asked: AtomicBool,
}

impl Clock {
    pub(super) fn new(config: &Config, observed: bool) -> Self {
        let since = matches!(config.join, Join::Since(_));
        let short = config.soft_age.min(config.flight_max) < LONG;
        let asked = observed || config.is_paced() || config.boarding || since || short;
        Self { made: Instant::now(), asked: AtomicBool::new(asked) }
    }

    /// Whether somebody is told when loads begin.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// Somebody is, from now on. A load that has begun already may be known only to have begun
    /// since the registry was made.
    #[inline]
    pub(super) fn ask(&self) {
        // Written once, so that all cores can go on reading it.
        if !self.is_asked() {
            self.asked.store(true, Relaxed);
        }
    }
}
