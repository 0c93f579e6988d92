//! The steps that [`Book`]'s operations are made of.

use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::berth::Berth;
use super::super::rack::{Queued, Rack};
use super::super::slot::{ConnId, Residue, Slot, State};
use super::{Act, Acts, Book, FRESHEN_MAX, Gauges, HOME_SCAN_MAX, MISSED_WITHIN, Taken};

impl<K, C, W, H, E> Book<K, C, W, H, E>
where
    K: Clone + Eq + Hash,
    H: Clone + PartialEq,
    E: Clone,
{
    /// The key's rack. Bare ones are used again, so that keys which nobody uses any more do not
    /// add up: every other rack has a connection or somebody waiting, and both are bounded.
    pub(super) fn rack(&mut self, key: &K) -> u32 {
        if let Some(&index) = self.by_key.get(key) {
            return index;
        }
        let rack = Rack::new(key.clone());
        let full = self.racks.len() >= self.racks_max();
        let bare = full.then(|| self.racks.iter().position(Rack::is_bare)).flatten();
        let index = if let Some(index) = bare {
            let old = std::mem::replace(&mut self.racks[index], rack);
            self.by_key.remove(&old.key);
            index
        } else {
            self.racks.push(rack);
            self.racks.len() - 1
        };
        let index = u32::try_from(index).expect("racks are bounded");
        self.by_key.insert(key.clone(), index);
        index
    }

    fn racks_max(&self) -> usize {
        self.limits.size_max as usize + self.limits.waiters_max as usize + 1
    }

    /// Chooses among the idle ones of a key: the freshest clean one, else the stalest marked one,
    /// whose owner is the least likely to come back for it.
    pub(super) fn pick(&mut self, rack: u32, home: &H, now: Instant) -> Option<u32> {
        self.freshest(rack, home).or_else(|| self.stalest(rack, now))
    }

    /// The freshest clean one, if possible of this runtime.
    fn freshest(&self, rack: u32, home: &H) -> Option<u32> {
        let at_home = |index: &u32| self.slots[*index as usize].home.as_ref() == Some(home);
        let clean = || self.racks[rack as usize].clean.newest_first(&self.slots);
        clean().take(HOME_SCAN_MAX).find(at_home).or_else(|| clean().next())
    }

    /// Takes an idle connection on which no session has left anything.
    pub(in super::super) fn checkout_clean(&mut self, key: &K, home: &H) -> Option<Taken<C>> {
        let rack = *self.by_key.get(key)?;
        // Ends: what is not there is no longer among the idle ones then.
        loop {
            let index = self.freshest(rack, home)?;
            if let Some(taken) = self.take(index, home) {
                return Some(taken);
            }
        }
    }

    /// The stalest marked one. What was laid down long ago may be in use all the time, without a
    /// word: it is passed over, and is among the fresh ones from now on.
    fn stalest(&mut self, rack: u32, now: Instant) -> Option<u32> {
        let marked = &mut self.racks[rack as usize].marked;
        for _ in 0..FRESHEN_MAX {
            let index = marked.oldest()?;
            if !self.slots[index as usize].berth.take_recent() {
                break;
            }
            marked.remove(&mut self.slots, index);
            marked.push(&mut self.slots, index);
            self.slots[index as usize].idle_since = now;
        }
        marked.oldest()
    }

    /// Whether somebody who has left something on this idle connection will come for it soon.
    pub(super) fn is_missed(&self, index: u32, now: Instant) -> bool {
        let slot = &self.slots[index as usize];
        // Besides the slot only whoever may have it again knows the berth.
        slot.is_marked
            && Arc::strong_count(&slot.berth) > 1
            && now < slot.idle_since + MISSED_WITHIN
    }

    /// Opens a connection of this rack that nobody waits for, if that is easily done.
    pub(super) fn grow(
        &mut self,
        rack: u32,
        home: &H,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) {
        if self.gauges.connecting < self.limits.connecting_max
            && self.size() < self.limits.size_max
            && !self.rest.has_failed()
            && !self.racks[rack as usize].rest.has_failed()
        {
            self.open(rack, Some(home.clone()), now, acts);
        }
    }

    /// Whoever gets a connection takes it to its own runtime.
    pub(super) fn move_to(&mut self, index: u32, home: &H) {
        let slot = &mut self.slots[index as usize];
        if slot.home.as_ref() != Some(home) {
            slot.home = Some(home.clone());
        }
    }

    /// Takes an idle connection for somebody of this runtime, if it is not with its last user
    /// again; for the book it is in use then either way.
    pub(super) fn take(&mut self, index: u32, home: &H) -> Option<Taken<C>> {
        let (conn, residue) = self.claim(index)?;
        self.move_to(index, home);
        let slot = &self.slots[index as usize];
        Some(Taken {
            #[cfg(test)]
            id: ConnId { slot: index, serial: slot.serial },
            conn,
            residue,
            berth: Arc::clone(&slot.berth),
        })
    }

    /// Takes an idle connection out of its place, if it is there.
    fn claim(&mut self, index: u32) -> Option<(C, Option<Residue>)> {
        self.pick_up(index);
        self.enter(index, State::InUse);
        self.slots[index as usize].berth.claim()
    }

    /// Puts a connection among the idle ones.
    pub(super) fn lay_down(
        &mut self,
        index: u32,
        (conn, residue): (C, Option<Residue>),
        now: Instant,
    ) {
        self.enter(index, State::Idle);
        let slot = &mut self.slots[index as usize];
        slot.is_marked = Residue::is_mark(residue);
        slot.berth.lay(conn, residue);
        slot.idle_since = now;
        let rack = &mut self.racks[slot.rack as usize];
        let list = if slot.is_marked { &mut rack.marked } else { &mut rack.clean };
        list.push(&mut self.slots, index);
    }

    pub(super) fn pick_up(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let rack = &mut self.racks[slot.rack as usize];
        let list = if slot.is_marked { &mut rack.marked } else { &mut rack.clean };
        list.remove(&mut self.slots, index);
    }

    /// Changes a slot's state and everything that counts states.
    pub(super) fn enter(&mut self, index: u32, state: State) {
        let slot = &mut self.slots[index as usize];
        let rack = &mut self.racks[slot.rack as usize];
        let left = std::mem::replace(&mut slot.state, state);
        match left {
            State::Vacant => {}
            State::Connecting => rack.connecting -= 1,
            State::Idle | State::InUse | State::Quarantined => rack.open -= 1,
        }
        match state {
            State::Vacant => {}
            State::Connecting => rack.connecting += 1,
            State::Idle | State::InUse | State::Quarantined => rack.open += 1,
        }
        if let Some(gauge) = self.gauges.of(left) {
            *gauge -= 1;
        }
        if let Some(gauge) = self.gauges.of(state) {
            *gauge += 1;
        }
    }

    pub(super) fn free(&mut self, index: u32) {
        self.enter(index, State::Vacant);
        let slot = &mut self.slots[index as usize];
        slot.serial = slot.serial.wrapping_add(1);
        slot.home = None;
        self.agains += slot.berth.take_agains();
        // Who had the old connection finds nothing of the next one.
        slot.berth = Berth::new();
        self.vacant.push(index);
    }

    /// Whether a connection of this rack must be closed now, because its place is due to
    /// somebody who waits for another key.
    pub(super) fn must_yield(&mut self, rack: u32, now: Instant) -> bool {
        if self.size() < self.limits.size_max
            || self.gauges.connecting >= self.limits.connecting_max
        {
            return false;
        }
        let Some(other) = self.first_uncovered(now, Some(rack)) else { return false };
        let own = self.racks[rack as usize].queue.front().map(|queued| queued.ticket);
        let other = &mut self.racks[other as usize];
        let place = other.connecting as usize;
        let Some(first) = other.queue.get_mut(place) else { return false };
        match own {
            None => true,
            Some(own) if own < first.ticket => false,
            Some(_) if first.overtaken >= self.limits.overtakes_max => true,
            Some(_) => {
                first.overtaken += 1;
                false
            }
        }
    }

    /// The rack of the longest waiting caller that a new connection would help, now.
    fn first_uncovered(&self, now: Instant, except: Option<u32>) -> Option<u32> {
        if self.rest.reason(now).is_some() {
            return None;
        }
        let racks = (0_u32..).zip(&self.racks);
        racks
            .filter(|&(index, rack)| Some(index) != except && rack.rest.reason(now).is_none())
            .filter_map(|(index, rack)| Some((rack.uncovered()?.ticket, index)))
            .min()
            .map(|(_, index)| index)
    }

    /// Why nothing will come of waiting for this rack, if so.
    pub(super) fn hopeless(&self, rack: u32, now: Instant) -> Option<E> {
        let rack = &self.racks[rack as usize];
        if rack.connecting + rack.open > 0 {
            return None;
        }
        rack.rest.reason(now).or_else(|| self.rest.reason(now)).cloned()
    }

    /// Restores the invariants 3 and 5, and opens what is to be kept warm.
    pub(super) fn settle(&mut self, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        if self.gauges.waiting > 0 {
            self.fail_hopeless(now, acts);
            while self.gauges.connecting < self.limits.connecting_max
                && let Some(rack) = self.first_uncovered(now, None)
                && (self.size() < self.limits.size_max || self.make_room(rack, acts))
            {
                let home = self.racks[rack as usize].uncovered().map(|first| first.home.clone());
                self.open(rack, home, now, acts);
            }
        }
        self.open_warm(now, acts);
    }

    fn fail_hopeless(&mut self, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        for index in (0_u32..).take(self.racks.len()) {
            if self.racks[index as usize].queue.is_empty() {
                continue;
            }
            let Some(error) = self.hopeless(index, now) else { continue };
            for Queued { waiter, .. } in self.racks[index as usize].queue.drain(..) {
                self.gauges.waiting -= 1;
                acts.push(Act::Fail { waiter, error: error.clone() });
            }
        }
    }

    /// Closes the connection of another rack that has been idle for longest.
    fn make_room(&mut self, rack: u32, acts: &mut Acts<K, C, W, H, E>) -> bool {
        self.evict_stalest(Some(rack), acts) && self.size() < self.limits.size_max
    }

    /// Closes the connection that has been idle for longest, of all racks but one. Returns whether
    /// there was one.
    pub(super) fn evict_stalest(
        &mut self,
        except: Option<u32>,
        acts: &mut Acts<K, C, W, H, E>,
    ) -> bool {
        // Ends: what is not there is no longer among the idle ones then.
        loop {
            let others = (0_u32..).zip(&self.racks).filter(|&(index, _)| Some(index) != except);
            let stale = others.flat_map(|(_, rack)| [rack.clean.oldest(), rack.marked.oldest()]);
            let victim = stale.flatten().min_by_key(|&index| self.slots[index as usize].idle_since);
            match victim {
                Some(index) if self.evict(index, acts) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Closes an idle connection, if it is not with its last user again.
    fn evict(&mut self, index: u32, acts: &mut Acts<K, C, W, H, E>) -> bool {
        let Some((conn, _)) = self.claim(index) else { return false };
        acts.push(Act::Close(conn));
        self.free(index);
        true
    }

    fn open_warm(&mut self, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        if self.rest.reason(now).is_some() {
            return;
        }
        for index in (0_u32..).take(self.racks.len()) {
            while self.gauges.connecting < self.limits.connecting_max
                && self.size() < self.limits.size_max
                && let rack = &self.racks[index as usize]
                && rack.open + rack.connecting < rack.warm
                && rack.rest.reason(now).is_none()
            {
                self.open(index, None, now, acts);
            }
        }
    }

    fn open(&mut self, rack: u32, home: Option<H>, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        let index = self.vacant.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).expect("the pool is bounded");
            self.slots.push(Slot::vacant(now));
            index
        });
        self.enter_rack(index, rack, home.clone());
        let key = self.racks[rack as usize].key.clone();
        let id = ConnId { slot: index, serial: self.slots[index as usize].serial };
        acts.push(Act::Open { id, key, home });
    }

    fn enter_rack(&mut self, index: u32, rack: u32, home: Option<H>) {
        let slot = &mut self.slots[index as usize];
        (slot.rack, slot.home, slot.era) = (rack, home, self.era);
        self.enter(index, State::Connecting);
    }

    pub(super) fn close_idle(
        &mut self,
        acts: &mut Acts<K, C, W, H, E>,
        doomed: impl Fn(&Slot<C, H>, &Rack<K, W, H, E>) -> bool,
    ) {
        for index in (0_u32..).take(self.slots.len()) {
            let slot = &self.slots[index as usize];
            if slot.state == State::Idle && doomed(slot, &self.racks[slot.rack as usize]) {
                self.evict(index, acts);
            }
        }
    }
}

impl Gauges {
    fn of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Vacant => None,
            State::Connecting => Some(&mut self.connecting),
            State::Idle => Some(&mut self.idle),
            State::InUse => Some(&mut self.in_use),
            State::Quarantined => Some(&mut self.quarantined),
        }
    }
}
