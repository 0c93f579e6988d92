//! What `SingleFlight` promises, said again as simply as possible: lists, no wakers, no locks.
//!
//! Callers have a *home*: the load that they wait for, or none yet. `Idle::Abort`.

pub(super) const SOFT_AGE: u64 = 100;
pub(super) const FLIGHT_MAX: u64 = 1_000;
pub(super) const KEYS: usize = 2;

/// What a schedule does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A caller arrives; `ready` says that its load, if it is used, answers in its first poll.
    Arrive {
        key: usize,
        wish: Wish,
        ready: bool,
    },
    /// A caller is dropped.
    Leave(usize),
    Forget(usize),
    /// A load ends.
    End {
        which: usize,
        ok: bool,
    },
    /// Milliseconds pass.
    Pass(u64),
}

/// Which load a caller accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Running,
    Fresh,
    /// One that began after a moment so many milliseconds ago.
    Since(u64),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The load with this number.
    Load(usize),
    Failed(usize),
    TimedOut,
}

/// What can be seen from outside.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// The key of every load, in the order of beginning.
    pub(super) begun: Vec<usize>,
    pub(super) alive: Vec<bool>,
    /// The answer of every caller; `None` while it waits or when it has left.
    pub(super) answers: Vec<Option<Answer>>,
}

/// A rule broken on purpose, to prove that the checks would see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Broken {
    Nothing,
    FreshJoinsRunning,
    SinceIsRunning,
    ForgetIsIgnored,
    AThirdFlight,
    AbandonedWaiters,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    load: usize,
    began: u64,
    ready: bool,
    relieved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Caller {
    id: usize,
    home: Option<usize>,
    handed_on: bool,
}

#[derive(Clone, Debug, Default)]
struct Key {
    flights: Vec<Flight>,
    callers: Vec<Caller>,
    fence: usize,
    /// The load of whoever was the first to wait, for as long as anybody does.
    waiting: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) struct Reference {
    broken: Broken,
    pub(super) now: u64,
    keys: [Key; KEYS],
    pub(super) seen: Seen,
    /// When each load began.
    pub(super) began: Vec<u64>,
}

impl Reference {
    pub(super) fn new(broken: Broken) -> Self {
        Self { broken, now: 0, keys: Default::default(), seen: Seen::default(), began: Vec::new() }
    }

    pub(super) fn arrive(&mut self, key: usize, wish: Wish, ready: bool) {
        let id = self.seen.answers.len();
        self.seen.answers.push(None);
        let (now, broken) = (self.now, self.broken);
        let suits = |flight: &Flight| match wish {
            Wish::Running => true,
            Wish::Fresh => broken == Broken::FreshJoinsRunning,
            Wish::Since(ago) => {
                broken == Broken::SinceIsRunning || flight.began > now.saturating_sub(ago)
            }
        };
        let it = &self.keys[key];
        let (newest, fence) = (it.flights.last().copied(), it.fence);
        let open = newest.is_some_and(|flight| self.open(key, flight));
        let most = if self.broken == Broken::AThirdFlight { 3 } else { 2 };
        let stuck = it.flights.len() == 2 && it.flights.iter().all(|flight| self.late(*flight));
        let mut leads = false;
        let home = if open && newest.as_ref().is_some_and(suits) {
            newest.map(|flight| flight.load)
        } else if !open && it.flights.len() < most {
            leads = true;
            None
        } else if stuck {
            it.flights.iter().find(|it| suits(it) && it.load >= fence).map(|flight| flight.load)
        } else {
            None
        };
        self.keys[key].callers.push(Caller { id, home, handed_on: false });
        if leads {
            self.begin(key, ready);
        } else if home.is_none() {
            self.keys[key].waiting.get_or_insert(ready);
        }
    }

    pub(super) fn leave(&mut self, caller: usize) {
        for key in 0..KEYS {
            let before = self.keys[key].callers.len();
            self.keys[key].callers.retain(|it| it.id != caller);
            if self.keys[key].callers.len() < before {
                self.settle(key);
            }
        }
    }

    pub(super) fn forget(&mut self, key: usize) {
        if self.broken != Broken::ForgetIsIgnored && !self.keys[key].flights.is_empty() {
            self.keys[key].fence = self.seen.begun.len();
            self.settle(key);
        }
    }

    pub(super) fn end(&mut self, load: usize, ok: bool) {
        let key = self.seen.begun[load];
        let answer = if ok { Answer::Load(load) } else { Answer::Failed(load) };
        self.land(key, load, answer);
        self.settle(key);
    }

    /// The next moment at which a flight becomes late or ends, and how many do then.
    pub(super) fn next_deadline(&self) -> Option<(u64, usize)> {
        let moments = self.keys.iter().flat_map(|key| {
            key.flights.iter().flat_map(|it| [it.began + SOFT_AGE, it.began + FLIGHT_MAX])
        });
        let moments: Vec<u64> = moments.filter(|at| *at > self.now).collect();
        let first = *moments.iter().min()?;
        Some((first, moments.iter().filter(|at| **at == first).count()))
    }

    /// Moves the clock to `at`, which is not past the next deadline.
    pub(super) fn pass_to(&mut self, at: u64) {
        self.now = at;
        for key in 0..KEYS {
            let ended = self.keys[key].flights.iter().find(|it| it.began + FLIGHT_MAX == at);
            if let Some(load) = ended.map(|it| it.load) {
                self.land(key, load, Answer::TimedOut);
            }
            self.settle(key);
        }
    }

    fn late(&self, flight: Flight) -> bool {
        self.now - flight.began >= SOFT_AGE
    }

    fn open(&self, key: usize, flight: Flight) -> bool {
        flight.load >= self.keys[key].fence && !self.late(flight)
    }

    fn begin(&mut self, key: usize, ready: bool) {
        let load = self.seen.begun.len();
        self.seen.begun.push(key);
        self.began.push(self.now);
        self.seen.alive.push(true);
        let it = &mut self.keys[key];
        it.waiting = None;
        for flight in &mut it.flights {
            flight.relieved = true;
        }
        it.flights.push(Flight { load, began: self.now, ready, relieved: false });
        for caller in it.callers.iter_mut().filter(|caller| caller.home.is_none()) {
            caller.home = Some(load);
        }
        if ready {
            self.land(key, load, Answer::Load(load));
            self.settle(key);
        }
    }

    fn land(&mut self, key: usize, load: usize, answer: Answer) {
        let it = &mut self.keys[key];
        let flights = &mut it.flights;
        let at = flights.iter().position(|flight| flight.load == load).unwrap();
        flights.remove(at);
        self.seen.alive[load] = false;
        if matches!(answer, Answer::Load(_)) {
            // Earlier flights are superseded.
            for earlier in flights.drain(..at) {
                self.seen.alive[earlier.load] = false;
            }
        }
        let successor = flights.get(at).map(|flight| flight.load);
        let answers = &mut self.seen.answers;
        it.callers.retain_mut(|caller| {
            let theirs = match answer {
                Answer::Load(_) => caller.home.is_some_and(|home| home <= load),
                Answer::Failed(_) | Answer::TimedOut => caller.home == Some(load),
            };
            let handed_on = matches!(answer, Answer::Failed(_)) && !caller.handed_on;
            if theirs && handed_on && successor.is_some() {
                (caller.home, caller.handed_on) = (successor, true);
                return true;
            }
            if theirs {
                answers[caller.id] = Some(answer);
            }
            !theirs
        });
    }

    fn settle(&mut self, key: usize) {
        let Key { flights, callers, .. } = &mut self.keys[key];
        // A flight is idle when nobody waits whom it could answer.
        let alive = &mut self.seen.alive;
        flights.retain(|flight| {
            let idle = !callers.iter().any(|it| it.home.is_some_and(|home| home <= flight.load));
            alive[flight.load] = !idle;
            !idle
        });
        if callers.iter().all(|caller| caller.home.is_some()) {
            self.keys[key].waiting = None;
        }
        let flights = &self.keys[key].flights;
        if flights.len() > 1 {
            return;
        }
        let running = self.keys[key].flights.first().copied();
        if running.is_some_and(|flight| self.open(key, flight)) {
            return;
        }
        if let Some(ready) = self.keys[key].waiting {
            if self.broken != Broken::AbandonedWaiters {
                self.begin(key, ready);
            }
        } else if let Some(flight) = running
            && self.late(flight)
            && !flight.relieved
        {
            self.begin(key, flight.ready);
        }
    }
}
