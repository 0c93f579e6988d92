//! What an attempt's outcome means for its call.

/// What one attempt's outcome means for the call that made it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Class {
    /// The answer: return it, call the other attempts back.
    Win,
    /// An error that every replica would give (a syntax error, a missing table): return it at
    /// once, ask nobody else.
    Answer,
    /// This replica's own trouble: ask the next one now, without waiting for the delay.
    FailOver,
    /// Neither an answer nor a failure: carry on as if this replica had not been asked.
    Abstain,
}

/// Decides what an attempt's outcome means. Closures `Fn(&Result<T, E>) -> Class` are one.
///
/// An `Ok` classed as [`Answer`](Class::Answer) wins, and an `Err` classed as
/// [`Win`](Class::Win) is an answer: the two differ only in what they expect to see. An `Ok`
/// classed as [`FailOver`](Class::FailOver) or [`Abstain`](Class::Abstain), say because it is too
/// old, is dropped.
///
/// # Examples
///
/// A policy that looks only at the error fits every `T`:
///
/// ```
/// use std::io::{Error, ErrorKind};
///
/// use sortie::{Class, Classify};
///
/// #[derive(Clone, Copy)]
/// struct NotFoundIsAnAnswer;
///
/// impl<T> Classify<T, Error> for NotFoundIsAnAnswer {
///     fn classify(&self, outcome: &Result<T, Error>) -> Class {
///         match outcome {
///             Ok(_) => Class::Win,
///             Err(error) if error.kind() == ErrorKind::NotFound => Class::Answer,
///             Err(_) => Class::FailOver,
///         }
///     }
/// }
/// # let missing: Result<(), Error> = Err(ErrorKind::NotFound.into());
/// # assert_eq!(NotFoundIsAnAnswer.classify(&missing), Class::Answer);
/// ```
pub trait Classify<T, E> {
    /// Returns the class of `outcome`. It runs inside the call's future, so it must not block.
    fn classify(&self, outcome: &Result<T, E>) -> Class;
}

/// The classification a [`Hedge`](crate::Hedge) starts with: `Ok` wins, `Err` fails over.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct OkWins;

impl<T, E> Classify<T, E> for OkWins {
    fn classify(&self, outcome: &Result<T, E>) -> Class {
        if outcome.is_ok() { Class::Win } else { Class::FailOver }
    }
}

impl<T, E, F> Classify<T, E> for F
where
    F: Fn(&Result<T, E>) -> Class,
{
    fn classify(&self, outcome: &Result<T, E>) -> Class {
        self(outcome)
    }
}
