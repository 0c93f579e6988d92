//! Places for connections, and the lists of idle ones.
//!
//! A list runs through the slots themselves, so that taking a connection from the middle of it,
//! because a session wants its own again, costs no search and no allocation.

use std::sync::Arc;

use tokio::time::Instant;

use super::berth::Berth;

/// No slot.
const NONE: u32 = u32::MAX;

/// Names one connection among all that its server has ever had.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnId {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// What the last session left on a connection, in that session's own terms: whoever finds its own
/// number here knows which version of its state the server still has.
///
/// What the owner [`COMMON`](Self::COMMON) leaves is in nobody's way who knows of it: such a
/// connection is handed out like one on which nothing is left.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the pool carries two numbers, and no more")]
pub struct Residue {
    /// Whose state it is.
    pub owner: u64,
    /// Which version of it.
    pub version: u64,
}

impl Residue {
    /// An owner that is many.
    pub const COMMON: u64 = u64::MAX;

    /// Whether it decides who gets the connection.
    pub(super) fn is_mark(residue: Option<Self>) -> bool {
        residue.is_some_and(|residue| residue.owner != Self::COMMON)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Vacant,
    Connecting,
    Idle,
    InUse,
    Quarantined,
}

#[derive(Debug)]
pub(super) struct Slot<C, H> {
    pub(super) serial: u32,
    pub(super) rack: u32,
    pub(super) state: State,
    /// Where the connection lies while it is idle.
    pub(super) berth: Arc<Berth<C>>,
    /// The runtime of whoever had it last, or for whom it was opened.
    pub(super) home: Option<H>,
    /// Whether it is among those with a residue of one session, while idle.
    pub(super) is_marked: bool,
    pub(super) idle_since: Instant,
    pub(super) expires: Instant,
    /// Which retirement it was opened after.
    pub(super) era: u32,
    newer: u32,
    older: u32,
}

/// Idle connections, the one that was returned last in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl<C, H> Slot<C, H> {
    pub(super) fn vacant(now: Instant) -> Self {
        Self {
            serial: 0,
            rack: NONE,
            state: State::Vacant,
            berth: Berth::new(),
            home: None,
            is_marked: false,
            idle_since: now,
            expires: now,
            era: 0,
            newer: NONE,
            older: NONE,
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self { newest: NONE, oldest: NONE }
    }
}

impl List {
    pub(super) fn oldest(self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    pub(super) fn push<C, H>(&mut self, slots: &mut [Slot<C, H>], index: u32) {
        let slot = &mut slots[index as usize];
        (slot.newer, slot.older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = index,
            newest => slots[newest as usize].newer = index,
        }
        self.newest = index;
    }

    pub(super) fn remove<C, H>(&mut self, slots: &mut [Slot<C, H>], index: u32) {
        let slot = &mut slots[index as usize];
        let (newer, older) = (slot.newer, slot.older);
        (slot.newer, slot.older) = (NONE, NONE);
        match newer {
            NONE => self.newest = older,
            newer => slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => slots[older as usize].newer = newer,
        }
    }

    pub(super) fn newest_first<C, H>(
        self,
        slots: &[Slot<C, H>],
    ) -> impl Iterator<Item = u32> + use<'_, C, H> {
        walk(self.newest, |index| slots[index as usize].older)
    }
}

fn walk(start: u32, next: impl Fn(u32) -> u32) -> impl Iterator<Item = u32> {
    let some = |index: u32| (index != NONE).then_some(index);
    std::iter::successors(some(start), move |&index| some(next(index)))
}
