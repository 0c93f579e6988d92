//! The book against a plain model of what it promises, with any sequence of events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::berth::Ticket;
use super::*;

pub(super) type TestBook = Book<u8, u32, u32, u8, u8>;

pub(super) const SIZE_MAX: u32 = 4;
const CONNECTING_MAX: u32 = 2;
pub(super) const WAITERS_MAX: u32 = 6;
pub(super) const OVERTAKES_MAX: u32 = 2;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

pub(super) fn limits() -> Limits {
    Limits {
        size_max: SIZE_MAX,
        connecting_max: CONNECTING_MAX,
        waiters_max: WAITERS_MAX,
        quarantined_max: 2,
        overtakes_max: OVERTAKES_MAX,
        idle_timeout: Duration::from_secs(60),
        backoff: BACKOFF,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask { key: u8, home: u8, prefer: usize },
    Return { which: usize, marked: bool },
    Again { which: usize },
    Drop { which: usize },
    Quarantine { which: usize },
    Leave { which: usize },
    Opened { which: usize },
    Failed { which: usize, server: bool },
    Retire,
    Pass { millis: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let which = 0..8_usize;
    prop_oneof![
        8 => (0..3_u8, 0..2_u8, which.clone())
            .prop_map(|(key, home, prefer)| Event::Ask { key, home, prefer }),
        6 => (which.clone(), any::<bool>())
            .prop_map(|(which, marked)| Event::Return { which, marked }),
        6 => which.clone().prop_map(|which| Event::Again { which }),
        1 => which.clone().prop_map(|which| Event::Drop { which }),
        2 => which.clone().prop_map(|which| Event::Quarantine { which }),
        2 => which.clone().prop_map(|which| Event::Leave { which }),
        5 => which.clone().prop_map(|which| Event::Opened { which }),
        1 => (which, any::<bool>()).prop_map(|(which, server)| Event::Failed { which, server }),
        1 => Just(Event::Retire),
        2 => (0..400_u64).prop_map(|millis| Event::Pass { millis }),
    ]
}

/// What the outside knows: who has what, who waits since when, which places are on their way.
struct Model {
    book: TestBook,
    now: Instant,
    /// In use or, where it says so, apart.
    busy: Vec<Busy>,
    /// Given back by their users, who may come again.
    resting: Vec<(Busy, Ticket)>,
    /// How often the book has handed each connection out.
    visits: BTreeMap<u32, u32>,
    opening: Vec<(ConnId, u8)>,
    waiting: BTreeMap<u8, VecDeque<(u32, u64)>>,
    /// How often each waiter was overtaken by one of another key while the server was full.
    known: BTreeMap<u32, ConnId>,
    numbers: u32,
}

/// A connection that somebody has.
struct Busy {
    conn: u32,
    key: u8,
    id: ConnId,
    apart: bool,
    berth: Arc<Berth<u32>>,
    visit: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            book: Book::new(limits()),
            now: Instant::now(),
            busy: Vec::new(),
            resting: Vec::new(),
            visits: BTreeMap::new(),
            opening: Vec::new(),
            waiting: BTreeMap::new(),
            known: BTreeMap::new(),
            numbers: 0,
        }
    }

    fn apply(&mut self, event: Event) {
        let mut acts = Vec::new();
        match event {
            Event::Ask { key, home, prefer } => self.ask(key, home, prefer, &mut acts),
            Event::Return { which, marked } => {
                let Some(busy) = take(&mut self.busy, which) else { return };
                let (conn, id, ticket) = (busy.conn, busy.id, busy.berth.ticket());
                let residue = marked.then_some(Residue { owner: 1, version: 1 });
                if let Err(conn) = busy.berth.back(conn, residue) {
                    self.book.put_back(id, conn, residue, self.now, &mut acts);
                }
                self.resting.push((Busy { apart: false, ..busy }, ticket));
            }
            Event::Again { which } => {
                let Some((busy, ticket)) = take(&mut self.resting, which) else { return };
                let is_there = self.known.contains_key(&busy.conn)
                    && self.visits.get(&busy.conn) == Some(&busy.visit);
                let conn = busy.berth.again(&ticket);
                assert_eq!(conn, is_there.then_some(busy.conn), "unless anybody had it since");
                self.busy.extend(conn.map(|_| busy));
            }
            Event::Drop { which } => {
                let Some(Busy { conn, id, .. }) = take(&mut self.busy, which) else { return };
                self.known.remove(&conn);
                self.book.vacate(id, self.now, &mut acts);
            }
            Event::Quarantine { which } => {
                let Some(busy) = self.busy.iter_mut().filter(|busy| !busy.apart).nth(which) else {
                    return;
                };
                busy.apart = self.book.quarantine(busy.id);
            }
            Event::Leave { which } => {
                let mut all = self.waiting.iter().flat_map(|(&key, queue)| {
                    queue.iter().map(move |&(waiter, ticket)| (key, waiter, ticket))
                });
                let Some((key, waiter, ticket)) = all.nth(which) else { return };
                assert_eq!(self.book.leave(&key, ticket), Some(waiter));
                self.forget(waiter);
            }
            Event::Opened { which } => {
                let Some((id, _)) = take(&mut self.opening, which) else { return };
                self.numbers += 1;
                self.known.insert(self.numbers, id);
                let expires = self.now + Duration::from_secs(5);
                self.book.opened(id, self.numbers, expires, self.now, &mut acts);
            }
            Event::Failed { which, server } => {
                let Some((id, key)) = take(&mut self.opening, which) else { return };
                let scope = if server { Scope::Server } else { Scope::Key };
                self.book.failed(id, (scope, key), 500, self.now, &mut acts);
            }
            Event::Retire => self.book.retire(self.now, &mut acts),
            Event::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                self.book.tick(self.now, &mut acts);
            }
        }
        self.obey(acts);
    }

    fn ask(&mut self, key: u8, home: u8, prefer: usize, acts: &mut Acts<u8, u32, u32, u8, u8>) {
        let prefer = self.known.values().nth(prefer).copied();
        if let Some(taken) = self.book.checkout(&key, prefer, &home, self.now, acts) {
            assert!(self.queue(key).is_empty(), "a newcomer overtakes nobody of its key");
            self.lend(taken, key);
            return;
        }
        self.numbers += 1;
        match self.book.wait(&key, &home, self.numbers, self.now, acts) {
            Ok(ticket) => {
                let waiter = (self.numbers, ticket);
                self.queue(key).push_back(waiter);
            }
            Err(NoWait::Crowded) => {
                assert_eq!(self.waiters(), WAITERS_MAX as usize);
            }
            Err(NoWait::Resting(_)) => assert!(self.of_key(key) == 0, "there is hope"),
        }
    }

    fn obey(&mut self, acts: Acts<u8, u32, u32, u8, u8>) {
        for act in acts {
            match act {
                Act::Give { taken, waiter } => {
                    let key = self.forget(waiter);
                    self.lend(taken, key);
                }
                Act::Open { id, key, .. } => self.opening.push((id, key)),
                Act::Close(conn) => {
                    self.known.remove(&conn).expect("it is closed once");
                }
                Act::Fail { waiter, .. } => {
                    self.forget(waiter);
                }
            }
        }
    }

    fn lend(&mut self, taken: Taken<u32>, key: u8) {
        let Taken { id, conn, berth, .. } = taken;
        assert_eq!(self.known[&conn], id, "the connection is the one it says");
        let visit = self.visits.entry(conn).or_default();
        *visit += 1;
        let busy = Busy { conn, key, id, apart: false, berth, visit: *visit };
        self.busy.push(busy);
    }

    /// Takes a waiter out, who must be the first of its key unless it leaves or fails.
    fn forget(&mut self, waiter: u32) -> u8 {
        for (&key, queue) in &mut self.waiting {
            if let Some(place) = queue.iter().position(|&(number, _)| number == waiter) {
                queue.remove(place);
                return key;
            }
        }
        panic!("{waiter} does not wait");
    }

    fn queue(&mut self, key: u8) -> &mut VecDeque<(u32, u64)> {
        self.waiting.entry(key).or_default()
    }

    fn waiters(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Connections of a key, also those on their way.
    fn of_key(&self, key: u8) -> usize {
        let busy = self.busy.iter().filter(|busy| busy.key == key && self.is_noted(busy)).count();
        busy + self.opening.iter().filter(|opening| opening.1 == key).count() + self.idle_of(key)
    }

    fn idle_of(&self, key: u8) -> usize {
        let slots = self.book.slots.iter().filter(|slot| slot.state == State::Idle);
        slots.filter(|slot| self.book.racks[slot.rack as usize].key == key).count()
    }

    /// Whether the book knows that somebody has it.
    fn is_noted(&self, busy: &Busy) -> bool {
        self.book.slots[busy.id.slot as usize].state != State::Idle
    }

    fn check(&mut self) {
        let Gauges { idle, in_use, connecting, waiting, quarantined } = self.book.gauges;
        let apart = self.busy.iter().filter(|busy| busy.apart).count();
        let unnoted = self.busy.iter().filter(|busy| !self.is_noted(busy)).count();
        assert_eq!(connecting as usize, self.opening.len());
        assert_eq!(in_use as usize, self.busy.len() - unnoted - apart);
        assert_eq!(quarantined as usize, apart);
        assert_eq!(waiting as usize, self.waiters());
        assert_eq!(idle as usize, self.known.len() - self.busy.len() + unnoted, "none is lost");
        assert!(self.book.size() <= SIZE_MAX && connecting <= CONNECTING_MAX);
        assert!(waiting <= WAITERS_MAX && quarantined <= 2);
        let resting = |key: u8| {
            let rack = &self.book.racks[self.book.by_key[&key] as usize];
            rack.rest.reason(self.now).or(self.book.rest.reason(self.now)).is_some()
        };
        let mut stuck = Vec::new();
        for (&key, queue) in self.waiting.iter().filter(|(_, queue)| !queue.is_empty()) {
            assert_eq!(self.idle_of(key), 0, "an idle one, and somebody waits for it");
            let coming = self.opening.iter().filter(|opening| opening.1 == key).count();
            if resting(key) {
                assert!(self.of_key(key) > 0, "somebody waits for nothing");
            } else if queue.len() > coming {
                stuck.push(key);
            }
        }
        if !stuck.is_empty() && connecting < CONNECTING_MAX {
            assert_eq!(self.book.size(), SIZE_MAX, "there is room for {stuck:?}");
            assert_eq!(idle, 0, "idle ones of other keys make room for {stuck:?}");
        }
    }

    /// Whatever has happened: when everybody leaves, nothing is left.
    fn drain(&mut self) {
        while self.busy.len() + self.opening.len() + self.waiters() > 0 {
            self.apply(Event::Leave { which: 0 });
            self.apply(Event::Opened { which: 0 });
            self.apply(Event::Return { which: 0, marked: false });
            self.check();
        }
        self.now += Duration::from_secs(3_600);
        self.apply(Event::Pass { millis: 0 });
        assert_eq!(self.book.gauges, Gauges::default());
        assert_eq!(self.book.due(self.now), None);
    }
}

fn take<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(which % list.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_the_promises(events in prop::collection::vec(event(), 1..80)) {
        let mut model = Model::new();
        for event in events {
            model.apply(event);
            model.check();
        }
        model.drain();
    }
}
