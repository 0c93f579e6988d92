//! Whether the clock is read when a load begins.
//!
//! A load that is ready at once and that nobody else asks for has no age, and reading the clock
//! would be a good part of what it costs. So it is read only where somebody is told when loads
//! begin, or where the last such load was not ready at once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::rt::time::Instant;
use crate::singleflight::config::{Config, Join};

pub(super) struct Clock {
    /// When its registry was made: no load began before that.
    pub(super) made: Instant,
    asked: AtomicBool,
}

impl Clock {
    pub(super) fn new(config: &Config, observed: bool) -> Self {
        let since = matches!(config.join, Join::Since(_));
        let asked = observed || config.is_paced() || config.boarding || since;
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
