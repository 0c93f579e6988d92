//! What the book finds out by looking: which idle connections are with their last users again.

use std::hash::Hash;

use tokio::time::Instant;

use super::super::slot::State;
use super::Book;

impl<K, C, W, H, E> Book<K, C, W, H, E>
where
    K: Clone + Eq + Hash,
    H: Clone + PartialEq,
    E: Clone,
{
    /// Counts every idle connection that is with its last user as in use.
    pub(in super::super) fn look(&mut self) {
        for index in (0_u32..).take(self.slots.len()) {
            self.note(index);
            self.agains += self.slots[index as usize].berth.take_agains();
        }
    }

    /// Whether a connection is idle.
    pub(in super::super) fn has_idle(&mut self) -> bool {
        // Those at the front may be out for the first time in a while, and are missed once.
        let mut slots = (0_u32..).take(self.slots.len());
        self.gauges.idle > 0 && slots.any(|index| self.is_idle(index))
    }

    /// Counts this connection as in use, if it is with its last user.
    pub(super) fn note(&mut self, index: u32) {
        self.is_idle(index);
    }

    /// Whether this connection is idle; if it is out it is in use from now on.
    fn is_idle(&mut self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        if slot.state != State::Idle {
            return false;
        }
        let is_out = slot.berth.is_out();
        if is_out {
            self.pick_up(index);
            self.enter(index, State::InUse);
        }
        !is_out
    }

    /// What its last user had in the meantime has not been idle since it was laid down.
    pub(super) fn look_for_use(&mut self, now: Instant) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Idle) {
            let agains = slot.berth.take_agains();
            if agains > 0 {
                self.agains += agains;
                slot.idle_since = now;
            }
        }
    }
}
