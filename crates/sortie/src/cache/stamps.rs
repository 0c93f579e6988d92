//! Stamps: which values may be read, and which loads may be stored.
//!
//! Keys share a fixed number of slots by their hash. A slot has a *generation*, which an
//! invalidation moves on, and perhaps a *floor*, the position below which nothing is stored. Two
//! keys in one slot cost each other a miss, never a wrong answer; so nothing here needs evicting.
//!
//! What concerns many keys is a *sweep*: sweeps are counted, and each leaves its number with the
//! tag it was for, or with everything. A value is outdated by sweeps of a higher number than the
//! last before its lease.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;

use super::{Fill, Tag};
use crate::Position;
use crate::rt::sync::{AtomicU64, RwLock};
use crate::rt::time::Instant;

/// Enough that a collision is rare among the keys written during one load.
const SLOTS_MAX: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 16;
/// Fewer where each explored schedule makes them anew.
const SLOTS_MIN: usize = if cfg!(sortie_shuttle) { 1 << 2 } else { 1 << 10 };

/// Tags share this many numbers by their hash; a power of two.
const TAGS: usize = if cfg!(sortie_shuttle) { 1 << 2 } else { 1 << 12 };

/// What a lease is issued under and a value is stored under: its slot's generation, and the last
/// sweep before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    mark: Mark,
    sweep: u64,
}

/// A slot's generation at one moment.
///
/// The slot is in the low bits and the generation above them: every value carries one, and 48 bits
/// last for a million invalidations a second for eight years.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Mark(u64);

#[derive(Debug)]
pub(super) struct Stamps {
    generations: Box<[AtomicU64]>,
    /// At most one per slot, per number of tags, and for everything.
    floors: RwLock<HashMap<Under, Floor>>,
    cooling: Duration,
    sweeps: AtomicU64,
    everything: AtomicU64,
    tags: Box<[AtomicU64]>,
}

/// What a floor is for, or a sweep.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Under {
    Slot(usize),
    Tag(usize),
    Everything,
}

#[derive(Debug)]
struct Floor {
    position: Position,
    /// Loads that began before this and can't be compared with the position are not stored.
    cool_at: Option<Instant>,
}

impl Stamps {
    pub(super) fn new(capacity: usize, cooling: Duration) -> Self {
        let slots = capacity.next_power_of_two().clamp(SLOTS_MIN, SLOTS_MAX);
        Self {
            generations: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            floors: RwLock::default(),
            cooling,
            sweeps: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            tags: (0..TAGS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn of(&self, hash: u64) -> Stamp {
        let slot = self.slot(hash);
        let mark = Mark(self.generations[slot].load(Ordering::Acquire) | slot as u64);
        Stamp { mark, sweep: self.sweeps.load(Ordering::Acquire) }
    }

    /// Says whether nothing in the stamp's slot, and not everything, was invalidated since. To be
    /// asked after the value was read: asked before, an invalidation between the two would be
    /// missed.
    #[inline]
    pub(super) fn is_current(&self, stamp: Stamp) -> bool {
        let slot = stamp.mark.slot();
        self.generations[slot].load(Ordering::Acquire) | slot as u64 == stamp.mark.0
            && self.everything.load(Ordering::Acquire) <= stamp.sweep
    }

    /// Says the same of tags.
    pub(super) fn are_current(&self, tags: &[Tag], stamp: Stamp) -> bool {
        tags.iter().all(|&tag| self.tags[tag_place(tag)].load(Ordering::Acquire) <= stamp.sweep)
    }

    /// The number of the last sweep.
    pub(super) fn last_sweep(&self) -> u64 {
        self.sweeps.load(Ordering::Acquire)
    }

    /// Outdates all values with a tag, or all. Its floor, if any, is to be raised before.
    pub(super) fn sweep(&self, under: Under) {
        let number = self.sweeps.fetch_add(1, Ordering::AcqRel) + 1;
        match under {
            Under::Tag(place) => &self.tags[place],
            Under::Everything | Under::Slot(_) => &self.everything,
        }
        .fetch_max(number, Ordering::AcqRel);
    }

    /// Makes every stamp of the slot outdated.
    pub(super) fn move_on(&self, hash: u64) {
        self.generations[self.slot(hash)].fetch_add(1 << SLOT_BITS, Ordering::AcqRel);
    }

    /// What a key's floor is under.
    pub(super) fn under(&self, hash: u64) -> Under {
        Under::Slot(self.slot(hash))
    }

    /// Raises a floor. To be called before [`move_on`](Self::move_on): a lease of the new
    /// generation must find the floor there.
    pub(super) fn raise(&self, under: Under, position: &Position) {
        let cool_at = Instant::now().checked_add(self.cooling);
        let mut floors = self.floors.write();
        let floor =
            floors.entry(under).or_insert_with(|| Floor { position: position.clone(), cool_at });
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
        tags: &[Tag],
    ) -> Result<(), Fill> {
        let floors = self.floors.read();
        if floors.is_empty() {
            return Ok(());
        }
        let of_tags = tags.iter().map(|&tag| Under::Tag(tag_place(tag)));
        let all = [Under::Slot(stamp.mark.slot()), Under::Everything].into_iter().chain(of_tags);
        all.filter_map(|under| floors.get(&under)).try_for_each(|floor| floor.admits(began, as_of))
    }

    /// The high bits: the values' own table uses the low ones.
    fn slot(&self, hash: u64) -> usize {
        let bits = self.generations.len().trailing_zeros();
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits are left")]
        let slot = (hash >> (u64::BITS - bits)) as usize;
        slot
    }
}

impl Floor {
    fn admits(&self, began: Instant, as_of: Option<&Position>) -> Result<(), Fill> {
        match as_of.map(|as_of| as_of.reached(&self.position)) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(Fill::Behind),
            Some(Err(_)) | None if self.cool_at.is_some_and(|cool_at| began >= cool_at) => Ok(()),
            Some(Err(_)) | None => Err(Fill::Cooling),
        }
    }
}

impl Under {
    pub(super) fn tag(tag: Tag) -> Self {
        Self::Tag(tag_place(tag))
    }
}

fn tag_place(tag: Tag) -> usize {
    (tag.number() >> 52) as usize & (TAGS - 1)
}

impl Mark {
    #[inline]
    fn slot(self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "16 bits are kept")]
        let slot = (self.0 & (SLOTS_MAX as u64 - 1)) as usize;
        slot
    }
}
