//! What a session must not read behind: its own writes, and what it has seen before.
//!
//! Where all that a session sees of a shard comes from one server, that server only ever goes on,
//! and nothing is done but to join no load that began too early. Where there are several, what was
//! read is known by its place in the log, which is the *floor* of whatever the session reads next:
//! a shared answer brings its place along; a server that statements were piped to is asked for it
//! before the next answer of another server.
//!
//! # Invariants
//!
//! 1. The place of a piped statement is asked for after it has ended, and before anything else is
//!    read from another server.
//! 2. What went to a primary may have written: no answer is shared before it is known where.
//!
//! # Limits
//!
//! Places are compared as they are: of a standby that was promoted while it lacked what others had
//! shown, nobody is told. Of a replica that is gone only that is known which it had said itself.
//! Where a primary is among the replicas, a standby may show what it is just committing before it
//! shows that itself, as PostgreSQL does: its place in the log is behind the commit already.

use std::sync::Arc;
use std::time::Duration;

use sortie::Join;
use sortie_postgres::{ConnId, Login};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::failure;
use super::leased::{Leased, Place};
use super::switches::{JoinAge, Switches};
use crate::config::{Joining, PipeTarget};
use crate::read::{Floors, Landed, Wish};
use crate::sql::SqlError;

/// How long after a look it is looked again whether a replica has got so far.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a session has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    floors: Floors,
    /// When the load of the last shared answer had ended.
    ended: Option<Instant>,
    /// When a statement of it was prepared last that may be shared: what was found out for others
    /// before is not for it.
    prepared: Option<Instant>,
    /// Statements were piped since: whatever is shared next begins later.
    is_late: bool,
    /// Where to, as far as it is not known yet how far those servers were. At most one for each
    /// server.
    piped: Vec<Place>,
    /// A server that is known to have got so far.
    reached: Option<(Place, u64)>,
}

impl Seen {
    /// Statements go to this server.
    pub(super) fn pipe(&mut self, place: Place) {
        self.is_late = true;
        if !self.piped.contains(&place) {
            self.piped.push(place);
        }
    }

    /// Whether this server is known to have got as far as the session has seen on others.
    fn has_known_reached(&self, place: Place) -> bool {
        let is_other = |it: &Place| it.shard == place.shard && it.server != place.server;
        let floor = self.floors.of(place.shard);
        !self.piped.iter().any(is_other)
            && (floor == 0 || self.reached.is_some_and(|(at, far)| at == place && far >= floor))
    }

    /// It has prepared a statement that may be shared.
    pub(super) fn prepare(&mut self) {
        self.prepared = Some(Instant::now());
    }

    /// Whether it may read from any server.
    pub(super) fn is_free(&self) -> bool {
        self.floors.is_none()
    }

    /// A read was answered that was nobody else's, of the only server that there is.
    pub(super) fn read_lone(&mut self) {
        self.is_late = true;
    }

    /// A shared answer was seen; `has_choice` tells of which shards others may come from elsewhere.
    pub(super) fn share(&mut self, landed: &Landed, has_choice: impl Fn(usize) -> bool) {
        (self.ended, self.is_late) = (Some(landed.ended), false);
        for (shard, mark) in &*landed.marks {
            if !has_choice(*shard) {
                // It has reached the floor, and does not go back.
                self.floors.clear(*shard);
            } else if let Some(until) = mark.until {
                self.floors.raise(*shard, until);
            }
        }
    }

    /// What the session wants of its next shared answer.
    pub(super) fn wish(&self, switches: Switches) -> Wish {
        let join = match switches.join {
            _ if self.is_late => Join::Fresh,
            None | Some(Joining::Fresh) => Join::Fresh,
            Some(Joining::Running) => {
                let oldest = match switches.max_join_age {
                    Some(JoinAge::AtMost(age)) => Instant::now().checked_sub(age),
                    Some(JoinAge::Any) | None => None,
                };
                oldest.max(self.ended).max(self.prepared).map_or(Join::Running, Join::Since)
            }
        };
        Wish { deadline: None, join, floors: self.floors.clone() }
    }
}

impl Cluster {
    /// Whether a session sees rows of this shard that come from more than one server.
    pub(super) fn has_choice(&self, shard: usize, target: PipeTarget) -> bool {
        let servers = &self.servers()[shard];
        match target {
            PipeTarget::Replica => servers.replicas.len() > 1,
            PipeTarget::Primary => servers.primary.is_some() && !servers.replicas.is_empty(),
        }
    }

    /// Whether answers of this shard that are shared come from more than one server.
    fn has_replicas(&self, shard: usize) -> bool {
        self.servers()[shard].replicas.len() > 1
    }

    /// Takes in what the session has seen of an answer.
    pub(super) fn see(&self, seen: &mut Seen, landed: &Landed) {
        seen.share(landed, |shard| self.has_replicas(shard));
    }

    /// Asks the servers to which a session's statements were piped how far they are. Returns
    /// whether it is known: what is not known of a primary may be a write.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves what was not asked for to the next time.
    pub(super) async fn settle(&self, seen: &mut Seen, target: PipeTarget) -> bool {
        while let Some(place) = seen.piped.last().copied() {
            if self.has_choice(place.shard, target) {
                let pulse = self.pulse(place, target);
                match pulse.position_now().await {
                    Some(position) => seen.floors.raise(place.shard, position),
                    None if target == PipeTarget::Primary => return false,
                    None => seen.floors.raise(place.shard, pulse.position().unwrap_or(0)),
                }
            }
            seen.piped.pop();
        }
        true
    }

    /// Has what the session has seen known by its place in the log alone: it is going to be shown
    /// what other servers have. Of a server that can't be asked any more that is known which it
    /// had said last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves what is known by the servers' places.
    pub(super) async fn carry(&self, seen: &mut Seen, target: PipeTarget) {
        if !self.settle(seen, target).await {
            for place in &seen.piped {
                seen.floors.raise(place.shard, self.pulse(*place, target).position().unwrap_or(0));
            }
        }
        if seen.ended.is_some() || seen.is_late {
            for shard in 0..self.shards() {
                // Of one that has no other the place was of no interest.
                let Some(pulse) = self.only(shard) else { continue };
                let position = pulse.position_now().await.or_else(|| pulse.position());
                seen.floors.raise(shard, position.unwrap_or(0));
            }
        }
        (seen.piped, seen.reached) = (Vec::new(), None);
    }

    /// As [`Cluster::lease`], but of a server that has got as far as the session has seen.
    ///
    /// # Errors
    ///
    /// As [`Cluster::lease`], and 55000 if no server gets so far in time.
    ///
    /// # Cancel safety
    ///
    /// As [`Cluster::lease`].
    pub(super) async fn lease_reached(
        &self,
        (shard, target): (usize, PipeTarget),
        login: &Arc<Login>,
        prefer: Option<(Place, Option<ConnId>)>,
        seen: &mut Seen,
    ) -> Result<Leased, SqlError> {
        // A primary has it all.
        if target == PipeTarget::Primary || !self.has_choice(shard, target) {
            return self.lease((shard, target), login, prefer, 0).await;
        }
        let patience = Instant::now() + self.config.timeouts.wait;
        let all = self.servers()[shard].replicas.len();
        let (mut behind, mut count) = (0_u64, 0);
        loop {
            let leased = self.lease((shard, target), login, prefer, behind).await?;
            if self.has_reached(leased.place, seen).await {
                return Ok(leased);
            }
            behind |= bit(leased.place.server);
            count += 1;
            drop(leased);
            if count < all {
                continue;
            }
            if Instant::now() >= patience {
                return Err(failure::behind());
            }
            (behind, count) = (0, 0);
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether it need not be asked if this server has got as far as the session has seen.
    pub(super) fn is_abreast(&self, place: Place, target: PipeTarget, seen: &Seen) -> bool {
        target == PipeTarget::Primary
            || !self.has_choice(place.shard, target)
            || seen.has_known_reached(place)
    }

    /// Whether a replica has got as far as the session has seen on other servers.
    async fn has_reached(&self, place: Place, seen: &mut Seen) -> bool {
        let is_other = |it: &Place| it.shard == place.shard && it.server != place.server;
        while let Some(at) = seen.piped.iter().position(is_other) {
            let pulse = self.pulse(seen.piped[at], PipeTarget::Replica);
            let position = pulse.position_now().await.or_else(|| pulse.position());
            seen.floors.raise(place.shard, position.unwrap_or(0));
            seen.piped.swap_remove(at);
        }
        let floor = seen.floors.of(place.shard);
        if floor == 0 || seen.reached.is_some_and(|(at, far)| at == place && far >= floor) {
            return true;
        }
        let position = self.pulse(place, PipeTarget::Replica).position_now().await;
        let is_reached = position.is_some_and(|position| position >= floor);
        if is_reached {
            seen.reached = Some((place, floor));
        }
        is_reached
    }
}

/// The bit of a server among those that are behind; there is none for more than 64 of them.
pub(super) fn bit(server: usize) -> u64 {
    u32::try_from(server).ok().and_then(|server| 1_u64.checked_shl(server)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Mark;

    fn landed(ended: Instant, mark: Mark) -> Landed {
        Landed { reply: Arc::default(), marks: Arc::from([(0, mark)]), ended }
    }

    fn running(age: Option<Duration>) -> Switches {
        let max_join_age = age.map(JoinAge::AtMost);
        Switches { join: Some(Joining::Running), max_join_age, ..Switches::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_bounds_what_is_joined() {
        let mut seen = Seen::default();
        let second = Duration::from_secs(1);
        sleep(second * 10).await;
        assert_eq!(seen.wish(Switches::default()).join, Join::Fresh);
        assert_eq!(seen.wish(running(None)).join, Join::Running);
        let oldest = Instant::now() - second;
        assert_eq!(seen.wish(running(Some(second))).join, Join::Since(oldest));
        // Neither older than the last answer, nor than the age that is allowed.
        let ended = Instant::now();
        seen.share(&landed(ended, Mark::default()), |_| false);
        assert_eq!(seen.wish(running(Some(second))).join, Join::Since(ended));
        sleep(second * 2).await;
        let oldest = Instant::now() - second;
        assert_eq!(seen.wish(running(Some(second))).join, Join::Since(oldest));
        // What was piped may have written.
        seen.pipe(Place { shard: 0, server: 0 });
        assert_eq!(seen.wish(running(None)).join, Join::Fresh);
        seen.share(&landed(ended, Mark::default()), |_| false);
        assert_eq!(seen.wish(running(None)).join, Join::Since(ended));
    }

    #[tokio::test]
    async fn the_place_of_an_answer_is_the_floor_of_the_next_one() {
        let mut seen = Seen::default();
        let mark = |until| Mark { from: Some(1), until: Some(until) };
        let now = Instant::now();
        for (until, floor) in [(20, 20), (10, 20), (30, 30)] {
            seen.share(&landed(now, mark(until)), |_| true);
            assert_eq!(seen.wish(Switches::default()).floors.of(0), floor);
        }
        // One server alone needs none, once it has got so far.
        seen.share(&landed(now, mark(40)), |_| false);
        assert!(seen.wish(Switches::default()).floors.is_none());
    }
}
