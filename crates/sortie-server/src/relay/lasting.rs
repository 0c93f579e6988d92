//! What stays of a cluster when it is configured anew, and how its servers are told apart then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sortie_postgres::{ConnInfo, Login, Server};

use super::cluster::Cluster;
use super::crowd::Crowd;
use super::health::{Attendance, Pulse};
use super::stats::Lanes;
use crate::config::Mode;

/// What stays of a cluster: its sessions, and what they did.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    pub(super) attendance: Arc<Attendance>,
    /// Who has sessions.
    pub(super) crowd: Crowd,
    /// What its sessions did.
    pub(super) lanes: Lanes,
    /// What was said about the mode while running; 0 is nothing.
    mode: AtomicU8,
}

impl Lasting {
    /// What was said about the mode while running. It goes before every configuration: whoever has
    /// switched sharing off in an emergency is not overruled by a reload.
    pub(super) fn mode(&self) -> Option<Mode> {
        match self.mode.load(Ordering::Relaxed) {
            1 => Some(Mode::Share),
            2 => Some(Mode::Observe),
            3 => Some(Mode::Pipe),
            _ => None,
        }
    }

    pub(super) fn set_mode(&self, mode: Option<Mode>) {
        let number = match mode {
            None => 0,
            Some(Mode::Share) => 1,
            Some(Mode::Observe) => 2,
            Some(Mode::Pipe) => 3,
        };
        self.mode.store(number, Ordering::Relaxed);
    }
}

impl Cluster {
    /// The server that is logged in to like this, if there is one.
    pub(crate) fn server(&self, info: &ConnInfo) -> Option<&Server> {
        let servers = self.shards.iter().flat_map(|it| it.primary.iter().chain(&it.replicas));
        servers.into_iter().find(|server| server.info() == info)
    }

    pub(super) fn known_pulse(&self, server: &Server) -> Option<Pulse> {
        let watched = self.shards.iter().zip(&self.pulses).flat_map(|(servers, pulses)| {
            let primary = servers.primary.iter().zip(&pulses.0);
            primary.chain(servers.replicas.iter().zip(&pulses.1))
        });
        let mut known = watched.filter(|(known, _)| known.info() == server.info());
        known.next().map(|(_, pulse)| pulse.clone())
    }

    /// The server that all reads of a shard go to, if there is only one.
    pub(super) fn only(&self, shard: usize) -> Option<&Pulse> {
        match &self.pulses[shard] {
            (primary, replicas) if replicas.is_empty() => primary.as_ref(),
            (_, replicas) if replicas.len() == 1 => replicas.first(),
            _ => None,
        }
    }

    /// Has all sessions look at what is in force.
    pub(super) fn wake(&self) {
        self.lasting.attendance.wake();
    }

    /// Closes the connections to its servers as soon as nobody uses them; those that are kept open
    /// come back with [`Cluster::keep_warm`] alone.
    pub(crate) fn retire(&self) {
        for servers in &self.shards {
            servers.primary.iter().chain(&servers.replicas).for_each(|it| self.let_go(it));
        }
        // If it is paused no more.
        self.keep_warm();
    }

    /// As [`Cluster::retire`], of one server.
    pub(crate) fn let_go(&self, server: &Server) {
        server.let_cool(&Login::new(self.config.role(), self.database.as_str()));
        server.retire();
    }
}
