//! The book against a plain model of what it promises, with any sequence of events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

type TestBook = Book<u8, u32, u32, u8, u8>;

const SIZE_MAX: u32 = 4;
const CONNECTING_MAX: u32 = 2;
const WAITERS_MAX: u32 = 6;
const OVERTAKES_MAX: u32 = 2;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

fn limits() -> Limits {
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
    /// Connection, its key, its id; those of `busy` are in use or, where the flag says, apart.
    busy: Vec<(u32, u8, ConnId, bool)>,
    opening: Vec<(ConnId, u8)>,
    waiting: BTreeMap<u8, VecDeque<(u32, u64)>>,
    /// How often each waiter was overtaken by one of another key while the server was full.
    known: BTreeMap<u32, ConnId>,
    numbers: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            book: Book::new(limits()),
            now: Instant::now(),
            busy: Vec::new(),
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
                let Some((conn, _, id, _)) = take(&mut self.busy, which) else { return };
                let residue = marked.then_some(Residue { owner: 1, version: 1 });
                self.book.put_back(id, conn, residue, self.now, &mut acts);
            }
            Event::Drop { which } => {
                let Some((conn, _, id, _)) = take(&mut self.busy, which) else { return };
                self.known.remove(&conn);
                self.book.vacate(id, self.now, &mut acts);
            }
            Event::Quarantine { which } => {
                let Some(entry) = self.busy.iter_mut().filter(|busy| !busy.3).nth(which) else {
                    return;
                };
                entry.3 = self.book.quarantine(entry.2);
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
                let Some((id, key)) = take(&mut self.opening, which) else { return };
                self.numbers += 1;
                self.known.insert(self.numbers, id);
                self.busy.push((self.numbers, key, id, false));
                let (conn, ..) = self.busy.pop().unwrap();
                let expires = self.now + Duration::from_secs(5);
                self.book.opened(id, conn, expires, self.now, &mut acts);
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
        if let Some(taken) = self.book.checkout(&key, prefer, &home) {
            assert_eq!(self.known[&taken.conn], taken.id, "the connection is the one it says");
            assert!(self.queue(key).is_empty(), "a newcomer overtakes nobody of its key");
            self.busy.push((taken.conn, key, taken.id, false));
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
                Act::Give { conn, waiter, .. } => {
                    let id = self.known[&conn];
                    let key = self.forget(waiter);
                    self.busy.push((conn, key, id, false));
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
        let busy = self.busy.iter().filter(|busy| busy.1 == key).count();
        busy + self.opening.iter().filter(|opening| opening.1 == key).count() + self.idle_of(key)
    }

    fn idle_of(&self, key: u8) -> usize {
        let slots = self.book.slots.iter().filter(|slot| slot.state == State::Idle);
        slots.filter(|slot| self.book.racks[slot.rack as usize].key == key).count()
    }

    fn check(&mut self) {
        let Gauges { idle, in_use, connecting, waiting, quarantined } = self.book.gauges;
        let apart = self.busy.iter().filter(|busy| busy.3).count();
        assert_eq!(connecting as usize, self.opening.len());
        assert_eq!(in_use as usize, self.busy.len() - apart);
        assert_eq!(quarantined as usize, apart);
        assert_eq!(waiting as usize, self.waiters());
        assert_eq!(idle as usize, self.known.len() - self.busy.len(), "none is lost");
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

/// A book whose first connection is open and in use.
fn with_one(key: u8) -> (TestBook, ConnId, Instant) {
    let (mut book, now, mut acts) = (Book::new(limits()), Instant::now(), Vec::new());
    book.wait(&key, &0, 0, now, &mut acts).unwrap();
    let Some(Act::Open { id, .. }) = acts.pop() else { panic!("{acts:?}") };
    book.opened(id, 100, now + Duration::from_secs(5), now, &mut acts);
    assert!(matches!(acts[..], [Act::Give { conn: 100, waiter: 0, .. }]), "{acts:?}");
    (book, id, now)
}

#[test]
fn a_session_finds_its_own_connection_again() {
    let (mut book, mine, now) = with_one(1);
    let mut acts = Vec::new();
    book.wait(&1, &0, 1, now, &mut acts).unwrap();
    let Some(Act::Open { id: other, .. }) = acts.pop() else { panic!("{acts:?}") };
    book.opened(other, 101, now + Duration::from_secs(5), now, &mut acts);
    let residue = Some(Residue { owner: 7, version: 3 });
    book.put_back(mine, 100, residue, now, &mut acts);
    book.put_back(other, 101, None, now, &mut acts);

    let taken = book.checkout(&1, Some(mine), &0).unwrap();
    assert_eq!((taken.conn, taken.residue), (100, residue));
    book.put_back(mine, 100, residue, now, &mut acts);
    assert_eq!(book.checkout(&1, None, &0).unwrap().conn, 101, "a stranger takes the clean one");
    assert_eq!(book.checkout(&1, None, &0).unwrap().conn, 100, "and then any");
    assert!(book.checkout(&1, Some(mine), &0).is_none(), "what is in use is nobody else's");
    book.put_back(mine, 100, None, now, &mut acts);
    assert!(book.checkout(&2, Some(mine), &0).is_none(), "another key's is not mine");
}

#[test]
fn a_connection_of_the_own_runtime_is_preferred() {
    let (mut book, here, now) = with_one(1);
    let mut acts = Vec::new();
    book.wait(&1, &9, 1, now, &mut acts).unwrap();
    let Some(Act::Open { id: there, .. }) = acts.pop() else { panic!("{acts:?}") };
    book.opened(there, 101, now + Duration::from_secs(5), now, &mut acts);
    book.put_back(here, 100, None, now, &mut acts);
    book.put_back(there, 101, None, now, &mut acts);
    assert_eq!(book.checkout(&1, None, &0).unwrap().conn, 100);
    assert_eq!(book.checkout(&1, None, &0).unwrap().conn, 101, "allow any");
}

#[test]
fn nobody_is_overtaken_for_ever() {
    let (mut book, id, now) = with_one(1);
    let mut acts = Vec::new();
    book.limits.size_max = 1;
    book.wait(&2, &0, 50, now, &mut acts).unwrap();
    for waiter in 0..WAITERS_MAX - 1 {
        book.wait(&1, &0, waiter, now, &mut acts).unwrap();
    }
    assert!(acts.is_empty(), "{acts:?}");
    for waiter in 0..OVERTAKES_MAX {
        book.put_back(id, 100, None, now, &mut acts);
        assert!(matches!(acts.pop(), Some(Act::Give { waiter: w, .. }) if w == waiter));
    }
    book.put_back(id, 100, None, now, &mut acts);
    assert!(matches!(acts[..], [Act::Close(100), Act::Open { key: 2, .. }]), "{acts:?}");
}

#[test]
fn a_server_that_refuses_is_left_alone_and_asked_again() {
    let (mut book, mut now, mut acts) = (TestBook::new(limits()), Instant::now(), Vec::new());
    for pause in [100, 200, 400, 800, 1_000, 1_000] {
        book.wait(&1, &0, 1, now, &mut acts).unwrap();
        let Some(Act::Open { id, .. }) = acts.pop() else { panic!("{acts:?}") };
        book.failed(id, (Scope::Server, 9), 0, now, &mut acts);
        assert!(matches!(acts.pop(), Some(Act::Fail { error: 9, .. })), "told at once");
        now += Duration::from_millis(pause - 1);
        let resting = book.wait(&2, &0, 1, now, &mut acts);
        assert!(matches!(resting, Err(NoWait::Resting(9))), "{resting:?} after {pause} ms");
        now += Duration::from_millis(1);
    }
}

#[test]
fn warm_connections_stay_and_come_back() {
    let (mut book, mut now, mut acts) = (TestBook::new(limits()), Instant::now(), Vec::new());
    book.warm(&1, 2, now, &mut acts);
    let ids: Vec<_> = acts
        .drain(..)
        .map(|act| match act {
            Act::Open { id, .. } => id,
            other => panic!("{other:?}"),
        })
        .collect();
    let lifetime = Duration::from_secs(7_200);
    for (conn, &id) in (0..).zip(&ids) {
        book.opened(id, conn, now + lifetime, now, &mut acts);
    }
    assert_eq!((book.gauges.idle, ids.len()), (2, 2));
    now += Duration::from_secs(3_600);
    book.tick(now, &mut acts);
    assert!(acts.is_empty(), "the idle timeout spares them: {acts:?}");
    assert_eq!(book.due(now), Some(now + lifetime - Duration::from_secs(3_600)));
    now += lifetime;
    book.tick(now, &mut acts);
    let opened = acts.iter().filter(|act| matches!(act, Act::Open { .. })).count();
    assert_eq!((opened, acts.len()), (2, 4), "{acts:?}");
}

#[test]
fn a_lower_limit_closes_idle_ones_at_once_and_others_as_they_come_back() {
    let (mut book, now, mut acts) = (TestBook::new(limits()), Instant::now(), Vec::new());
    let mut ids = Vec::new();
    for number in 0..SIZE_MAX {
        book.wait(&1, &0, number, now, &mut acts).unwrap();
        let Some(Act::Open { id, .. }) = acts.pop() else { panic!("{acts:?}") };
        book.opened(id, 100 + number, now + Duration::from_secs(5), now, &mut acts);
        ids.push(id);
    }
    book.put_back(ids[0], 100, None, now, &mut acts);
    book.limit(Limits { size_max: 2, ..limits() }, now, &mut acts);
    assert!(matches!(acts[..], [.., Act::Close(100)]), "the idle one goes: {acts:?}");
    acts.clear();
    book.wait(&1, &0, 9, now, &mut acts).unwrap();
    assert!(acts.is_empty(), "none is opened above the limit: {acts:?}");
    book.put_back(ids[1], 101, None, now, &mut acts);
    assert!(matches!(acts[..], [Act::Close(101)]), "it is one too many: {acts:?}");
    acts.clear();
    book.put_back(ids[2], 102, None, now, &mut acts);
    assert!(matches!(acts[..], [Act::Give { conn: 102, waiter: 9, .. }]), "{acts:?}");
    book.wait(&2, &0, 10, now, &mut acts).unwrap();
    acts.clear();
    book.limit(Limits { size_max: 3, ..limits() }, now, &mut acts);
    assert!(matches!(acts[..], [Act::Open { key: 2, .. }]), "there is room now: {acts:?}");
    assert_eq!(book.size(), 3);
}
