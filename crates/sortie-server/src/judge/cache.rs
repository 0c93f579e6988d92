//! Verdicts that were given before.
//!
//! Two generations: when the young one is full it becomes the old one, and what the old one has
//! is found once more or forgotten. So both the number and the bytes are bounded, and a statement
//! that is still used stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Judged;
use crate::sql::Known;

/// Verdicts of one generation.
const VERDICTS_MAX: usize = 2_048;
/// Bytes of text of one generation.
const BYTES_MAX: usize = 2 << 20;
/// Bytes of one text that is remembered.
const TEXT_MAX: usize = 16 << 10;

/// A bounded map from statements to verdicts.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// What was known when these verdicts were given.
    known: Weak<Known>,
    young: HashMap<Key, Judged>,
    old: HashMap<Key, Judged>,
    bytes: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    text: Box<str>,
    oids: Box<[u32]>,
    spread: bool,
}

impl Cache {
    /// Returns the verdict on a text, given now unless it was before.
    pub(super) fn get(
        &self,
        text: &str,
        oids: &[u32],
        spread: bool,
        known: &Arc<Known>,
        judge: impl FnOnce() -> Judged,
    ) -> Judged {
        if text.len() > TEXT_MAX {
            return judge();
        }
        let key = Key { text: text.into(), oids: oids.into(), spread };
        if let Some(judged) = self.generations().find(&key, known) {
            return judged;
        }
        // Not under the lock: two may judge the same, and come to the same.
        let judged = judge();
        self.generations().add(key, judged.clone(), known);
        judged
    }

    fn generations(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&mut self, key: &Key, known: &Arc<Known>) -> Option<Judged> {
        if self.known.as_ptr() != Arc::as_ptr(known) {
            *self = Self { known: Arc::downgrade(known), ..Self::default() };
            return None;
        }
        if let Some(judged) = self.young.get(key) {
            return Some(judged.clone());
        }
        let (key, judged) = self.old.remove_entry(key)?;
        self.keep(key, judged.clone());
        Some(judged)
    }

    fn add(&mut self, key: Key, judged: Judged, known: &Arc<Known>) {
        if self.known.as_ptr() == Arc::as_ptr(known) {
            self.keep(key, judged);
        }
    }

    fn keep(&mut self, key: Key, judged: Judged) {
        if self.young.len() >= VERDICTS_MAX || self.bytes + key.text.len() > BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += key.text.len();
        self.young.insert(key, judged);
    }
}
