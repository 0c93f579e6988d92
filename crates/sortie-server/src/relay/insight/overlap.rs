//! Which statements would have been answered together, had equal ones been shared.
//!
//! Statements run as they come. Of each key that is under way it is followed which load would have
//! answered whom with `Fresh` joins: the first one is a load; the first that comes while it runs
//! would be the next load; whoever comes after that would have waited for it, and is *saved*. When
//! the running one ends the next one is the running one.
//!
//! # Invariants
//!
//! 1. It costs two atomic operations a statement, and takes the same memory whatever comes.
//! 2. A place that another key has is left to it: what comes then is not followed. So is said less
//!    than is true, never more, but for two keys that agree in 52 bits of their hashes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// Keys that can be under way at a time, at most: a power of two.
const PLACES_MAX: usize = 4_096;

const COUNT: u64 = 0x7fff;
const NEXT: u64 = 0x8000;
const ROUND_SHIFT: u32 = 16;
const ROUND: u64 = 0xff << ROUND_SHIFT;
const TAG: u64 = !(ROUND | NEXT | COUNT);

/// Keys that are under way: of each the tag, the round of the running load, whether there is a
/// next one, and how many statements there are.
#[derive(Debug)]
pub(super) struct Overlaps(Box<[AtomicU64]>);

/// A statement among them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spot {
    place: usize,
    /// The round of the load that it would be, if it would be one.
    round: Option<u64>,
}

impl Spot {
    /// Whether another's answer would have been this one's.
    pub(super) fn is_saved(self) -> bool {
        self.round.is_none()
    }
}

impl Overlaps {
    pub(super) fn new() -> Self {
        Self((0..PLACES_MAX).map(|_| AtomicU64::new(0)).collect())
    }

    /// A statement with this key begins; `None` if it can't be followed.
    pub(super) fn enter(&self, key: u64) -> Option<Spot> {
        let place = usize::try_from(key).unwrap_or_default() & (PLACES_MAX - 1);
        let tag = key & TAG;
        let mut spot = None;
        let entered = self.0[place].fetch_update(AcqRel, Acquire, |word| {
            let next_round = (word & ROUND).wrapping_add(1 << ROUND_SHIFT) & ROUND;
            let (word, round) = if word & COUNT == 0 {
                (tag | next_round, Some(next_round))
            } else if word & TAG != tag || word & COUNT == COUNT {
                return None;
            } else if word & NEXT == 0 {
                (word | NEXT, Some(next_round))
            } else {
                (word, None)
            };
            spot = Some(Spot { place, round });
            Some(word + 1)
        });
        entered.ok().and(spot)
    }

    /// It has ended.
    pub(super) fn leave(&self, spot: Spot) {
        let left = self.0[spot.place].fetch_update(AcqRel, Acquire, |word| {
            let running = word & ROUND;
            let next_round = running.wrapping_add(1 << ROUND_SHIFT) & ROUND;
            let word = word - 1;
            Some(match spot.round {
                // The next one is running now.
                Some(round) if round == running && word & NEXT != 0 => {
                    (word & !(ROUND | NEXT)) | next_round
                }
                Some(round) if round == next_round => word & !NEXT,
                _ => word,
            })
        });
        debug_assert!(left.is_ok_and(|word| word & COUNT > 0), "it was entered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 0xabcd_ef01_2345_6789;

    #[test]
    fn a_herd_takes_two_loads() {
        let overlaps = Overlaps::new();
        let herd: Vec<_> = (0..200).map(|_| overlaps.enter(KEY).unwrap()).collect();
        let saved = herd.iter().filter(|spot| spot.is_saved()).count();
        assert_eq!(saved, 198, "the first one's, and one for all who came after it began");
        for spot in herd {
            overlaps.leave(spot);
        }
        assert!(!overlaps.enter(KEY).unwrap().is_saved());
    }

    #[test]
    fn whoever_comes_when_the_next_load_runs_waits_for_the_one_after_it() {
        let overlaps = Overlaps::new();
        let [first, next, saved] = [(); 3].map(|()| overlaps.enter(KEY).unwrap());
        assert_eq!([first, next, saved].map(Spot::is_saved), [false, false, true]);
        overlaps.leave(first);
        let [third, also] = [(); 2].map(|()| overlaps.enter(KEY).unwrap());
        assert_eq!([third, also].map(Spot::is_saved), [false, true]);
        for spot in [next, saved, third, also] {
            overlaps.leave(spot);
        }
    }

    #[test]
    fn statements_that_do_not_overlap_save_nothing() {
        let overlaps = Overlaps::new();
        for _ in 0..1_000 {
            let spot = overlaps.enter(KEY).unwrap();
            assert!(!spot.is_saved());
            overlaps.leave(spot);
        }
        let (one, other) = (overlaps.enter(KEY).unwrap(), overlaps.enter(KEY ^ (1 << 5)).unwrap());
        assert!(!one.is_saved() && !other.is_saved());
        // The same place, another key.
        assert_eq!(overlaps.enter(KEY ^ (1 << 63)), None);
        overlaps.leave(one);
        assert!(overlaps.enter(KEY ^ (1 << 63)).is_some());
        overlaps.leave(other);
    }
}
