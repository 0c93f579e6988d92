//! All interleavings of a connection in quarantine with a server that is as slow and as unlucky as
//! a server can be.

use std::collections::HashSet;

use super::*;

/// The server, the network and the connection's next user.
#[expect(clippy::struct_excessive_bools, reason = "each may change without the others")]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    quarantine: Quarantine,
    /// The query still runs.
    running: bool,
    /// The reply's end is on its way to us.
    ready_coming: bool,
    /// A request was sent and its signal has not struck yet.
    signal: bool,
    /// The signal has struck (or will never), and the end of the request's socket is on its way.
    end_coming: bool,
    /// The permission was asked for.
    asked: bool,
    /// What was decided.
    over: Option<Step>,
    /// Somebody else's query runs on it.
    reused: bool,
    overdue: u32,
}

/// One thing that may happen next.
#[derive(Clone, Copy, Debug)]
enum Turn {
    EndsByItself,
    Strikes { hits: bool },
    Tell(Event),
    Reuse,
}

impl World {
    fn new(drain: bool, reckless: bool) -> Self {
        let (quarantine, step) = Quarantine::begin(drain, reckless);
        let mut world = Self {
            quarantine,
            running: true,
            ready_coming: false,
            signal: false,
            end_coming: false,
            asked: false,
            over: None,
            reused: false,
            overdue: 0,
        };
        world.obey(step);
        world
    }

    fn turns(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        if self.running {
            turns.push(Turn::EndsByItself);
        }
        if self.signal {
            turns.push(Turn::Strikes { hits: true });
            turns.push(Turn::Strikes { hits: false });
        }
        if self.over == Some(Step::Release) && !self.reused {
            turns.push(Turn::Reuse);
        }
        if self.over.is_some() {
            return turns;
        }
        for (may, event) in [
            (self.ready_coming, Event::Ready),
            (self.end_coming, Event::Ended),
            (self.asked, Event::Granted),
            (self.quarantine.is_flying(), Event::Unsure),
            (self.overdue < 8, Event::Overdue),
            (true, Event::Broken),
        ] {
            if may {
                turns.push(Turn::Tell(event));
            }
        }
        turns
    }

    /// `Err`: a stranger's query was hit.
    fn take(&mut self, turn: Turn) -> Result<(), ()> {
        match turn {
            Turn::EndsByItself => self.end(),
            Turn::Strikes { hits } => {
                (self.signal, self.end_coming) = (false, true);
                if self.reused && hits {
                    return Err(());
                }
                // Between two queries, and in one that is not yet listening, it is lost.
                if hits && self.running {
                    self.end();
                }
            }
            Turn::Reuse => self.reused = true,
            Turn::Tell(event) => {
                match event {
                    Event::Ready => self.ready_coming = false,
                    Event::Ended => self.end_coming = false,
                    Event::Granted => self.asked = false,
                    Event::Overdue => self.overdue += 1,
                    Event::Unsure | Event::Broken => {}
                }
                let step = self.quarantine.on(event);
                self.obey(step);
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        (self.running, self.ready_coming) = (false, true);
    }

    fn obey(&mut self, step: Step) {
        assert!(self.over.is_none());
        match step {
            Step::Wait => {}
            Step::Ask => self.asked = true,
            Step::Cancel => {
                assert!(self.quarantine.is_owing(), "a query that has ended is left alone");
                assert!(!self.signal && !self.end_coming, "one request at a time");
                assert!(self.quarantine.cancels() <= CANCELS_MAX);
                self.signal = true;
            }
            Step::Release | Step::Close => self.over = Some(step),
        }
    }
}

/// Visits every state that can be reached. Returns how many there are, and how many of the ways
/// that lead on from them hit a stranger.
fn explore(drain: bool, reckless: bool) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut open = vec![World::new(drain, reckless)];
    let mut hits = 0;
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(world.over.is_some() || !world.turns().is_empty(), "it is stuck: {world:?}");
        for turn in world.turns() {
            let mut next = world.clone();
            match next.take(turn) {
                Ok(()) => open.push(next),
                Err(()) => hits += 1,
            }
        }
    }
    (seen.len(), hits)
}

#[test]
fn no_interleaving_hits_a_stranger() {
    for drain in [false, true] {
        let (states, hits) = explore(drain, false);
        assert!(states > 100, "it looked at {states} states only");
        assert_eq!(hits, 0);
    }
}

/// The same exploration sees what happens without the wait for the request's end.
#[test]
fn without_the_wait_strangers_are_hit() {
    for drain in [false, true] {
        assert!(explore(drain, true).1 > 0);
    }
}

#[test]
fn a_query_that_ends_in_time_is_never_cancelled() {
    let (mut quarantine, step) = Quarantine::begin(true, false);
    assert_eq!(step, Step::Wait);
    assert_eq!(quarantine.on(Event::Ready), Step::Release);
    let (mut quarantine, step) = Quarantine::begin(false, false);
    assert_eq!(step, Step::Ask);
    assert_eq!(quarantine.on(Event::Ready), Step::Release, "nothing was sent");
    assert_eq!(quarantine.cancels(), 0);
}

#[test]
fn both_ends_are_waited_for_in_either_order() {
    for ends in [[Event::Ready, Event::Ended], [Event::Ended, Event::Ready]] {
        let (mut quarantine, _) = Quarantine::begin(false, false);
        assert_eq!(quarantine.on(Event::Granted), Step::Cancel);
        assert_eq!(quarantine.on(ends[0]), Step::Wait);
        assert_eq!(quarantine.on(ends[1]), Step::Release);
    }
}

#[test]
fn a_query_that_does_not_listen_is_asked_again_and_then_closed() {
    let (mut quarantine, _) = Quarantine::begin(false, false);
    for round in 1..=CANCELS_MAX {
        assert_eq!(quarantine.on(Event::Granted), Step::Cancel);
        assert_eq!(quarantine.on(Event::Ended), Step::Wait);
        let step = if round < CANCELS_MAX { Step::Ask } else { Step::Close };
        assert_eq!(quarantine.on(Event::Overdue), step);
    }
}

#[test]
fn doubt_closes() {
    let flying = || {
        let (mut quarantine, _) = Quarantine::begin(false, false);
        assert_eq!(quarantine.on(Event::Granted), Step::Cancel);
        quarantine
    };
    for event in [Event::Unsure, Event::Overdue, Event::Broken] {
        assert_eq!(flying().on(event), Step::Close, "{event:?}");
    }
}
