//! One begun load and its callers, and what a transition of an entry works with.

use std::iter;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tracing::span::Id;

use crate::observe::{Ends, Event};
use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::call::FlightId;
use crate::singleflight::config::{Config, Idle, Join};
use crate::singleflight::entry::Bed;
use crate::singleflight::launch::{Begin, Bell, Loader};
use crate::singleflight::lingering::Lingering;
use crate::singleflight::party::{Landing, Outcome, Party, Seats, Until};
use crate::singleflight::resting::HandOver;
use crate::singleflight::stats::FlightStats;
use crate::singleflight::tether::Tether;

/// How long after their last deadline callers are known to be parked.
const PARKED: Duration = Duration::from_millis(1);

/// What a shard lends its entries for one transition.
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) stats: &'a mut FlightStats,
    pub(super) ids: &'a mut Ids,
    pub(super) hash: u64,
    /// The soft age of a flight that begins now.
    pub(super) soft_age: Duration,
    pub(super) lingering: &'a Lingering,
    /// Whether anybody wants to hear of it.
    pub(super) observed: bool,
}

impl Desk<'_> {
    /// Counts a flight that ends and by that answers so many callers.
    pub(super) fn ended<V, E>(
        &mut self,
        flight: &Flight<V, E>,
        how: Ends,
        answered: usize,
        fx: &mut Effects<V, E>,
    ) {
        self.stats.count(how);
        if let Some(since) = flight.idle_since {
            self.lingering.leave(since, (self.hash, flight.id));
        }
        if self.observed {
            fx.events.push(Event::ended(flight.id, how, flight.began, answered));
        }
    }
}

/// Gives out ids that grow within a shard and are unique within the registry.
pub(super) struct Ids {
    pub(super) last: u64,
    pub(super) stride: u64,
}

impl Ids {
    pub(super) fn next(&mut self) -> u64 {
        self.last += self.stride;
        self.last
    }
}

/// What must happen after the lock is released.
pub(super) struct Effects<V, E> {
    pub(super) landed: Vec<Seats>,
    pub(super) begin: Option<Begin<V, E>>,
    pub(super) aborts: Vec<Tether>,
    pub(super) bells: Vec<Bell>,
    /// Those that have lingered longest, where too many do: one for each that began to.
    pub(super) evicted: Vec<(u64, u64)>,
    /// Holds the user's closures and values, whose drop is the user's code.
    pub(super) rubbish: Vec<Flight<V, E>>,
    pub(super) unwaited: Option<Box<Waiting<V, E>>>,
    pub(super) spent: Vec<Loader<V, E>>,
    /// Callers who have to look what is to be done.
    pub(super) wakes: Vec<Waker>,
    pub(super) events: Vec<Event>,
    /// A load that rested with its leader.
    pub(super) over: Option<HandOver<V, E>>,
}

impl<V, E> Default for Effects<V, E> {
    fn default() -> Self {
        Self {
            landed: Vec::new(),
            begin: None,
            aborts: Vec::new(),
            bells: Vec::new(),
            evicted: Vec::new(),
            rubbish: Vec::new(),
            unwaited: None,
            spent: Vec::new(),
            wakes: Vec::new(),
            events: Vec::new(),
            over: None,
        }
    }
}

/// One begun load.
pub(super) struct Flight<V, E> {
    pub(super) id: u64,
    /// When it was launched: what its age counts from.
    pub(super) began: Instant,
    /// Its load did not begin earlier. The same moment, if the clock was read then.
    pub(super) not_before: Instant,
    pub(super) soft_age: Duration,
    /// When it begins, if loads say that themselves.
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) party: Party<V, E>,
    /// The parties of earlier flights that failed or were lost while this one could still answer
    /// them.
    pub(super) inherited: Vec<Party<V, E>>,
    /// With its leader, who polls it or lets it rest: it has no task, and nobody can abort it.
    pub(super) inline: bool,
    /// Between two polls of its leader.
    pub(super) rests: Bed<V, E>,
    /// Driven by its leader: it has no task.
    pub(super) local: bool,
    pub(super) loader: Option<Loader<V, E>>,
    pub(super) task: Option<Tether>,
    pub(super) bell: Option<Bell>,
    pub(super) span: Option<Id>,
    pub(super) idle_since: Option<Instant>,
    /// A later flight has begun beside it; none starts by itself a second time.
    pub(super) relieved: bool,
    /// How often the load that its callers wait for was lost already.
    pub(super) losses: u32,
}

/// Callers for whom no load has begun yet.
pub(super) struct Waiting<V, E> {
    pub(super) party: Party<V, E>,
    /// Parties whose loads were lost.
    pub(super) inherited: Vec<Party<V, E>>,
    /// `None` when they can only run their loads themselves.
    pub(super) loader: Option<Loader<V, E>>,
    /// It is one of them that must have their load begun.
    pub(super) orphaned: bool,
    pub(super) losses: u32,
}

impl<V, E> Flight<V, E> {
    pub(super) fn inline(
        id: u64,
        began: Instant,
        soft_age: Duration,
        gate: Option<Arc<Gate>>,
    ) -> Box<Self> {
        // Made in its place, and not copied there: it is large.
        let place = Box::new_uninit();
        Box::write(
            place,
            Self {
                id,
                began,
                not_before: began,
                soft_age,
                gate,
                party: Party::new(id),
                inherited: Vec::new(),
                inline: true,
                rests: None,
                local: false,
                loader: None,
                task: None,
                bell: None,
                span: None,
                idle_since: None,
                relieved: false,
                losses: 0,
            },
        )
    }

    /// Whether nobody but its leader can be waiting for it.
    pub(super) fn is_unshared(&self) -> bool {
        self.loader.is_none() && self.parties().all(|it| it.taken() == 0 && !it.answered())
    }

    pub(super) fn late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= self.soft_age
    }

    /// Whether its time is over: its callers are told so, and no successor could answer them.
    pub(super) fn is_spent(&self, config: &Config, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= config.flight_max
    }

    /// When its task must look after it next.
    pub(super) fn alarm(&self, config: &Config, now: Instant) -> Option<Instant> {
        let late = self.began.checked_add(self.soft_age).filter(|late| *late > now);
        let max = self.began.checked_add(config.flight_max);
        let linger = match (config.idle, self.idle_since) {
            (Idle::Linger(most), Some(since)) => since.checked_add(most),
            _ => None,
        };
        // A little later than the callers' own timers, which are polled unless they are parked.
        let unwanted = match self.parties().map(Party::until).max() {
            Some(Until::Moment(until)) if until >= now => Some(until + PARKED),
            _ => None,
        };
        [late, max, linger, unwanted].into_iter().flatten().min()
    }

    /// When its load began, or a moment before that; `None` while it has not.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.gate.as_ref().map_or(Some(self.not_before), |gate| gate.begun())
    }

    /// How its callers are told of an outcome.
    pub(super) fn landing(&self, outcome: Outcome<V, E>) -> Landing<V, E> {
        let began = self.begun().unwrap_or(self.not_before);
        let span = self.span.clone();
        Landing { flight: FlightId(self.id), began, outcome, span, held: None }
    }

    /// Whether its load begins late enough for a caller that arrives now.
    pub(super) fn suits(&self, join: Join) -> bool {
        match join {
            Join::Running => true,
            Join::Fresh => self.begun().is_none(),
            Join::Since(moment) => self.begun().is_none_or(|began| began > moment),
        }
    }

    pub(super) fn parties(&self) -> impl Iterator<Item = &Party<V, E>> {
        iter::once(&self.party).chain(&self.inherited)
    }

    pub(super) fn parties_mut(&mut self) -> impl Iterator<Item = &mut Party<V, E>> {
        iter::once(&mut self.party).chain(&mut self.inherited)
    }

    pub(super) fn interest(&self, now: Instant) -> usize {
        usize::from(self.inline) + self.parties().map(|it| it.wanted(now)).sum::<usize>()
    }
}
