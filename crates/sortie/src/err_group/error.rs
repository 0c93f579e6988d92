//! What a group that failed says, and what its body returns to leave early.

use std::error::Error as StdError;
use std::fmt;

/// Failures kept beside the primary one; the rest is counted.
pub(super) const OTHERS_MAX: usize = 64;

/// Why a body leaves early: an error of its own, or the group is closed and takes no task.
///
/// The `?` operator makes one of the tasks' error type, and passes on what
/// [`Group::spawn`](crate::Group::spawn) returned.
#[derive(Debug)]
pub struct Stop<E>(pub(super) Option<E>);

/// Why a group failed.
///
/// `Display` begins with the task and prints no cause; the cause is the `source()`.
#[derive(Debug)]
pub struct GroupError<E> {
    pub(super) primary: TaskError<E>,
    pub(super) others: Vec<TaskError<E>>,
    pub(super) others_uncounted: usize,
    pub(super) cancelled: usize,
}

/// One task's failure.
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskError<E> {
    /// Which task.
    pub task: Task,
    /// What became of it.
    pub failure: TaskFailure<E>,
}

/// Who failed. Ordered as ties are settled: tasks as they were spawned, then the body.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Task {
    /// The task that was spawned after this many others.
    Spawned(usize),
    /// The scope's body.
    Body,
}

/// How a task failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskFailure<E> {
    /// It returned this error.
    Failed(E),
    /// The group's deadline passed before it ended.
    TimedOut,
    /// The body passed on the [`Stop`] of another group, which was closed.
    Closed,
}

impl<E> Stop<E> {
    /// Says whether the group was closed, and not the body's own error is the reason.
    pub fn is_closed(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn closed() -> Self {
        Self(None)
    }
}

impl<E> GroupError<E> {
    /// The failure that ended the group.
    pub fn primary(&self) -> &TaskError<E> {
        &self.primary
    }

    /// Takes the failure that ended the group out.
    pub fn into_primary(self) -> TaskError<E> {
        self.primary
    }

    /// Failures beside the primary one, of the same turn or of the body's last words; at most 64.
    pub fn others(&self) -> &[TaskError<E>] {
        &self.others
    }

    /// How many failures there were beside the primary one, those not kept included.
    pub fn others_total(&self) -> usize {
        self.others.len() + self.others_uncounted
    }

    /// How many tasks were called back, the body not counted.
    pub fn cancelled(&self) -> usize {
        self.cancelled
    }

    pub(super) fn expired() -> Self {
        let primary = TaskError { task: Task::Body, failure: TaskFailure::TimedOut };
        Self { primary, others: Vec::new(), others_uncounted: 0, cancelled: 0 }
    }
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self(Some(error))
    }
}

impl<E: StdError + 'static> StdError for GroupError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.primary.source()
    }
}

impl<E> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.primary.fmt(f)?;
        if self.others_total() > 0 {
            write!(f, "; {} more", self.others_total())?;
        }
        if self.cancelled > 0 {
            write!(f, "; cancelled: {}", self.cancelled)?;
        }
        Ok(())
    }
}

impl<E: StdError + 'static> StdError for TaskError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            TaskFailure::Failed(error) => Some(error),
            TaskFailure::TimedOut | TaskFailure::Closed => None,
        }
    }
}

impl<E> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.failure {
            TaskFailure::Failed(_) => "failed",
            TaskFailure::TimedOut => "timed out",
            TaskFailure::Closed => "stopped with another group",
        };
        match self.task {
            Task::Spawned(ordinal) => write!(f, "task {ordinal} {what}"),
            Task::Body => write!(f, "the group's body {what}"),
        }
    }
}
