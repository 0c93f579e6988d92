//! Connections to one server, shared by all who need one for a while.
//!
//! A [`Server`] has one limit over everything that is open there. Connections with equal
//! [`Login`]s stand in for one another; those of other logins are closed to make room.
//! [`Server::checkout`] hands out a [`Pooled`]: a [`Connection`](crate::Connection) until its drop.
//! Then, without the caller's help, it goes back if it is idle; to the reaper if its last query
//! still runs; and away if it is broken.
//!
//! Who has had a connection last may have it again past all that, as long as nobody else wants it
//! ([`Resting`]).
//!
//! The book (a pure state machine) decides; this file obeys it. Its lock is held for some tens of
//! nanoseconds where nothing is opened, closed or waited for, and never across an await.
//!
//! # Invariants
//!
//! 1. A connection is in one place: its berth, a `Pooled`, or a task of the server.
//! 2. Every task belongs to the server: when the last `Server`, `Pooled` and `Resting` is gone, so
//!    are they.
//! 3. What the book asks for is done by one thread at a time and never by recursion, however many
//!    connections change hands.

mod berth;
mod book;
mod config;
mod error;
mod kept;
mod open;
mod pooled;
mod rack;
mod slot;
mod tasks;
mod view;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::connect::Login;
use crate::conninfo::ConnInfo;
use crate::reaper::Reaper;
use book::{Act, Book, NoWait, Taken};
use open::Opener;
use pooled::Seat;
use tasks::Tasks;
use view::Opened;

pub use config::{PoolConfig, PoolStats};
pub use error::PoolError;
pub use kept::Kept;
pub use pooled::{Pooled, Resting};
pub use slot::{ConnId, Residue};
pub use view::{PoolConnection, PoolUse};

pub(crate) use open::refuses_login;

/// The connections to one PostgreSQL server. Cheap to clone; all clones share them.
///
/// It opens nothing before it is asked to.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

type Waiter = oneshot::Sender<Result<Pooled, PoolError>>;
type ServerBook = Book<Login, Box<Seat>, Waiter, Home, PoolError>;
type ServerAct = Act<Login, Box<Seat>, Waiter, Home, PoolError>;

struct Shared {
    config: Mutex<PoolConfig>,
    opener: Arc<Opener>,
    reaper: Arc<Reaper>,
    book: Mutex<(ServerBook, PoolStats)>,
    tasks: Tasks,
    opened: Opened,
}

/// The runtime that drives a connection's socket.
#[derive(Clone, Debug)]
struct Home(Handle);

impl PartialEq for Home {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Server {
    /// Creates the pools of a server. `info` says where it is; its credential serves all logins
    /// that don't bring their own.
    pub fn new(info: ConnInfo, config: PoolConfig) -> Self {
        Self(Arc::new(Shared {
            reaper: Arc::new(Reaper::new(&config)),
            book: Mutex::new((Book::new(config.limits()), PoolStats::default())),
            opener: Arc::new(Opener::new(info, config.check_interval)),
            tasks: Tasks::default(),
            opened: Opened::default(),
            config: Mutex::new(config),
        }))
    }

    /// Where the server is.
    pub fn info(&self) -> &ConnInfo {
        self.0.opener.info()
    }

    /// Returns a connection of this login: the preferred one if it is idle, else one that no
    /// session left anything on, else any, if possible not what its last user goes on with
    /// ([`Pooled::rest`]); and waits in a fair queue if there is none. Who gets one that another
    /// has just used, and left something on, does not wait either, but one more is opened for
    /// whoever comes next, while there are fewer than [`size_max`](PoolConfig::size_max).
    ///
    /// Dropping the future leaves the queue. A connection that was being opened for it is still
    /// opened, and serves somebody else.
    ///
    /// # Errors
    ///
    /// [`PoolError`]. A server that can't be connected to is an error at once if no connection to
    /// it is left to wait for, also during the pause after a failure.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn checkout(
        &self,
        login: &Login,
        prefer: Option<ConnId>,
        deadline: Instant,
    ) -> Result<Pooled, PoolError> {
        let home = Home(Handle::current());
        if let Some(pooled) = self.idle(login, prefer, &home) {
            return Ok(pooled);
        }
        Box::pin(self.wait(login, home, deadline)).await
    }

    /// Returns an idle connection of this login, as [`checkout`](Self::checkout) would, or `None`.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn try_checkout(&self, login: &Login, prefer: Option<ConnId>) -> Option<Pooled> {
        self.idle(login, prefer, &Home(Handle::current()))
    }

    /// Returns an idle connection of this login on which no session has left anything, or `None`.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn try_checkout_clean(&self, login: &Login) -> Option<Pooled> {
        let home = Home(Handle::current());
        self.sound(&home, || {
            let mut book = self.0.book.lock();
            let taken = book.0.checkout_clean(login, &home)?;
            book.1.checkouts += 1;
            Some(taken)
        })
    }

    /// Keeps [`warm_min`](PoolConfig::warm_min) connections of this login open from now on,
    /// whether somebody uses them or not. Call it again after the login changed.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn keep_warm(&self, login: &Login) {
        let warm_min = self.0.config.lock().warm_min;
        self.0.tasks.keep(&self.0);
        self.0.change(|book, acts| book.0.warm(login, warm_min, Instant::now(), acts));
    }

    /// Keeps no connections of this login open any more that nobody uses.
    pub fn let_cool(&self, login: &Login) {
        self.0.change(|book, acts| book.0.warm(login, 0, Instant::now(), acts));
    }

    /// Lets other limits hold from now on, whatever is in use. With a smaller
    /// [`size_max`](PoolConfig::size_max) connections are closed until it holds: idle ones now,
    /// others when they are given back. What is kept warm takes a
    /// [`keep_warm`](Self::keep_warm) after it to change, and what is said of cancels, and
    /// [`check_interval`](PoolConfig::check_interval), stays as the server was made with.
    pub fn configure(&self, config: &PoolConfig) {
        let limits = config.limits();
        self.0.config.lock().clone_from(config);
        self.0.change(|book, acts| book.0.limit(limits, Instant::now(), acts));
        self.0.tasks.wake();
    }

    /// Closes every connection that is open now as soon as nobody uses it: what they are connected
    /// to is no longer what it was.
    pub fn retire(&self) {
        self.0.change(|book, acts| book.0.retire(Instant::now(), acts));
    }

    /// Whether a connection is idle or may be opened: whoever asks need not wait for others.
    pub fn has_room(&self) -> bool {
        let book = &mut self.0.book.lock().0;
        book.gauges.waiting == 0 && (book.size() < book.limits.size_max || book.has_idle())
    }

    /// Returns how many connections there are, and what has happened so far.
    pub fn stats(&self) -> PoolStats {
        let mut book = self.0.book.lock();
        book.0.look();
        let mut counted = book.1;
        counted.checkouts += book.0.agains;
        self.0.reaper.count(&mut counted);
        PoolStats::of(counted, book.0.gauges, self.0.reaper.cost())
    }

    fn idle(&self, login: &Login, prefer: Option<ConnId>, home: &Home) -> Option<Pooled> {
        self.sound(home, || {
            let now = Instant::now();
            self.0.change(|book, acts| {
                let taken = book.0.checkout(login, prefer, home, now, acts)?;
                book.1.checkouts += 1;
                Some(taken)
            })
        })
    }

    /// The first of those taken so that its server has not ended.
    fn sound(&self, home: &Home, take: impl Fn() -> Option<Taken<Box<Seat>>>) -> Option<Pooled> {
        loop {
            let mut pooled = Pooled::new(&self.0, take()?);
            if pooled.is_good_at(home) {
                return Some(pooled);
            }
            let mut book = self.0.book.lock();
            book.1.checkouts -= 1;
            book.1.broken += 1;
            drop(book);
            pooled.discard();
        }
    }

    async fn wait(
        &self,
        login: &Login,
        home: Home,
        deadline: Instant,
    ) -> Result<Pooled, PoolError> {
        self.0.tasks.keep(&self.0);
        let begun = Instant::now();
        let (sender, mut receiver) = oneshot::channel();
        let ticket = self.0.change(|book, acts| {
            // Between the look at the idle ones and now somebody may have returned one.
            if let Some(taken) = book.0.checkout(login, None, &home, begun, acts) {
                acts.push(Act::Give { taken, waiter: sender });
                book.1.checkouts += 1;
                return Ok(0);
            }
            let ticket = book.0.wait(login, &home, sender, begun, acts);
            *(if ticket.is_ok() { &mut book.1.queued } else { &mut book.1.refused }) += 1;
            ticket
        });
        let ticket = ticket.map_err(|refusal| match refusal {
            NoWait::Crowded => PoolError::Crowded,
            NoWait::Resting(error) => error,
        })?;
        let _place = Place { server: &self.0, login, ticket };
        match timeout_at(deadline, &mut receiver).await {
            Ok(answer) => {
                let mut pooled = answer.unwrap_or(Err(PoolError::Closed))?;
                match pooled.move_to(&home) {
                    Ok(()) => Ok(pooled),
                    Err(_lost) => Err(PoolError::Closed),
                }
            }
            Err(_elapsed) => {
                self.0.book.lock().1.refused += 1;
                Err(PoolError::Timeout { waited: begun.elapsed() })
            }
        }
    }
}

/// A place in the queue, left on drop.
struct Place<'a> {
    server: &'a Shared,
    login: &'a Login,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.server.book.lock().0.leave(self.login, self.ticket);
        drop(left);
    }
}

impl Shared {
    /// Changes the book and does what it asks for.
    fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut (ServerBook, PoolStats), &mut Vec<ServerAct>) -> T,
    ) -> T {
        let mut acts = Vec::new();
        let changed = change(&mut self.book.lock(), &mut acts);
        if !acts.is_empty() {
            self.tasks.perform(self, acts);
        }
        changed
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.info().address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
