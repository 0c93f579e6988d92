//! The bookkeeping of one server's connections: who has one, who waits, what is to be opened and
//! closed. It opens nothing, closes nothing and reads no clock: it answers with [`Act`]s.
//!
//! # Invariants
//!
//! 1. Connecting, idle, in use and quarantined ones together are never more than `size_max`;
//!    where that was lowered, none is opened until they are fewer, and those that come back close.
//! 2. A key with an idle connection has nobody waiting for it.
//! 3. Somebody waits without a connection on its way only if no more may be opened now: all places
//!    are taken by busy ones, `connecting_max` are on their way, or the key or the server rests.
//! 4. Within a key who came first is served first. Among keys nobody is overtaken more than
//!    `overtakes_max` times at a full server: then a connection of another key is closed for it.
//! 5. Nobody waits for a connection of a key that rests, has none, and has none on its way.
//! 6. One that was idle may be with its last user again without a word: it counts as in use from
//!    when it is missed, and nothing is decided by the number of idle ones before they were missed.

#[cfg(test)]
mod cases;
mod look;
mod moves;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::berth::Berth;
use super::rack::{Queued, Rack, Rest};
use super::slot::{ConnId, Residue, Slot, State};

/// How many idle connections are looked at to find one of the caller's own runtime.
const HOME_SCAN_MAX: usize = 8;

/// How many that are in use without a word are passed over to find one that is not: whoever loses
/// its own to somebody else takes another's next, and so on.
const FRESHEN_MAX: usize = 64;

/// Whoever has used a connection within this time would have to do without it if another took it.
const MISSED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) size_max: u32,
    pub(super) connecting_max: u32,
    pub(super) waiters_max: u32,
    pub(super) quarantined_max: u32,
    pub(super) overtakes_max: u32,
    pub(super) idle_timeout: Duration,
    /// The first and the longest pause after failures.
    pub(super) backoff: (Duration, Duration),
}

/// `K` tells connections apart that can't stand in for each other, `C` is a connection, `W`
/// whoever waits, `H` the runtime it lives on, `E` why no connection could be opened.
#[derive(Debug)]
pub(super) struct Book<K, C, W, H, E> {
    pub(super) limits: Limits,
    pub(super) slots: Vec<Slot<C, H>>,
    vacant: Vec<u32>,
    pub(super) racks: Vec<Rack<K, W, H, E>>,
    by_key: HashMap<K, u32>,
    pub(super) rest: Rest<E>,
    pub(super) gauges: Gauges,
    tickets: u64,
    era: u32,
    /// How often connections were taken by who had them last, without a word.
    pub(super) agains: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gauges {
    pub(super) idle: u32,
    pub(super) in_use: u32,
    pub(super) connecting: u32,
    pub(super) waiting: u32,
    pub(super) quarantined: u32,
}

/// What is to be done, after the lock was let go.
#[derive(Debug)]
pub(super) enum Act<K, C, W, H, E> {
    Give { taken: Taken<C>, waiter: W },
    Open { id: ConnId, key: K, home: Option<H> },
    Close(C),
    Fail { waiter: W, error: E },
}

pub(super) type Acts<K, C, W, H, E> = Vec<Act<K, C, W, H, E>>;

/// A connection that changes hands.
#[derive(Debug)]
pub(super) struct Taken<C> {
    #[cfg(test)]
    pub(super) id: ConnId,
    pub(super) conn: C,
    pub(super) residue: Option<Residue>,
    pub(super) berth: Arc<Berth<C>>,
}

/// Why nobody may wait.
#[derive(Debug)]
pub(super) enum NoWait<E> {
    Crowded,
    Resting(E),
}

/// Whose trouble a failure to connect is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    Server,
    Key,
}

impl<K, C, W, H, E> Book<K, C, W, H, E>
where
    K: Clone + Eq + Hash,
    H: Clone + PartialEq,
    E: Clone,
{
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            vacant: Vec::new(),
            racks: Vec::new(),
            by_key: HashMap::new(),
            rest: Rest::default(),
            gauges: Gauges::default(),
            tickets: 0,
            era: 0,
            agains: 0,
        }
    }

    pub(super) fn size(&self) -> u32 {
        let Gauges { idle, in_use, connecting, quarantined, .. } = self.gauges;
        idle + in_use + connecting + quarantined
    }

    /// Takes an idle connection: the preferred one, else one without residue, else any. If somebody
    /// will miss that another one is opened, as long as there is room: sessions that take each
    /// other's have to make them their own each time.
    pub(super) fn checkout(
        &mut self,
        key: &K,
        prefer: Option<ConnId>,
        home: &H,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) -> Option<Taken<C>> {
        let preferred = prefer.filter(|id| {
            let slot = self.slots.get(id.slot as usize);
            slot.is_some_and(|slot| {
                slot.serial == id.serial
                    && slot.state == State::Idle
                    && self.racks[slot.rack as usize].key == *key
            })
        });
        if let Some(taken) = preferred.and_then(|id| self.take(id.slot, home)) {
            return Some(taken);
        }
        let rack = *self.by_key.get(key)?;
        // Ends: what is not there is no longer among the idle ones then.
        loop {
            let index = self.pick(rack, home, now)?;
            let is_missed = self.is_missed(index, now);
            if let Some(taken) = self.take(index, home) {
                if is_missed {
                    self.grow(rack, home, now, acts);
                }
                return Some(taken);
            }
        }
    }

    /// Queues a caller for whom there was nothing idle.
    pub(super) fn wait(
        &mut self,
        key: &K,
        home: &H,
        waiter: W,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) -> Result<u64, NoWait<E>> {
        if self.gauges.waiting >= self.limits.waiters_max {
            return Err(NoWait::Crowded);
        }
        let rack = self.rack(key);
        if let Some(error) = self.hopeless(rack, now) {
            return Err(NoWait::Resting(error));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let queued = Queued { ticket, waiter, home: home.clone(), overtaken: 0 };
        self.racks[rack as usize].queue.push_back(queued);
        self.gauges.waiting += 1;
        self.settle(now, acts);
        Ok(ticket)
    }

    /// Takes a caller out of the queue, if it still is in it.
    pub(super) fn leave(&mut self, key: &K, ticket: u64) -> Option<W> {
        let rack = &mut self.racks[*self.by_key.get(key)? as usize];
        let place = rack.queue.binary_search_by_key(&ticket, |queued| queued.ticket).ok()?;
        self.gauges.waiting -= 1;
        Some(rack.queue.remove(place)?.waiter)
    }

    /// Takes back a connection that was in use or quarantined and can be used again.
    pub(super) fn put_back(
        &mut self,
        id: ConnId,
        conn: C,
        residue: Option<Residue>,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) {
        self.note(id.slot);
        let slot = &self.slots[id.slot as usize];
        debug_assert_eq!(slot.serial, id.serial, "a connection comes back once");
        let is_over = slot.era != self.era || self.size() > self.limits.size_max;
        if now >= slot.expires || is_over {
            acts.push(Act::Close(conn));
            return self.vacate(id, now, acts);
        }
        if self.gauges.waiting == 0 {
            return self.lay_down(id.slot, (conn, residue), now);
        }
        let rack = slot.rack;
        if self.must_yield(rack, now) {
            acts.push(Act::Close(conn));
            return self.vacate(id, now, acts);
        }
        match self.racks[rack as usize].queue.pop_front() {
            None => self.lay_down(id.slot, (conn, residue), now),
            Some(Queued { waiter, home, .. }) => {
                self.gauges.waiting -= 1;
                self.enter(id.slot, State::InUse);
                self.move_to(id.slot, &home);
                let berth = Arc::clone(&self.slots[id.slot as usize].berth);
                berth.pass();
                let taken = Taken {
                    #[cfg(test)]
                    id,
                    conn,
                    residue,
                    berth,
                };
                acts.push(Act::Give { taken, waiter });
            }
        }
    }

    /// Sets a connection apart whose last query is being stopped; `false`: there are too many.
    pub(super) fn quarantine(&mut self, id: ConnId) -> bool {
        self.note(id.slot);
        if self.gauges.quarantined >= self.limits.quarantined_max {
            return false;
        }
        self.enter(id.slot, State::Quarantined);
        true
    }

    /// Frees the place of a connection that is gone.
    pub(super) fn vacate(&mut self, id: ConnId, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        self.note(id.slot);
        self.free(id.slot);
        self.settle(now, acts);
    }

    /// An attempt to connect succeeded.
    pub(super) fn opened(
        &mut self,
        id: ConnId,
        conn: C,
        expires: Instant,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) {
        self.rest.recovered();
        let slot = &mut self.slots[id.slot as usize];
        slot.expires = expires;
        self.racks[slot.rack as usize].rest.recovered();
        self.put_back(id, conn, None, now, acts);
        self.settle(now, acts);
    }

    /// An attempt to connect failed. `jitter`: see [`Rest::failed`].
    pub(super) fn failed(
        &mut self,
        id: ConnId,
        (scope, error): (Scope, E),
        jitter: u32,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) {
        let rack = self.slots[id.slot as usize].rack;
        let rest = match scope {
            Scope::Server => &mut self.rest,
            Scope::Key => &mut self.racks[rack as usize].rest,
        };
        rest.failed(self.limits.backoff, jitter, now, error);
        self.vacate(id, now, acts);
    }

    /// Keeps that many connections of a key open.
    pub(super) fn warm(
        &mut self,
        key: &K,
        count: u32,
        now: Instant,
        acts: &mut Acts<K, C, W, H, E>,
    ) {
        let rack = self.rack(key);
        self.racks[rack as usize].warm = count;
        self.settle(now, acts);
    }

    /// Lets no connection that is open now be used by anybody but its present user.
    pub(super) fn retire(&mut self, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        self.era = self.era.wrapping_add(1);
        self.close_idle(acts, |_, _| true);
        self.settle(now, acts);
    }

    /// Lets other limits hold from now on: idle connections above them are closed now, others as
    /// they come back.
    pub(super) fn limit(&mut self, limits: Limits, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        self.limits = limits;
        while self.size() > self.limits.size_max && self.evict_stalest(None, acts) {}
        self.settle(now, acts);
    }

    /// Closes what has been idle or alive for too long, and opens what may be opened again.
    pub(super) fn tick(&mut self, now: Instant, acts: &mut Acts<K, C, W, H, E>) {
        let timeout = self.limits.idle_timeout;
        self.look_for_use(now);
        self.close_idle(acts, |slot, rack| {
            now >= slot.expires || (rack.open > rack.warm && now >= slot.idle_since + timeout)
        });
        self.settle(now, acts);
    }

    /// When [`tick`](Self::tick) will have something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let timeout = self.limits.idle_timeout;
        let idle = self.slots.iter().filter(|slot| slot.state == State::Idle).map(|slot| {
            let rack = &self.racks[slot.rack as usize];
            if rack.open > rack.warm {
                slot.expires.min(slot.idle_since + timeout)
            } else {
                slot.expires
            }
        });
        let wanting = |rack: &&Rack<K, W, H, E>| {
            !rack.queue.is_empty() || rack.open + rack.connecting < rack.warm
        };
        let rests = self.racks.iter().filter(wanting).filter_map(|rack| {
            let until = rack.rest.until().max(self.rest.until())?;
            (until > now).then_some(until)
        });
        idle.chain(rests).min()
    }
}
