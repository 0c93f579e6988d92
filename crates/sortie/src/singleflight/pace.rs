//! How long loads have taken lately, by key: what the soft age and a caller's chances are told by.
//!
//! Nothing is kept by key, for keys come and go: the hash picks one of a fixed number of slots, so
//! a slot speaks for all keys that fall into it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::observe::Ends;
use crate::rt::time::Instant;
use crate::singleflight::config::Config;
use crate::singleflight::table::Table;
use crate::singleflight::traffic::{Choice, Traffic};

/// 16 KiB. At ten thousand hot keys a slot speaks for two or three of them.
const SLOTS: usize = 4096;

/// One part in eight of each new load: a change is believed after about eight loads.
const WEIGHT: i64 = 8;

/// Moving averages in microseconds; zero is not known yet.
pub(super) struct Pace(Box<[AtomicU32]>);

impl Pace {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    fn slot(&self, hash: u64) -> &AtomicU32 {
        // Not the bits by which the key was given its shard.
        &self.0[(hash >> 12) as usize & (SLOTS - 1)]
    }

    /// A load of a key with this hash has returned a value.
    pub(super) fn note(&self, hash: u64, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let slot = self.slot(hash);
        // Two that note at once may lose one: it is an estimate.
        let old = slot.load(Relaxed);
        let new = if old == 0 {
            took
        } else {
            let (old, took) = (i64::from(old), i64::from(took));
            u32::try_from(old + (took - old) / WEIGHT).expect("it lies between the two")
        };
        slot.store(new.max(1), Relaxed);
    }

    /// How long the next load may be expected to take.
    pub(super) fn expected(&self, hash: u64) -> Option<Duration> {
        match self.slot(hash).load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }
}

impl<K, V, E> Table<K, V, E> {
    /// The soft age of a flight of a key with this hash that begins now.
    pub(super) fn soft_age(&self, hash: u64) -> Duration {
        let Config { soft_age, soft_factor, .. } = self.config;
        let Some((factor, floor)) = soft_factor else { return soft_age };
        match self.pace.as_ref().and_then(|pace| pace.expected(hash)) {
            Some(expected) => expected.saturating_mul(factor).max(floor).min(soft_age),
            None => soft_age,
        }
    }

    /// A flight has ended so, and how long its load took is remembered if anybody asks for it.
    pub(super) fn note(&self, hash: u64, how: Ends, began: Instant) {
        if let (Some(pace), Ends::Landed) = (&self.pace, how) {
            pace.note(hash, began.elapsed());
        }
    }

    /// Whether a caller with this deadline would wait in vain, as far as can be told.
    pub(super) fn too_late(
        &self,
        hash: u64,
        choice: Choice,
        traffic: &Traffic<V, E>,
        caller: (Option<Instant>, Instant),
    ) -> bool {
        let (Some(deadline), now) = caller else { return false };
        if !self.config.join_in_time {
            return false;
        }
        let Some(expected) = self.pace.as_ref().and_then(|pace| pace.expected(hash)) else {
            return false;
        };
        now + traffic.remaining(choice, expected, now) > deadline
    }
}
