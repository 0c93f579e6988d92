//! What the book does, case by case.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::tests::{OVERTAKES_MAX, SIZE_MAX, TestBook, WAITERS_MAX, limits};
use super::*;

/// A book whose first connection is open and in use.
fn with_one(key: u8) -> (TestBook, ConnId, Instant) {
    let (mut book, now, mut acts) = (Book::new(limits()), Instant::now(), Vec::new());
    book.wait(&key, &0, 0, now, &mut acts).unwrap();
    let Some(Act::Open { id, .. }) = acts.pop() else { panic!("{acts:?}") };
    book.opened(id, 100, now + Duration::from_secs(5), now, &mut acts);
    let [Act::Give { taken: Taken { conn: 100, .. }, waiter: 0 }] = acts[..] else {
        panic!("{acts:?}")
    };
    (book, id, now)
}

/// Another connection of the key 1, number 101, is open and in use by somebody at home there.
fn another(book: &mut TestBook, home: u8, now: Instant) -> ConnId {
    let mut acts = Vec::new();
    book.wait(&1, &home, 1, now, &mut acts).unwrap();
    let Some(Act::Open { id, .. }) = acts.pop() else { panic!("{acts:?}") };
    book.opened(id, 101, now + Duration::from_secs(5), now, &mut acts);
    id
}

/// What somebody gets who asks for one of the key 1, for whom nothing is opened.
fn ask(book: &mut TestBook, prefer: Option<ConnId>, now: Instant) -> Option<Taken<u32>> {
    let mut acts = Vec::new();
    let taken = book.checkout(&1, prefer, &0, now, &mut acts);
    assert!(acts.is_empty(), "{acts:?}");
    taken
}

#[test]
fn a_session_finds_its_own_connection_again() {
    let (mut book, mine, now) = with_one(1);
    let mut acts = Vec::new();
    let other = another(&mut book, 0, now);
    let residue = Some(Residue { owner: 7, version: 3 });
    book.put_back(mine, 100, residue, now, &mut acts);
    book.put_back(other, 101, None, now, &mut acts);

    let taken = ask(&mut book, Some(mine), now).unwrap();
    assert_eq!((taken.conn, taken.residue), (100, residue));
    book.put_back(mine, 100, residue, now, &mut acts);
    assert_eq!(ask(&mut book, None, now).unwrap().conn, 101, "a stranger takes the clean one");
    let later = now + SECOND;
    assert_eq!(ask(&mut book, None, later).unwrap().conn, 100, "and then any");
    assert!(ask(&mut book, Some(mine), now).is_none(), "what is in use is nobody else's");
    book.put_back(mine, 100, None, now, &mut acts);
    assert!(
        book.checkout(&2, Some(mine), &0, now, &mut acts).is_none(),
        "another key's is not mine"
    );
}

#[test]
fn a_connection_of_the_own_runtime_is_preferred() {
    let (mut book, here, now) = with_one(1);
    let mut acts = Vec::new();
    let there = another(&mut book, 9, now);
    book.put_back(here, 100, None, now, &mut acts);
    book.put_back(there, 101, None, now, &mut acts);
    assert_eq!(ask(&mut book, None, now).unwrap().conn, 100);
    assert_eq!(ask(&mut book, None, now).unwrap().conn, 101, "allow any");
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

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_had_a_connection_last_has_it_again_without_a_word() {
    let (mut book, id, now) = with_one(1);
    let mut acts = Vec::new();
    let berth = Arc::clone(&book.slots[0].berth);
    let ticket = berth.ticket();
    assert!(berth.back(100, None).is_err(), "it was taken from the book, which must know");
    book.put_back(id, 100, None, now, &mut acts);
    assert_eq!(berth.again(&ticket), Some(100));
    assert_eq!((book.gauges.idle, book.gauges.in_use), (1, 0), "nobody has looked");
    assert!(berth.back(100, None).is_ok());
    assert_eq!(berth.again(&ticket), Some(100));
    let marked = Some(Residue { owner: 7, version: 3 });
    assert!(berth.back(100, marked).is_err(), "the book prefers those without a mark");
    book.put_back(id, 100, marked, now, &mut acts);
    assert_eq!(berth.again(&ticket), Some(100));
    book.look();
    assert_eq!((book.gauges.idle, book.gauges.in_use, book.agains), (0, 1, 3));
    assert!(berth.back(100, marked).is_err());
    book.put_back(id, 100, marked, now, &mut acts);
    assert!(acts.is_empty(), "{acts:?}");
    let taken = book.checkout(&1, None, &0, now, &mut acts).unwrap();
    assert_eq!(taken.residue, marked);
    assert_eq!(berth.again(&ticket), None);
}

#[test]
fn a_stranger_takes_what_its_owner_has_left_and_not_what_is_in_use_all_the_time() {
    let (mut book, used, now) = with_one(1);
    let mut acts = Vec::new();
    let left = another(&mut book, 0, now);
    let mark = |owner| Some(Residue { owner, version: 1 });
    // It was laid down first, but its owner has it again and again.
    book.put_back(used, 100, mark(1), now, &mut acts);
    book.put_back(left, 101, mark(2), now, &mut acts);
    let berth = Arc::clone(&book.slots[used.slot as usize].berth);
    let mut ticket = berth.ticket();
    for _ in 0..3 {
        assert_eq!(berth.again(&ticket), Some(100));
        ticket = berth.back(100, mark(1)).unwrap();
        assert_eq!(ask(&mut book, None, now).unwrap().conn, 101);
        book.put_back(left, 101, mark(3), now, &mut acts);
    }
    let later = now + SECOND;
    assert_eq!(ask(&mut book, None, later).unwrap().conn, 100, "it has been left since");
    assert!(acts.is_empty(), "{acts:?}");
}

#[test]
fn whoever_takes_what_will_be_missed_has_another_one_opened() {
    let (mut book, id, now) = with_one(1);
    let (residue, mut acts) = (Some(Residue { owner: 7, version: 3 }), Vec::new());
    book.slots[0].expires = now + 100 * SECOND;
    let take = |book: &mut TestBook, now: Instant| {
        let mut acts = Vec::new();
        let taken = book.checkout(&1, None, &0, now, &mut acts).unwrap();
        (taken.conn, acts.pop())
    };
    // Its user is gone, or has been away for long, or has left nothing.
    book.put_back(id, 100, residue, now, &mut acts);
    assert!(matches!(take(&mut book, now), (100, None)));
    let berth = Arc::clone(&book.slots[0].berth);
    book.put_back(id, 100, residue, now, &mut acts);
    assert!(matches!(take(&mut book, now + SECOND), (100, None)));
    book.put_back(id, 100, None, now, &mut acts);
    assert!(matches!(take(&mut book, now), (100, None)));
    // Its user comes again and again, since long ago.
    let mut ticket = berth.ticket();
    book.put_back(id, 100, residue, now, &mut acts);
    for _ in 0..2 {
        assert_eq!(berth.again(&ticket), Some(100));
        ticket = berth.back(100, residue).unwrap();
    }
    let now = now + SECOND;
    let (100, Some(Act::Open { id: more, key: 1, home: Some(0) })) = take(&mut book, now) else {
        panic!("nothing is opened");
    };
    book.opened(more, 101, now + 100 * SECOND, now, &mut acts);
    assert_eq!(ask(&mut book, None, now).unwrap().conn, 101, "who was robbed robs nobody");
    // A server that lets no more in is not asked again for this.
    for scope in [Scope::Server, Scope::Key] {
        book.put_back(id, 100, residue, now, &mut acts);
        let (100, Some(Act::Open { id: more, .. })) = take(&mut book, now) else { panic!() };
        book.failed(more, (scope, 9), 0, now, &mut acts);
        let later = now + 10 * SECOND;
        book.put_back(id, 100, residue, later, &mut acts);
        assert!(matches!(take(&mut book, later), (100, None)), "{scope:?}");
        (book.rest, book.racks[0].rest) = Default::default();
    }
    // Nor is there more than there may be.
    book.limits.size_max = 2;
    book.put_back(id, 100, residue, now, &mut acts);
    assert!(matches!(take(&mut book, now), (100, None)));
    assert!(acts.is_empty(), "{acts:?}");
}

#[test]
fn what_rests_is_whoevers_asks_first() {
    let (mut book, id, now) = with_one(1);
    let mut acts = Vec::new();
    book.limits.size_max = 1;
    let berth = Arc::clone(&book.slots[0].berth);
    let mine = berth.ticket();
    book.put_back(id, 100, None, now, &mut acts);
    assert_eq!(ask(&mut book, None, now).unwrap().conn, 100, "nothing is held back");
    let theirs = berth.ticket();
    book.put_back(id, 100, None, now, &mut acts);
    assert_eq!(berth.again(&mine), None, "it rests for its last user alone");
    assert_eq!(berth.again(&theirs), Some(100));

    assert!(ask(&mut book, Some(id), now).is_none());
    book.wait(&1, &0, 5, now, &mut acts).unwrap();
    assert!(berth.back(100, None).is_err(), "somebody waits for it");
    book.put_back(id, 100, None, now, &mut acts);
    assert!(matches!(acts[..], [Act::Give { waiter: 5, .. }]), "{acts:?}");
    assert_eq!(berth.again(&theirs), None);
    assert_eq!((book.gauges.idle, book.gauges.in_use), (0, 1));
}

#[test]
fn what_is_used_without_a_word_is_not_idle() {
    let (mut book, id, mut now) = with_one(1);
    let mut acts = Vec::new();
    let berth = Arc::clone(&book.slots[0].berth);
    let ticket = berth.ticket();
    (book.slots[0].expires, book.limits.idle_timeout) = (now + 100 * SECOND, 10 * SECOND);
    book.put_back(id, 100, None, now, &mut acts);
    now += 9 * SECOND;
    assert_eq!(berth.again(&ticket), Some(100));
    assert!(berth.back(100, None).is_ok());
    book.tick(now, &mut acts);
    now += 9 * SECOND;
    book.tick(now, &mut acts);
    assert!(acts.is_empty(), "{acts:?}");
    assert_eq!(berth.again(&ticket), Some(100));
    now += 90 * SECOND;
    book.tick(now, &mut acts);
    now += 90 * SECOND;
    book.tick(now, &mut acts);
    assert!(acts.is_empty(), "nobody closes it under its user: {acts:?}");
    assert!(berth.back(100, None).is_err(), "it is too old");
    book.put_back(id, 100, None, now, &mut acts);
    assert!(matches!(acts[..], [Act::Close(100)]), "{acts:?}");
}

#[test]
fn a_ticket_does_not_lead_to_the_next_connection_in_the_same_place() {
    let (mut book, id, now) = with_one(1);
    let mut acts = Vec::new();
    let berth = Arc::clone(&book.slots[0].berth);
    let ticket = berth.ticket();
    book.put_back(id, 100, None, now, &mut acts);
    book.retire(now, &mut acts);
    assert!(matches!(acts.pop(), Some(Act::Close(100))));
    assert_eq!(berth.again(&ticket), None);
    book.wait(&1, &0, 1, now, &mut acts).unwrap();
    let Some(Act::Open { id: other, .. }) = acts.pop() else { panic!("{acts:?}") };
    assert_eq!(other.slot, id.slot);
    book.opened(other, 101, now + SECOND, now, &mut acts);
    book.put_back(other, 101, None, now, &mut acts);
    assert_eq!(berth.again(&ticket), None);
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
    let [Act::Give { taken: Taken { conn: 102, .. }, waiter: 9 }] = acts[..] else {
        panic!("{acts:?}")
    };
    book.wait(&2, &0, 10, now, &mut acts).unwrap();
    acts.clear();
    book.limit(Limits { size_max: 3, ..limits() }, now, &mut acts);
    assert!(matches!(acts[..], [Act::Open { key: 2, .. }]), "there is room now: {acts:?}");
    assert_eq!(book.size(), 3);
}
