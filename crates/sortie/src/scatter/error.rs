//! What a scatter that did not get every answer says.

use std::error::Error as StdError;
use std::fmt;

use super::ledger::Outcome;

/// Failures kept beside the primary one; the rest is counted. It bounds what a scatter over many
/// shards holds when all of them fail for one reason.
pub(super) const OTHERS_MAX: usize = 64;

/// Why a scatter failed: which shard, what else went wrong, and what did arrive.
///
/// `Display` begins with the shard and prints no cause; the cause is the `source()`.
pub struct ScatterError<T, E>(Box<Report<T, E>>);

/// Names a leg. Displayed as [`Scatter::label`](crate::Scatter::label) named it, else as its place
/// in shard order.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LegLabel {
    ordinal: usize,
    name: Option<Box<str>>,
}

/// One leg's failure, with the name of its shard.
#[derive(Debug)]
#[non_exhaustive]
pub struct LegError<E> {
    /// Which leg.
    pub label: LegLabel,
    /// What became of the leg.
    pub failure: LegFailure<E>,
}

/// How a leg failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum LegFailure<E> {
    /// The leg returned this error.
    Failed(E),
    /// The scatter's deadline passed before the leg answered.
    TimedOut,
}

/// An answer that arrived although the scatter failed: who asks again may leave its shard out.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gathered<T> {
    /// Which leg.
    pub label: LegLabel,
    /// The answer.
    pub answer: T,
}

#[derive(Debug)]
pub(super) struct Report<T, E> {
    pub(super) primary: LegError<E>,
    pub(super) others: Vec<LegError<E>>,
    pub(super) others_uncounted: usize,
    pub(super) gathered: Vec<Gathered<T>>,
    pub(super) cancelled: Vec<LegLabel>,
    pub(super) not_started: Vec<LegLabel>,
}

impl<T, E> ScatterError<T, E> {
    /// The failure that ended the scatter.
    pub fn primary(&self) -> &LegError<E> {
        &self.0.primary
    }

    /// Failures of the same turn beside the primary one, in shard order; at most 64.
    pub fn others(&self) -> &[LegError<E>] {
        &self.0.others
    }

    /// How many failures there were beside the primary one, those not kept included.
    pub fn others_total(&self) -> usize {
        self.0.others.len() + self.0.others_uncounted
    }

    /// The answers that did arrive, in shard order.
    pub fn gathered(&self) -> &[Gathered<T>] {
        &self.0.gathered
    }

    /// The shards whose legs were running and were called back.
    pub fn cancelled(&self) -> &[LegLabel] {
        &self.0.cancelled
    }

    /// The shards whose legs had not begun.
    pub fn not_started(&self) -> &[LegLabel] {
        &self.0.not_started
    }

    /// Takes the failure that ended the scatter out, with the answers that did arrive.
    pub fn into_parts(self) -> (LegError<E>, Vec<Gathered<T>>) {
        (self.0.primary, self.0.gathered)
    }

    pub(super) fn new(report: Report<T, E>) -> Self {
        Self(Box::new(report))
    }
}

impl<T, E> Report<T, E> {
    pub(super) fn of(primary: LegError<E>) -> Self {
        Self {
            primary,
            others: Vec::new(),
            others_uncounted: 0,
            gathered: Vec::new(),
            cancelled: Vec::new(),
            not_started: Vec::new(),
        }
    }
}

impl LegLabel {
    /// The leg's place in shard order, from 0.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    pub(super) fn new(ordinal: usize, name: Option<Box<str>>) -> Self {
        Self { ordinal, name }
    }
}

impl<E> LegError<E> {
    pub(super) fn new(label: LegLabel, failure: LegFailure<E>) -> Self {
        Self { label, failure }
    }
}

impl<E> LegFailure<E> {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(_) => Outcome::Failed,
            Self::TimedOut => Outcome::TimedOut,
        }
    }
}

impl<T, E: StdError + 'static> StdError for ScatterError<T, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.primary.source()
    }
}

impl<T, E> fmt::Display for ScatterError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.0;
        fmt::Display::fmt(&report.primary, f)?;
        if let Some(first) = report.others.first() {
            write!(f, "; {} more, on shard {}", self.others_total(), first.label)?;
            for other in &report.others[1..] {
                write!(f, ", {}", other.label)?;
            }
            if report.others_uncounted > 0 {
                f.write_str(", …")?;
            }
        }
        list(f, "cancelled", &report.cancelled)?;
        list(f, "not started", &report.not_started)
    }
}

// By hand, so that an answer needs no `Debug` and is not printed where it may not belong.
impl<T, E: fmt::Debug> fmt::Debug for ScatterError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScatterError")
            .field("primary", &self.0.primary)
            .field("others", &self.0.others)
            .field("others_total", &self.others_total())
            .field("gathered", &self.0.gathered.len())
            .field("cancelled", &self.0.cancelled)
            .field("not_started", &self.0.not_started)
            .finish()
    }
}

impl fmt::Display for LegLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => self.ordinal.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for LegError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            LegFailure::Failed(error) => Some(error),
            LegFailure::TimedOut => None,
        }
    }
}

impl<E> fmt::Display for LegError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.failure {
            LegFailure::Failed(_) => "failed",
            LegFailure::TimedOut => "timed out",
        };
        write!(f, "shard {} {what}", self.label)
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, labels: &[LegLabel]) -> fmt::Result {
    for (place, label) in labels.iter().enumerate() {
        match place {
            0 => write!(f, "; {what}: {label}")?,
            _ => write!(f, ", {label}")?,
        }
    }
    Ok(())
}
