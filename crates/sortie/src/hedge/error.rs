//! Why no replica's value could be returned.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::reaper::AttemptKind;

/// No value: every attempt that ended, with the one that says most in front.
///
/// The size of a pointer. [`source`](StdError::source) is the caller's own error of that attempt;
/// [`error`](Self::error) and [`into_error`](Self::into_error) give it back with its type.
#[derive(Clone)]
pub struct HedgeError<E>(Box<Inner<E>>);

#[derive(Clone)]
struct Inner<E> {
    kind: HedgeErrorKind,
    attempts: Vec<FailedAttempt<E>>,
    /// Index into `attempts`; meaningless while those are empty.
    representative: usize,
}

/// What kind of failure a [`HedgeError`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HedgeErrorKind {
    /// A replica answered, and its answer is an error. Asking again gives the same.
    Answered,
    /// Every replica that could be asked failed. Asking again later may help.
    Exhausted,
    /// There was no replica to ask.
    NoReplicas,
}

/// One attempt of a call that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedAttempt<E> {
    /// The replica's label; its place in the list for [`first_ok`](crate::first_ok).
    pub replica: Arc<str>,
    /// Why the attempt had been started.
    pub kind: AttemptKind,
    /// How long the attempt waited for its replica; zero if it failed without waiting.
    pub elapsed: Duration,
    /// What it ended with.
    pub failure: AttemptFailure<E>,
}

/// What a failed attempt ended with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttemptFailure<E> {
    /// An error that is the answer.
    Answered(E),
    /// This replica's error.
    Failed(E),
    /// An error that the classification ignored.
    Abstained(E),
    /// A value that the classification turned away.
    Refused,
    /// A panic, with its message.
    Panicked(Arc<str>),
}

impl<E> HedgeError<E> {
    pub(super) fn new(kind: HedgeErrorKind, attempts: Vec<FailedAttempt<E>>) -> Self {
        // `min_by_key` keeps the first of equals, and attempts are listed as they ended: ties go
        // to the call's first attempt, then to the earliest end.
        let representative = (0..attempts.len())
            .min_by_key(|&i| {
                (attempts[i].failure.rank(), attempts[i].kind != AttemptKind::First, i)
            })
            .unwrap_or(0);
        Self(Box::new(Inner { kind, attempts, representative }))
    }

    /// Returns what kind of failure this is.
    pub fn kind(&self) -> HedgeErrorKind {
        self.0.kind
    }

    /// Returns the attempts that ended, in the order they ended.
    ///
    /// Attempts that were called back because another one answered are not among them.
    pub fn attempts(&self) -> &[FailedAttempt<E>] {
        &self.0.attempts
    }

    /// Returns the attempt that says most about why there is no value.
    ///
    /// An answer says more than a replica's error, that more than an ignored one, that more than
    /// a value turned away, and a panic says least; among equals the call's first attempt, then
    /// the earliest. `None` if there was no replica.
    pub fn representative(&self) -> Option<&FailedAttempt<E>> {
        self.0.attempts.get(self.0.representative)
    }

    /// Returns the caller's own error of the [representative](Self::representative) attempt.
    pub fn error(&self) -> Option<&E> {
        self.representative()?.failure.error()
    }

    /// Returns the caller's own error of the [representative](Self::representative) attempt.
    pub fn into_error(mut self) -> Option<E> {
        if self.0.attempts.is_empty() {
            return None;
        }
        self.0.attempts.swap_remove(self.0.representative).failure.into_error()
    }
}

impl<E> AttemptFailure<E> {
    /// Returns the caller's own error, if the attempt ended with one.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Answered(error) | Self::Failed(error) | Self::Abstained(error) => Some(error),
            Self::Refused | Self::Panicked(_) => None,
        }
    }

    fn into_error(self) -> Option<E> {
        match self {
            Self::Answered(error) | Self::Failed(error) | Self::Abstained(error) => Some(error),
            Self::Refused | Self::Panicked(_) => None,
        }
    }

    pub(super) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(message.unwrap_or("a panic without a message").into())
    }

    /// The lower, the more it says.
    fn rank(&self) -> u8 {
        match self {
            Self::Answered(_) => 0,
            Self::Failed(_) => 1,
            Self::Abstained(_) => 2,
            Self::Refused => 3,
            Self::Panicked(_) => 4,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for HedgeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeError")
            .field("kind", &self.0.kind)
            .field("attempts", &self.0.attempts)
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Display for HedgeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(attempt) = self.representative() else {
            return f.write_str("there is no replica to ask");
        };
        write!(f, "{}: ", attempt.replica)?;
        match &attempt.failure {
            AttemptFailure::Answered(_) => f.write_str("the replica answered with an error")?,
            AttemptFailure::Failed(_) => f.write_str("the replica failed")?,
            AttemptFailure::Abstained(_) => f.write_str("the replica's error was ignored")?,
            AttemptFailure::Refused => f.write_str("the replica's value was turned away")?,
            AttemptFailure::Panicked(message) => write!(f, "the attempt panicked: {message}")?,
        }
        let others = self.0.attempts.len() - 1;
        if others > 0 { write!(f, " ({others} more failed)") } else { Ok(()) }
    }
}

impl<E: StdError + 'static> StdError for HedgeError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error().map(|error| error as _)
    }
}
