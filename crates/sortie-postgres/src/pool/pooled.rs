//! A connection that is somebody's for a while.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::berth::{Berth, Ticket};
use super::book::Taken;
use super::kept::Kept;
use super::slot::{ConnId, Residue};
use super::{Home, Shared};
use crate::connection::Connection;
use crate::reaper::Left;

/// A server's connection, until this is dropped.
///
/// Dropping it is always right, at any moment and inside of any dropped future: an idle connection
/// goes back to its pool; one whose last query still runs is set apart until the query has been
/// stopped (it is cancelled on the server, unless it ends sooner than a cancel takes), a
/// transaction that is open is rolled back; a broken one is closed.
pub struct Pooled {
    /// Present until the drop.
    lent: Option<Lent>,
    expected_end: Option<Instant>,
    soiled: bool,
    discarded: bool,
}

/// A connection, its place, and whose it is.
struct Lent {
    seat: Box<Seat>,
    berth: Arc<Berth<Box<Seat>>>,
    server: Arc<Shared>,
}

/// A connection, with what stays the same for all who use it.
pub(super) struct Seat {
    pub(super) connection: Connection,
    pub(super) id: ConnId,
    pub(super) home: Home,
    pub(super) residue: Option<Residue>,
    /// Of no account unless the residue is a common one.
    kept: Kept,
}

impl Seat {
    pub(super) fn new(connection: Connection, id: ConnId, home: Home) -> Self {
        Self { connection, id, home, residue: None, kept: Kept::default() }
    }
}

/// A connection that was given back, for its last user to go on with: far cheaper than to ask for
/// one, and it is as it was left.
///
/// It is everybody's meanwhile: this keeps nobody from having it, and may be dropped at any time.
///
/// # Examples
///
/// ```no_run
/// # fn example(mut mine: sortie_postgres::Pooled) -> Option<sortie_postgres::Pooled> {
/// let resting = mine.rest()?; // Anybody may have it now.
/// resting.again() // The same one again, unless somebody did.
/// # }
/// ```
pub struct Resting {
    ticket: Ticket,
    id: ConnId,
    berth: Arc<Berth<Box<Seat>>>,
    server: Arc<Shared>,
}

impl Pooled {
    pub(super) fn new(server: &Arc<Shared>, taken: Taken<Box<Seat>>) -> Self {
        let Taken { conn: mut seat, residue, berth, .. } = taken;
        seat.residue = residue;
        Self::lend(Lent { seat, berth, server: Arc::clone(server) })
    }

    fn lend(lent: Lent) -> Self {
        Self { lent: Some(lent), expected_end: None, soiled: false, discarded: false }
    }

    /// Gives the connection back, as a drop does: this is empty then. If it goes back to its pool
    /// this returns the way to have it again; if it does not it is still here.
    ///
    /// # Panics
    ///
    /// Whatever uses the connection after that panics.
    pub fn rest(&mut self) -> Option<Resting> {
        if self.lent.is_none() || !self.is_at_rest() {
            return None;
        }
        let Lent { seat, berth, server } = self.lent.take()?;
        let id = seat.id;
        let ticket = give_back(&server, &berth, seat);
        Some(Resting { ticket, id, berth, server })
    }

    /// Whether it is good for whoever comes next.
    fn is_at_rest(&self) -> bool {
        !self.soiled && !self.discarded && self.is_idle()
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

    /// Takes out what is kept prepared here, to put it back with [`keep`](Self::keep): nothing,
    /// unless that was what was left here last. Until then, and if it never comes to that,
    /// `meanwhile` is what is left.
    pub fn take_kept(&mut self, meanwhile: Residue) -> Kept {
        let seat = self.seat_mut();
        let before = seat.residue.replace(meanwhile);
        let kept = std::mem::take(&mut seat.kept);
        if before.is_some_and(|it| it.owner == Residue::COMMON) { kept } else { Kept::default() }
    }

    /// Says that nothing is left here but these statements, which whoever else gets the connection
    /// finds as a residue of this version whose owner is [`Residue::COMMON`].
    pub fn keep(&mut self, kept: Kept, version: u64) {
        let seat = self.seat_mut();
        let residue = Residue { owner: Residue::COMMON, version };
        seat.residue = (!kept.is_empty()).then_some(residue);
        seat.kept = kept;
    }

    /// Says when the query that runs now, or the next one, will probably have ended. On a drop
    /// shortly before it the query is left to end, on one long before it it is cancelled at once;
    /// with nothing said, or past that time, it is cancelled when it has gone on for as long as a
    /// cancel takes.
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

    /// Whether its server has not ended the session while nobody looked; this runtime is told of
    /// the socket's events from now on. The one that was told so far is asked first: here nothing
    /// has been heard of it yet.
    pub(super) fn is_good_at(&mut self, home: &Home) -> bool {
        self.check().is_ok() && self.is_idle() && self.move_to(home).is_ok()
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
        &self.lent.as_ref().expect("it is there until the drop").seat
    }

    fn seat_mut(&mut self) -> &mut Seat {
        &mut self.lent.as_mut().expect("it is there until the drop").seat
    }
}

impl Resting {
    /// Which connection it is.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Takes the connection again, if nobody has had it since, and its server has not ended it. The
    /// current runtime is told of its events from now on, if another one was.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn again(self) -> Option<Pooled> {
        let Self { ticket, berth, server, .. } = self;
        let seat = berth.again(&ticket)?;
        let mut pooled = Pooled::lend(Lent { seat, berth, server });
        if pooled.is_good_at(&Home(Handle::current())) {
            return Some(pooled);
        }
        if let Some(lent) = &pooled.lent {
            lent.server.book.lock().1.broken += 1;
        }
        pooled.discard();
        None
    }
}

/// Puts a connection back where others find it.
fn give_back(server: &Arc<Shared>, berth: &Berth<Box<Seat>>, seat: Box<Seat>) -> Ticket {
    let residue = seat.residue;
    berth.back(seat, residue).unwrap_or_else(|seat| {
        let ticket = berth.ticket();
        server.put_back(seat);
        ticket
    })
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
        let is_at_rest = self.lent.is_some() && self.is_at_rest();
        let Some(Lent { seat, berth, server }) = self.lent.take() else { return };
        let connection = &seat.connection;
        if is_at_rest {
            give_back(&server, &berth, seat);
        } else if connection.is_broken() || (self.discarded && connection.is_idle()) {
            server.close(seat);
        } else {
            let remaining =
                self.expected_end.and_then(|end| end.checked_duration_since(Instant::now()));
            let left = Left { remaining, soiled: self.soiled, discarded: self.discarded };
            server.reap(seat, left);
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

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting").field("id", &self.id).finish_non_exhaustive()
    }
}
