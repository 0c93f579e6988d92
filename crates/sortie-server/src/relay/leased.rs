//! A connection that a session has for a while, and the way back to it.

use std::io;

use sortie_postgres::{ConnId, Pooled, Residue, Resting};
use tokio::io::{AsyncRead, AsyncWrite};

use super::cluster::Cluster;
use super::failure;
use super::health::Pulse;
use super::hold::Held;
use super::session::Session;
use super::shared::{PipeReason, Shared};
use crate::config::PipeTarget;

/// Which server of a cluster: the shard, and the server's place in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    pub(crate) server: usize,
}

/// A connection, and where it leads.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) server: Pooled,
    pub(crate) place: Place,
    pub(super) pulse: Pulse,
}

/// A connection that was given back, and where it leads.
#[derive(Debug)]
pub(super) struct Rested {
    resting: Resting,
    /// What the session has left on it.
    pub(super) residue: Option<Residue>,
    place: Place,
    target: PipeTarget,
}

impl Cluster {
    /// Takes the connection that was given back, if nobody has had it since, and nobody would be
    /// asked before its server.
    pub(super) fn again(&self, rested: Rested) -> Option<Leased> {
        let Rested { resting, place, target, .. } = rested;
        let pulse = self.targets(place.shard, target).1.get(place.server)?;
        if pulse.is_silent() {
            return None;
        }
        Some(Leased { server: resting.again()?, place, pulse: pulse.clone() })
    }
}

impl Leased {
    /// Gives the connection back. Returns the way to have it again, if there is one.
    pub(super) fn rest(&mut self, target: PipeTarget) -> Option<Rested> {
        let (place, residue) = (self.place, self.server.residue());
        self.server.rest().map(|resting| Rested { resting, residue, place, target })
    }

    /// Why nothing is waited for from this server any more, if that is so.
    pub(super) fn silence(&self, cluster: &Cluster) -> Option<io::Error> {
        let patience = cluster.config.timeouts.silence;
        let error = || io::Error::new(io::ErrorKind::TimedOut, failure::said_nothing(patience));
        self.pulse.is_given_up().then(error)
    }
}

impl Rested {
    /// Where it leads.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Which connection it is.
    pub(super) fn id(&self) -> ConnId {
        self.resting.id()
    }
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Takes the connection again that the session had last. Returns whether it has it: nobody
    /// else has had it, and it is as it was left.
    pub(super) fn resume(&mut self, shard: usize, reason: PipeReason) -> bool {
        let Some(rested) = self.rested.take() else { return false };
        let work = self.meter.works();
        let (id, residue) = (rested.id(), rested.residue);
        let is_as_left = self.course.here.is_at(self.ledger.at());
        let (place, target) = (rested.place(), self.account.target);
        let fits = place.shard == shard && self.cluster.is_abreast(place, target, &self.seen);
        let fits = fits && !self.cluster.valve.is_closed();
        let leased = fits.then_some(rested).and_then(|it| self.cluster.again(it));
        if fits && leased.is_none() {
            // Whoever has it goes on to need it: to take it back would be to be robbed again.
            self.last = Some((place, None));
        }
        if let Some(leased) = leased {
            if is_as_left {
                self.course.resume();
                self.meter.has(leased.server.cancel_key().process());
                let taken = (leased, work, self.course.here.is_apart);
                self.held = Some(Held::new(taken, reason, self.lanes));
            } else {
                self.homes.keep(id, residue, self.course.end());
                self.hold(leased, reason, work);
            }
            return true;
        }
        self.homes.keep(id, residue, self.course.end());
        false
    }

    /// The session goes on without the connection that rests, and remembers what it has left there.
    pub(super) fn depart(&mut self) {
        if let Some(rested) = self.rested.take() {
            let here = self.course.end();
            self.homes.keep(rested.id(), rested.residue, here);
        }
    }
}
