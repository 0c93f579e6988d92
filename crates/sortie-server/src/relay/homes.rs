//! Connections that a session has used, and what it has left on each.
//!
//! A session that gets one of them back, and finds that nobody else has used it since, has nothing
//! to do again. `C` names a connection.

use std::sync::atomic::{AtomicU64, Ordering};

use sortie_postgres::Residue;

use super::ledger::Here;

/// Connections of which a session remembers what it left there.
const HOMES_MAX: usize = 4;

/// How many bits of a residue's version say what was left; see [`Here::flags`].
const FLAGS: u32 = 4;

/// The one of them that says that nobody else may use the connection.
pub(crate) const APART: u64 = 8;

/// Numbers for sessions and visits.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The connections of one session.
#[derive(Debug)]
pub(crate) struct Homes<C> {
    owner: u64,
    homes: Vec<Home<C>>,
}

#[derive(Debug)]
struct Home<C> {
    connection: C,
    /// The number of the visit.
    stamp: u64,
    here: Here,
}

/// What is on a connection that a session gets.
#[derive(Debug)]
pub(crate) enum Found {
    /// What the session itself has left there.
    Own(Here),
    /// What somebody else has: the flags of [`Here::flags`].
    Strange(u64),
}

/// Whether what somebody left on a connection is such that nobody else may use it.
pub(crate) fn is_apart(residue: Option<Residue>) -> bool {
    residue.is_some_and(|residue| residue.version & APART != 0)
}

impl<C: Copy + Eq> Homes<C> {
    /// None, of a new session.
    pub(crate) fn new() -> Self {
        Self { owner: number(), homes: Vec::new() }
    }

    /// The session gets a connection that somebody, or nobody, has left this on.
    pub(crate) fn arrive(&mut self, connection: C, residue: Option<Residue>) -> Found {
        let known = self.homes.iter().position(|home| home.connection == connection);
        let home = known.map(|at| self.homes.swap_remove(at));
        let Some(residue) = residue else { return Found::Own(Here::default()) };
        match home {
            Some(home) if residue.owner == self.owner && residue.version >> FLAGS == home.stamp => {
                Found::Own(home.here)
            }
            _ => Found::Strange(residue.version & ((1 << FLAGS) - 1)),
        }
    }

    /// Whether nobody else has used this connection since the session left this on it.
    pub(crate) fn is_own(&self, connection: C, residue: Option<Residue>) -> bool {
        let mut homes = self.homes.iter().filter(|home| home.connection == connection);
        residue.is_some_and(|residue| {
            residue.owner == self.owner && homes.any(|home| residue.version >> FLAGS == home.stamp)
        })
    }

    /// Whether a statement of this name is on one of them.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.homes.iter().any(|home| home.here.has(name))
    }

    /// What the session leaves on a connection that it gives back, for whoever comes next.
    ///
    /// It had found `before` there: if that is its own, and says the same, it stays.
    pub(crate) fn mark(&self, flags: u64, before: Option<Residue>) -> Option<Residue> {
        if flags == 0 {
            return None;
        }
        let is_same = |before: &Residue| {
            before.owner == self.owner && before.version & ((1 << FLAGS) - 1) == flags
        };
        before
            .filter(is_same)
            .or_else(|| Some(Residue { owner: self.owner, version: (number() << FLAGS) | flags }))
    }

    /// Remembers what the session has left on a connection, marked so.
    pub(crate) fn keep(&mut self, connection: C, residue: Option<Residue>, here: Here) {
        let Some(residue) = residue else { return };
        if self.homes.len() == HOMES_MAX {
            self.homes.remove(0);
        }
        self.homes.push(Home { connection, stamp: residue.version >> FLAGS, here });
    }
}

fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
