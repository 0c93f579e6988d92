//! Reads whose answer was too big to be shared, or took too long: for some seconds nobody tries
//! again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::key::ReadKey;

/// How long it is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// How many are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// The reads, each with the time until which it is believed to be too big.
#[derive(Debug, Default)]
pub(super) struct TooBig(Mutex<HashMap<ReadKey, Instant>>);

impl TooBig {
    /// Whether a read is known to be too big.
    pub(super) fn has(&self, key: &ReadKey) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(key) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                known.remove(key);
                false
            }
            None => false,
        }
    }

    /// Remembers a read that was.
    pub(super) fn add(&self, key: ReadKey) {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, until| *until > now);
        }
        if known.len() < REMEMBERED_MAX {
            known.insert(key, now + BELIEVED);
        }
    }
}
