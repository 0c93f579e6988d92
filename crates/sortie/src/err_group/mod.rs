//! Error group: a scope that runs tasks together; the first error cancels the rest.
//!
//! A *task* is a future handed to [`Group::spawn`]; the *body* is what hands them out.
//!
//! # Invariants
//!
//! 1. Nothing outlives the scope: tasks are polled inside the scope's own future, and they are
//!    gone when it returns or when it is dropped, those that had only been queued included.
//! 2. At most `limit` tasks run at a time. Waiting for a place can be cancelled, and ends when
//!    the group does.
//! 3. The primary error is the earliest completion; of several in one turn of the driver, the
//!    task that was spawned first, and the body last, because it may only report what a task
//!    did.
//! 4. After the turn that failed no task is polled. The body is polled once more, so that one
//!    that waits for a place learns that the group is closed; then it is dropped as well.

mod driver;
mod error;

use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use self::driver::Driver;
pub use self::error::{GroupError, Stop, Task, TaskError, TaskFailure};

/// A scope for tasks that succeed together or fail together.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use sortie::ErrGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sortie::GroupError<std::io::Error>> {
/// let sum = AtomicU64::new(0); // Tasks may borrow what lives outside the scope.
/// let asked = ErrGroup::new()
///     .limit(4)
///     .scope(|group| {
///         let sum = &sum;
///         async move {
///             for shard in 1..=10 {
///                 group
///                     .spawn(async move {
///                         sum.fetch_add(shard, Relaxed);
///                         Ok::<_, std::io::Error>(())
///                     })
///                     .await?; // Waits while four are running.
///             }
///             Ok(10)
///         }
///     })
///     .await?;
/// assert_eq!((asked, sum.into_inner()), (10, 55));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until its scope is entered"]
pub struct ErrGroup {
    limit: usize,
    deadline: Option<Instant>,
}

/// The handle with which a scope's body spawns tasks.
///
/// It isn't `Clone`, and a task can't borrow it from the body: a task that waited for a place of
/// its own group would hold one meanwhile, and enough of those would wait for ever. A task that
/// needs tasks of its own opens a scope of its own.
#[derive(Debug)]
pub struct Group<'env, E>(Arc<Shared<'env, E>>);

type BoxTask<'env, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'env>>;

/// What a group's handle and its driver have in common.
#[derive(Debug)]
struct Shared<'env, E> {
    places: Semaphore,
    queue: Mutex<Queue<'env, E>>,
}

/// Tasks on their way from the body to the driver. Bounded by the places.
struct Queue<'env, E> {
    tasks: Vec<BoxTask<'env, E>>,
    spawned: usize,
    closed: bool,
    /// The driver's, while it sleeps: a handle may be used outside the body's own polls.
    driver: Option<Waker>,
}

impl ErrGroup {
    /// Creates a group without limit and deadline.
    pub fn new() -> Self {
        Self { limit: Semaphore::MAX_PERMITS, deadline: None }
    }

    /// Runs at most `limit` tasks at a time; the body is not counted.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is zero: nothing could ever be spawned.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(limit > 0, "a group runs at least one task at a time");
        self.limit = limit.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Ends the group at `deadline`, whatever still runs then. The body isn't even begun when it
    /// has passed already.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Runs `body` and the tasks it spawns, and returns when all of them have ended.
    ///
    /// Tasks may borrow whatever outlives the scope. They share the caller's task, so they run
    /// concurrently with each other but not in parallel. `?` works in the body on the results of
    /// [`Group::spawn`] and on the tasks' own error type.
    ///
    /// # Errors
    ///
    /// [`GroupError`] when a task or the body fails, or the deadline passes first. The others
    /// are dropped before this returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future drops the body and every task before the drop returns.
    ///
    /// # Panics
    ///
    /// A panic in a task or the body is passed on, after everything else was dropped. Panics when
    /// polled outside a Tokio runtime with a timer, if a deadline is set.
    pub async fn scope<'env, T, E, F, Fut>(self, body: F) -> Result<T, GroupError<E>>
    where
        F: FnOnce(Group<'env, E>) -> Fut,
        Fut: Future<Output = Result<T, Stop<E>>>,
    {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(GroupError::expired());
        }
        let shared = Arc::new(Shared {
            places: Semaphore::new(self.limit),
            queue: Mutex::new(Queue::default()),
        });
        let body = body(Group(Arc::clone(&shared)));
        let mut driver = Driver::new(shared, body, self.deadline);
        match driver.drive().instrument(debug_span!("err_group", limit = self.limit)).await {
            Ok(()) => driver.finish(),
            Err(payload) => {
                driver.abandon();
                resume_unwind(payload)
            }
        }
    }
}

impl Default for ErrGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl<'env, E> Group<'env, E> {
    /// Starts `task`, after waiting for a place if the group is at its limit.
    ///
    /// # Errors
    ///
    /// A closed [`Stop`] when the group has failed or ended; `task` is dropped unstarted then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it returns drops `task`, which never starts.
    pub async fn spawn<Fut>(&self, task: Fut) -> Result<(), Stop<E>>
    where
        Fut: Future<Output = Result<(), E>> + Send + 'env,
    {
        let Ok(place) = self.0.places.acquire().await else { return Err(Stop::closed()) };
        if !self.0.push(Box::pin(task)) {
            return Err(Stop::closed());
        }
        place.forget(); // The task's from here on; the driver gives it back.
        Ok(())
    }
}

impl<'env, E> Shared<'env, E> {
    fn push(&self, task: BoxTask<'env, E>) -> bool {
        let driver = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return false;
            }
            queue.tasks.push(task);
            queue.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        true
    }

    /// Ends the group for its handle: nobody waits for a place any more, nothing queued is left.
    fn close(&self) -> usize {
        self.places.close();
        let unstarted = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.tasks)
        };
        unstarted.len() // Their destructors are the user's code: not under the lock.
    }
}

impl<E> Default for Queue<'_, E> {
    fn default() -> Self {
        Self { tasks: Vec::new(), spawned: 0, closed: false, driver: None }
    }
}

impl<E> std::fmt::Debug for Queue<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("tasks", &self.tasks.len())
            .field("spawned", &self.spawned)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
