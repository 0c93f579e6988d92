//! A connection that is somebody's for a while.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::time::Instant;

use super::slot::{ConnId, Residue};
use super::{Home, Shared};
use crate::connection::Connection;
use crate::reaper::Left;

/// A server's connection, until this is dropped.
///
/// Dropping it is always right, at any moment and inside of any dropped future: an idle connection
/// goes back to its pool; one whose last query still runs is set apart until the query has been
/// stopped (it is cancelled on the server, or drained if it is about to end), a transaction that
/// is open is rolled back; a broken one is closed.
pub struct Pooled {
    /// Present until the drop.
    seat: Option<Box<Seat>>,
    server: Arc<Shared>,
    expected_end: Option<Instant>,
    soiled: bool,
    discarded: bool,
}

/// A connection, with what stays the same for all who use it.
pub(super) struct Seat {
    pub(super) connection: Connection,
    pub(super) id: ConnId,
    pub(super) home: Home,
    pub(super) residue: Option<Residue>,
}

impl Pooled {
    pub(super) fn new(server: &Arc<Shared>, mut seat: Box<Seat>, residue: Option<Residue>) -> Self {
        seat.residue = residue;
        let server = Arc::clone(server);
        let seat = Some(seat);
        Self { seat, server, expected_end: None, soiled: false, discarded: false }
    }

    /// Which connection it is, to ask for it again with [`Server::checkout`](crate::Server).
    pub fn id(&self) -> ConnId {
        self.seat().id
    }

    /// What the last session left on it, as that session said.
    pub fn residue(&self) -> Option<Residue> {
        self.seat().residue
    }

    /// Says what is left on it when it goes back; `None` for nothing.
    pub fn set_residue(&mut self, residue: Option<Residue>) {
        self.seat_mut().residue = residue;
    }

    /// Says when the query that runs now, or the next one, will probably have ended. On a drop
    /// shortly before it the query is left to end instead of being cancelled.
    pub fn expect_end(&mut self, at: Instant) {
        self.expected_end = Some(at);
    }

    /// Something is left on the session that the next one must not find: `DISCARD ALL` is run
    /// after the drop, before anybody else gets it. The residue is gone then.
    pub fn soil(&mut self) {
        self.soiled = true;
    }

    /// Closes the connection instead of giving it back; a query that still runs is cancelled.
    pub fn discard(mut self) {
        self.doom();
    }

    /// Has the connection closed when this is dropped: nobody else may have it.
    pub fn doom(&mut self) {
        self.discarded = true;
    }

    /// Has this runtime drive the socket, so that no event of it has to be passed on from another.
    /// When that fails the connection is closed after the drop.
    pub(super) fn move_to(&mut self, home: &Home) -> io::Result<()> {
        let seat = self.seat_mut();
        if seat.home == *home {
            return Ok(());
        }
        let moved = seat.connection.register_here();
        match moved {
            Ok(()) => seat.home = home.clone(),
            Err(_) => self.doom(),
        }
        moved
    }

    fn seat(&self) -> &Seat {
        self.seat.as_ref().expect("it is there until the drop")
    }

    fn seat_mut(&mut self) -> &mut Seat {
        self.seat.as_mut().expect("it is there until the drop")
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.seat().connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.seat_mut().connection
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let connection = &seat.connection;
        if connection.is_idle() && !self.soiled && !self.discarded {
            self.server.put_back(seat);
        } else if connection.is_broken() || (self.discarded && connection.is_idle()) {
            self.server.close(seat);
        } else {
            let remaining =
                self.expected_end.and_then(|end| end.checked_duration_since(Instant::now()));
            let left = Left { remaining, soiled: self.soiled, discarded: self.discarded };
            self.server.reap(seat, left);
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("connection", &**self)
            .field("id", &self.id())
            .field("residue", &self.residue())
            .finish_non_exhaustive()
    }
}
