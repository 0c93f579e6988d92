//! Stamps: which values may be read, and which loads may be stored.
//!
//! Keys share a fixed number of slots by their hash. A slot has a *generation*, which an
//! invalidation moves on, and perhaps a *floor*, the position below which nothing is stored. Two
//! keys in one slot cost each other a miss, never a wrong answer; so nothing here needs evicting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::Fill;
use crate::Position;
use crate::rt::time::Instant;

/// Enough that a collision is rare among the keys written during one load.
const SLOTS_MAX: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 16;

/// A slot's generation at one moment: what a lease is issued under and a value is stored under.
///
/// The slot is in the low bits and the generation above them: every value carries one, and 48 bits
/// last for a million invalidations a second for eight years.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp(u64);

#[derive(Debug)]
pub(super) struct Stamps {
    generations: Box<[AtomicU64]>,
    /// At most one per slot.
    floors: RwLock<HashMap<usize, Floor>>,
    cooling: Duration,
}

#[derive(Debug)]
struct Floor {
    position: Position,
    /// Loads that began before this and can't be compared with the position are not stored.
    cool_at: Option<Instant>,
}

impl Stamps {
    pub(super) fn new(capacity: usize, cooling: Duration) -> Self {
        let slots = capacity.next_power_of_two().clamp(1 << 10, SLOTS_MAX);
        Self {
            generations: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            floors: RwLock::default(),
            cooling,
        }
    }

    pub(super) fn of(&self, hash: u64) -> Stamp {
        let slot = self.slot(hash);
        Stamp(self.generations[slot].load(Ordering::Acquire) | slot as u64)
    }

    /// Says whether nothing in the stamp's slot was invalidated since. To be asked after the value
    /// was read: asked before, an invalidation between the two would be missed.
    #[inline]
    pub(super) fn is_current(&self, stamp: Stamp) -> bool {
        let slot = stamp.slot();
        self.generations[slot].load(Ordering::Acquire) | slot as u64 == stamp.0
    }

    /// Makes every stamp of the slot outdated.
    pub(super) fn move_on(&self, hash: u64) {
        self.generations[self.slot(hash)].fetch_add(1 << SLOT_BITS, Ordering::AcqRel);
    }

    /// Raises the slot's floor. To be called before [`move_on`](Self::move_on): a lease of the new
    /// generation must find the floor there.
    pub(super) fn raise(&self, hash: u64, position: &Position) {
        let cool_at = Instant::now().checked_add(self.cooling);
        let mut floors = self.floors.write();
        let floor = floors
            .entry(self.slot(hash))
            .or_insert_with(|| Floor { position: position.clone(), cool_at });
        floor.cool_at = cool_at;
        let (raised, broken) = floor.position.raised(position);
        floor.position = raised;
        if broken {
            tracing::debug!("the history changed under a floor: its older part is forgotten");
        }
    }

    /// Says whether a load that began at `began` may be stored, as far as floors go.
    pub(super) fn admits(
        &self,
        stamp: Stamp,
        began: Instant,
        as_of: Option<&Position>,
    ) -> Result<(), Fill> {
        let floors = self.floors.read();
        let Some(floor) = floors.get(&stamp.slot()) else { return Ok(()) };
        match as_of.map(|as_of| as_of.reached(&floor.position)) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(Fill::Behind),
            Some(Err(_)) | None if floor.cool_at.is_some_and(|cool_at| began >= cool_at) => Ok(()),
            Some(Err(_)) | None => Err(Fill::Cooling),
        }
    }

    /// The high bits: the values' own table uses the low ones.
    fn slot(&self, hash: u64) -> usize {
        let bits = self.generations.len().trailing_zeros();
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits are left")]
        let slot = (hash >> (u64::BITS - bits)) as usize;
        slot
    }
}

impl Stamp {
    #[inline]
    fn slot(self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "16 bits are kept")]
        let slot = (self.0 & (SLOTS_MAX as u64 - 1)) as usize;
        slot
    }
}
