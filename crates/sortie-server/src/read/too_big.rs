//! Reads whose answer was too big to be shared, or took too long: for some seconds nobody tries
//! again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::key::ReadKey;

/// How long it is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// How many are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// How many readers of one read ask at the same time where each asks for himself.
const ALONE_MAX: usize = 8;

/// The reads, each with the time until which it is believed to be too big.
#[derive(Debug, Default)]
pub(super) struct TooBig(Mutex<HashMap<ReadKey, (Instant, Why)>>);

/// Why a read is not shared.
#[derive(Clone, Debug)]
pub(super) enum Why {
    /// Its answer is too big: so many may ask at once.
    Big(Arc<Semaphore>),
    /// It takes longer than a flight may.
    Slow,
}

impl TooBig {
    /// Why a read is known not to be shared.
    pub(super) fn why(&self, key: &ReadKey) -> Option<Why> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(key) {
            Some((until, why)) if *until > Instant::now() => Some(why.clone()),
            Some(_) => {
                known.remove(key);
                None
            }
            None => None,
        }
    }

    /// Remembers a read that was too big. Returns the turns of those who ask by themselves.
    pub(super) fn add_big(&self, key: ReadKey) -> Arc<Semaphore> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = match known.get(&key) {
            // The same ones, for as long as it stays too big.
            Some((_, Why::Big(turns))) => Arc::clone(turns),
            _ => Arc::new(Semaphore::new(ALONE_MAX)),
        };
        remember(&mut known, key, Why::Big(Arc::clone(&turns)));
        turns
    }

    /// Remembers a read that took too long.
    pub(super) fn add_slow(&self, key: ReadKey) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remember(&mut known, key, Why::Slow);
    }
}

fn remember(known: &mut HashMap<ReadKey, (Instant, Why)>, key: ReadKey, why: Why) {
    let now = Instant::now();
    if known.len() >= REMEMBERED_MAX {
        known.retain(|_, (until, _)| *until > now);
    }
    if known.len() < REMEMBERED_MAX || known.contains_key(&key) {
        known.insert(key, (now + BELIEVED, why));
    }
}
