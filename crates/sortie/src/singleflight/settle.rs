//! How the flights of a key come to rest after each change: idle ones end, the next begins.

use crate::observe::{Begins, Ends};
use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::config::Idle;
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::{Desk, Effects, Flight, Waiting};
use crate::singleflight::launch::{self, Begin};
use crate::singleflight::party::Party;
use crate::singleflight::traffic::Traffic;

/// When the task of a flight must look again, or why it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    At(Option<Instant>),
    TimedOut,
    Gone,
}

impl<V, E> Traffic<V, E> {
    /// Brings the entry to rest: idle flights end, the next begins if it is its turn.
    pub(super) fn settle(&mut self, desk: &mut Desk<'_>, now: Instant, fx: &mut Effects<V, E>) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.wanted(now) == 0) {
            fx.unwaited = self.waiting.take();
            let parties = fx.unwaited.iter_mut().flat_map(|it| it.parties_mut());
            fx.landed.extend(parties.filter_map(|party| party.end(now, FlightError::TimedOut)));
        }
        self.end_idle(desk, now, fx);
        if self.running.is_none() {
            self.running = self.next.take();
        }
        if self.next.is_some() {
            return;
        }
        let closed = self.running.as_ref().is_none_or(|it| !self.open(it, now));
        if closed && let Some(waiting) = self.waiting.take_if(|it| it.is_ready(fx)) {
            desk.stats.nexts += 1;
            self.begin(*waiting, Begins::Next, desk, fx);
        } else if let Some(running) = &mut self.running
            && running.late(now)
            && !running.is_spent(desk.config, now)
            && !running.relieved
            && !running.inline
            && running.interest(now) > 0
            && let Some(loader) = running.loader.clone()
        {
            desk.stats.successors += 1;
            let party = Party::new(desk.ids.next());
            self.begin(Waiting::new(party, Some(loader)), Begins::Successor, desk, fx);
        }
    }

    fn begin(
        &mut self,
        waiting: Waiting<V, E>,
        how: Begins,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) {
        let Waiting { party, inherited, loader, losses, .. } = waiting;
        let loader = loader.expect("without one they are orphans");
        // Read under the lock: not before any of the waiting callers arrived.
        let now = Instant::now();
        let gate = desk.config.boarding.then(|| Gate::new(now));
        let mut flight = Flight::inline(desk.ids.next(), now, desk.soft_age, gate);
        let cx = launch::cx(flight.id, now, flight.gate.clone(), desk.config);
        flight.inline = false;
        (flight.party, flight.inherited, flight.losses) = (party, inherited, losses);
        let alarm = flight.alarm(desk.config, now);
        let begin =
            Begin { bell: launch::bell(desk.config), cx, alarm, loader: loader.clone(), how };
        flight.bell.clone_from(&begin.bell);
        flight.loader = Some(loader);
        self.seat(flight);
        fx.begin = Some(begin);
    }

    fn end_idle(&mut self, desk: &mut Desk<'_>, now: Instant, fx: &mut Effects<V, E>) {
        let before = self.running.as_ref().map_or(0, |running| running.interest(now));
        // A later flight can answer the earlier one's callers, so they are its callers too.
        let idle = [
            self.running.as_ref().filter(|_| before == 0).map(|flight| flight.id),
            self.next.as_ref().filter(|next| before + next.interest(now) == 0).map(|next| next.id),
        ];
        for id in idle.into_iter().flatten() {
            let flight = self.flight_mut(id).expect("found above");
            match desk.config.idle {
                Idle::Detach => {}
                Idle::Linger(most) => {
                    let since = flight.idle_since.unwrap_or(now);
                    if flight.idle_since.replace(since).is_none() {
                        fx.bells.extend(flight.bell.clone());
                        let most = desk.config.lingering_max;
                        fx.evicted.extend(desk.lingering.enter(since, (desk.hash, id), most));
                    }
                    if now.saturating_duration_since(since) >= most {
                        self.remove(id, (Ends::Aborted, now), &FlightError::TimedOut, desk, fx);
                    }
                }
                Idle::Abort => {
                    self.remove(id, (Ends::Aborted, now), &FlightError::TimedOut, desk, fx);
                }
            }
        }
    }

    pub(super) fn remove(
        &mut self,
        id: u64,
        (how, now): (Ends, Instant),
        rest: &FlightError<E>,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) {
        let slot = [&mut self.running, &mut self.next]
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(|flight| flight.id == id));
        let mut flight = slot.and_then(Option::take).expect("the caller has found the flight");
        desk.ended(&flight, how, 0, fx);
        // Whoever still sits there, parked past its deadline or cancelled, finds this.
        let ended = |party: &mut Party<V, E>| party.end(now, rest.clone());
        fx.landed.extend(flight.parties_mut().filter_map(ended));
        fx.aborts.extend(flight.task.take());
        fx.rubbish.push(*flight);
    }

    /// What the task of a flight has to do now that a timer or its bell rang.
    pub(super) fn due(&mut self, id: u64, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) -> Due {
        let now = Instant::now();
        self.settle(desk, now, fx);
        let Some(flight) = self.flight(id) else { return Due::Gone };
        if flight.is_spent(desk.config, now) {
            return Due::TimedOut;
        }
        Due::At(flight.alarm(desk.config, now))
    }

    /// Ends the flight that has lingered longest, unless somebody has joined it meanwhile.
    pub(super) fn evict(&mut self, id: u64, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        let now = Instant::now();
        if self.flight(id).is_some_and(|flight| flight.idle_since.is_some()) {
            self.remove(id, (Ends::Aborted, now), &FlightError::TimedOut, desk, fx);
            self.settle(desk, now, fx);
        }
    }
}
