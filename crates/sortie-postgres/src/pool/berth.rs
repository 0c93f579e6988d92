//! Where a connection lies while nobody uses it: within reach of the book, and of its last user.
//!
//! Its last user may take it and give it back without the book's lock, and without a word to it;
//! the book goes on taking it for idle. It is told so when it looks, as it does before it relies
//! on that ([`Berth::claim`]): from then on the connection is in use for the book, too, and comes
//! back by it.
//!
//! # Invariants
//!
//! 1. A connection that the book counts as idle is here, or was here last and is with the user
//!    who left it here.
//! 2. Once the book has handed a connection on, or closed it, nobody finds it here who had it
//!    before: each user's visit has a number of its own.

use std::sync::Arc;

use parking_lot::Mutex;

use super::slot::Residue;

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Berth<C>(Mutex<Bay<C>>);

#[derive(Debug)]
struct Bay<C> {
    conn: Option<C>,
    residue: Option<Residue>,
    /// Which of its users has, or had, the connection.
    visit: u64,
    /// The book counts the connection as in use: it must be told when that ends.
    booked: bool,
    /// How often it was taken without a word since the book last asked.
    agains: u64,
    /// It was, since the book last chose among the idle ones.
    recent: bool,
}

/// Names a visit, to go on with it.
#[derive(Debug)]
pub(super) struct Ticket(u64);

impl<C> Berth<C> {
    /// A place for a connection that the book knows of.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Bay {
            conn: None,
            residue: None,
            visit: 0,
            booked: true,
            agains: 0,
            recent: false,
        })))
    }

    /// The last user takes the connection again, if nobody has had it since.
    pub(super) fn again(&self, ticket: &Ticket) -> Option<C> {
        let mut bay = self.0.lock();
        if bay.visit != ticket.0 {
            return None;
        }
        let conn = bay.conn.take()?;
        bay.agains += 1;
        bay.recent = true;
        Some(conn)
    }

    /// A user gives the connection back, and may have it again with the ticket; `Err` with it if
    /// the book must be told. Whether something is left on it decides where the book has it, so a
    /// change of that is told as well.
    pub(super) fn back(&self, conn: C, residue: Option<Residue>) -> Result<Ticket, C> {
        let mut bay = self.0.lock();
        if bay.booked || Residue::is_mark(bay.residue) != Residue::is_mark(residue) {
            return Err(conn);
        }
        (bay.conn, bay.residue) = (Some(conn), residue);
        Ok(Ticket(bay.visit))
    }

    /// The visit of who has the connection now.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.0.lock().visit)
    }

    /// The book lays the connection down.
    pub(super) fn lay(&self, conn: C, residue: Option<Residue>) {
        let mut bay = self.0.lock();
        (bay.conn, bay.residue, bay.booked) = (Some(conn), residue, false);
    }

    /// The book takes the connection, for somebody else or to close it. `None` if its last user
    /// has it again: it is in use from now on.
    pub(super) fn claim(&self) -> Option<(C, Option<Residue>)> {
        let mut bay = self.0.lock();
        bay.booked = true;
        let conn = bay.conn.take()?;
        bay.visit += 1;
        Some((conn, bay.residue))
    }

    /// The book hands the connection from one user to the next.
    pub(super) fn pass(&self) {
        self.0.lock().visit += 1;
    }

    /// Whether the connection is not here; it is in use from now on then.
    pub(super) fn is_out(&self) -> bool {
        let mut bay = self.0.lock();
        bay.booked |= bay.conn.is_none();
        bay.conn.is_none()
    }

    /// How often the connection was taken without a word since this was asked last.
    pub(super) fn take_agains(&self) -> u64 {
        std::mem::take(&mut self.0.lock().agains)
    }

    /// Whether the connection was taken without a word since this was asked last.
    pub(super) fn take_recent(&self) -> bool {
        std::mem::take(&mut self.0.lock().recent)
    }
}
