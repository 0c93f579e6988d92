//! What a server does beside its callers: opening, closing, stopping queries, looking after idle
//! connections. All of it is in tasks that the server owns.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::book::{Act, Scope};
use super::open;
use super::pooled::{Pooled, Seat};
use super::slot::ConnId;
use super::{Home, PoolError, ServerAct, Shared};
use crate::connect::Login;
use crate::reaper::{Left, Reaper, Verdict};

/// How long saying goodbye to a server may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// The keeper looks at most so often.
const KEEPER_REST_MIN: Duration = Duration::from_millis(10);

/// And at least so often, whatever it thinks it knows.
const KEEPER_REST_MAX: Duration = Duration::from_secs(30);

enum Job {
    Act(ServerAct),
    Spawn(Home, Pin<Box<dyn Future<Output = ()> + Send>>),
}

#[derive(Default)]
pub(super) struct Tasks {
    /// Locked only by whoever does the jobs: a runtime that is gone drops a task where it is
    /// spawned, and what is dropped asks for more jobs.
    running: Mutex<JoinSet<()>>,
    /// What is to be done, and whether somebody is doing it.
    jobs: Mutex<(VecDeque<Job>, bool)>,
    /// The runtime that last waited for a connection: for what nobody waits for.
    home: Mutex<Option<Home>>,
    keeping: AtomicBool,
    wake: Arc<Notify>,
}

impl Tasks {
    /// Does what the book asked for, or leaves it to whoever is at it already: also this thread,
    /// further down its stack.
    pub(super) fn perform(&self, server: &Arc<Shared>, acts: Vec<ServerAct>) {
        self.work(server, acts.into_iter().map(Job::Act));
    }

    /// Runs a task on `home`, as part of the server.
    fn spawn(
        &self,
        server: &Arc<Shared>,
        home: &Home,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.work(server, [Job::Spawn(home.clone(), Box::pin(task))]);
    }

    fn work(&self, server: &Arc<Shared>, jobs: impl IntoIterator<Item = Job>) {
        {
            let mut queue = self.jobs.lock();
            queue.0.extend(jobs);
            if std::mem::replace(&mut queue.1, true) {
                return;
            }
        }
        loop {
            let job = {
                let mut queue = self.jobs.lock();
                let job = queue.0.pop_front();
                queue.1 = job.is_some();
                job
            };
            match job {
                None => return,
                Some(Job::Act(act)) => server.perform(act),
                Some(Job::Spawn(home, task)) => {
                    let mut running = self.running.lock();
                    running.spawn_on(task, &home.0);
                    while running.try_join_next().is_some() {}
                }
            }
        }
    }

    /// Has the keeper look now: its times may have changed.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sees to it that somebody looks after what nobody uses.
    pub(super) fn keep(&self, server: &Arc<Shared>) {
        let home = Home(Handle::current());
        let known = self.home.lock().replace(home.clone());
        drop(known);
        if !self.keeping.swap(true, AcqRel) {
            self.spawn(server, &home, keeper(Arc::downgrade(server), Arc::clone(&self.wake)));
        }
    }
}

impl Shared {
    pub(super) fn put_back(self: &Arc<Self>, seat: Box<Seat>) {
        let (id, residue) = (seat.id, seat.residue);
        self.change(|book, acts| book.0.put_back(id, seat, residue, Instant::now(), acts));
    }

    /// Closes a connection whose place is still taken.
    pub(super) fn close(self: &Arc<Self>, seat: Box<Seat>) {
        let id = seat.id;
        self.change(|book, acts| {
            acts.push(Act::Close(seat));
            book.0.vacate(id, Instant::now(), acts);
        });
    }

    /// Hands over a connection whose last query may still run.
    pub(super) fn reap(self: &Arc<Self>, seat: Box<Seat>, left: Left) {
        let id = seat.id;
        if !self.book.lock().0.quarantine(id) {
            // It would keep others waiting. What it runs is stopped without it, if possible.
            let key = seat.connection.cancel_key().clone();
            let (reaper, home) = (Arc::clone(&self.reaper), seat.home.clone());
            self.close(seat);
            return self.tasks.spawn(self, &home, async move { reaper.stop(&key).await });
        }
        let home = seat.home.clone();
        let apart = Apart { server: Arc::downgrade(self), seat: Some(seat) };
        let reaper = Arc::clone(&self.reaper);
        self.tasks.spawn(self, &home, apart.call_back(reaper, left));
    }

    fn perform(self: &Arc<Self>, act: ServerAct) {
        match act {
            Act::Give { taken, waiter } => {
                // Whoever no longer waits drops it, and so gives it back.
                drop(waiter.send(Ok(Pooled::new(self, taken))));
            }
            Act::Fail { waiter, error } => drop(waiter.send(Err(error))),
            Act::Open { id, key, home } => {
                let here = || Handle::try_current().ok().map(Home);
                let home = home.or_else(here).or_else(|| self.tasks.home.lock().clone());
                let opening = Opening { server: Arc::downgrade(self), id, done: false };
                // Without any runtime the drop of `opening` says so to whoever waits.
                if let Some(home) = home {
                    self.tasks.spawn(self, &home, opening.run(key, home.clone()));
                }
            }
            Act::Close(seat) => {
                self.book.lock().1.closed += 1;
                let home = seat.home.clone();
                self.tasks.spawn(self, &home, async move {
                    drop(timeout(GOODBYE_MAX, seat.connection.close()).await);
                });
            }
        }
    }
}

/// A place that a connection is being opened for.
struct Opening {
    server: Weak<Shared>,
    id: ConnId,
    done: bool,
}

impl Opening {
    async fn run(mut self, login: Login, home: Home) {
        let Some(server) = self.server.upgrade() else { return };
        // Not a strong reference across the await: the server may go meanwhile.
        let opener = Arc::clone(&server.opener);
        drop(server);
        let outcome = opener.open(&login).await;
        let Some(server) = self.server.upgrade() else { return };
        self.done = true;
        let (id, now) = (self.id, Instant::now());
        match outcome {
            Ok(connection) => {
                server.opened.enter(id, connection.cancel_key().process(), now);
                let seat = Box::new(Seat::new(connection, id, home));
                let expires = now + server.config.lock().lifetime_of_one();
                server.change(|book, acts| {
                    book.1.opened += 1;
                    book.0.opened(id, seat, expires, now, acts);
                });
            }
            Err(error) => {
                let scope = open::scope(&error);
                self.failed(&server, scope, PoolError::Connect(Arc::new(error)));
            }
        }
    }

    fn failed(&self, server: &Arc<Shared>, scope: Scope, error: PoolError) {
        let jitter = fastrand::u32(0..=1_000);
        server.change(|book, acts| {
            book.1.open_failures += 1;
            book.0.failed(self.id, (scope, error), jitter, Instant::now(), acts);
        });
        // The keeper must look again when the pause is over.
        server.tasks.wake.notify_one();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done
            && let Some(server) = self.server.upgrade()
        {
            self.failed(&server, Scope::Key, PoolError::Closed);
        }
    }
}

/// A connection in quarantine.
struct Apart {
    server: Weak<Shared>,
    /// Present until it was decided what becomes of it.
    seat: Option<Box<Seat>>,
}

impl Apart {
    async fn call_back(mut self, reaper: Arc<Reaper>, left: Left) {
        let Some(seat) = self.seat.as_mut() else { return };
        let mut late = None;
        let verdict = reaper.call_back(&mut seat.connection, left, &mut late).await;
        let Some(server) = self.server.upgrade() else { return };
        let Some(mut seat) = self.seat.take() else { return };
        match verdict {
            Verdict::Clean => {
                if left.soiled {
                    seat.residue = None;
                }
                server.put_back(seat);
            }
            Verdict::Lost => server.close(seat),
        }
        drop(server);
        // Only a test's reaper is that reckless, and there it must still strike.
        if let Some(request) = late {
            drop(request.await);
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let (Some(seat), Some(server)) = (self.seat.take(), self.server.upgrade()) {
            // Its runtime goes, and with it the socket.
            let id = seat.id;
            drop(seat);
            server.change(|book, acts| {
                book.1.closed += 1;
                book.0.vacate(id, Instant::now(), acts);
            });
        }
    }
}

/// Closes what was idle or alive for too long, and opens what may be opened again.
async fn keeper(server: Weak<Shared>, wake: Arc<Notify>) {
    let _keeping = Keeping(server.clone());
    loop {
        let now = Instant::now();
        let Some(server_now) = server.upgrade() else { return };
        let due = server_now.change(|book, acts| {
            book.0.tick(now, acts);
            book.0.due(now)
        });
        // Connections that become idle, or are opened, meanwhile stay for that long at least.
        let rest = {
            let config = server_now.config.lock();
            config.idle_timeout.min(config.lifetime)
        };
        let rest = rest.clamp(KEEPER_REST_MIN, KEEPER_REST_MAX);
        drop(server_now);
        let latest = now + rest;
        let due = due.map_or(latest, |due| due.min(latest));
        tokio::select! {
            () = sleep_until(due) => {}
            () = wake.notified() => {}
        }
    }
}

/// The keeper ends with its runtime; the next one who waits starts another.
struct Keeping(Weak<Shared>);

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(server) = self.0.upgrade() {
            server.tasks.keeping.store(false, Release);
        }
    }
}
