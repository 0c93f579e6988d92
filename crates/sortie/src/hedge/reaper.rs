//! Who hears about losers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why an attempt was asked of its replica.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AttemptKind {
    /// The call's first attempt.
    First,
    /// The replicas asked before were slow.
    Hedge,
    /// A replica asked before failed.
    Failover,
}

/// Names one attempt among all attempts on one [`ReplicaSet`](crate::ReplicaSet) and its clones.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AttemptId {
    pub(super) call: u64,
    pub(super) ordinal: u32,
}

/// An attempt that was called back while it still ran. Its future has been dropped already.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loser<R> {
    /// Which attempt it was.
    pub attempt: AttemptId,
    /// Why it had been started.
    pub kind: AttemptKind,
    /// The replica it was asked of.
    pub replica: R,
    /// That replica's label.
    pub label: Arc<str>,
    /// How long it had been waiting for its replica.
    pub age: Duration,
    /// Why it was called back.
    pub why: Loss,
}

/// Why a running attempt was called back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Another attempt ended the call.
    Lost,
    /// The caller dropped the call.
    Abandoned,
}

/// Hears about every loser, after its future has been dropped. Closures `Fn(Loser<R>)` are one.
///
/// Dropping a future ends what this process does for an attempt. Work that goes on elsewhere (a
/// query on a server) is ended by the attempt's own drop, or from here.
pub trait Reaper<R> {
    /// Takes over what is left of `loser`.
    ///
    /// It runs before the call returns, possibly inside a `drop`: hand the work to somebody else,
    /// don't block, don't panic.
    fn reap(&self, loser: Loser<R>);
}

/// The reaper a [`Hedge`](crate::Hedge) starts with: dropping the future was all there was to do.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DropOnly;

impl<R> Reaper<R> for DropOnly {
    fn reap(&self, _loser: Loser<R>) {}
}

impl<R, F> Reaper<R> for F
where
    F: Fn(Loser<R>),
{
    fn reap(&self, loser: Loser<R>) {
        self(loser);
    }
}

impl AttemptKind {
    /// Returns the kind's name in metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Hedge => "hedge",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for AttemptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The call's number, a dot, the attempt's place in the call, counted from 0.
impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.call, self.ordinal)
    }
}
