//! Scatter: one question to every shard at once; the first error calls the rest back.
//!
//! A *leg* is one shard's part of the fan-out. To *scatter* is to send the legs, to *gather* is
//! to collect their answers.
//!
//! # Invariants
//!
//! 1. Nothing outlives the call: the legs are polled inside the caller's own future, no task is
//!    spawned, and dropping that future drops every leg before the drop returns.
//! 2. The first failure ends the scatter at any width. The primary error is the earliest
//!    completion; of several in one turn of the driver, the one of the lowest shard.
//! 3. Nothing is polled after the turn that failed, so a leg's answer to being called back is
//!    never seen and can't be taken for an error.
//! 4. Results are in shard order, whatever order they arrive in.
//! 5. After its first poll a leg is polled only when it was woken.
//! 6. Every leg ends exactly once in the [`ScatterLedger`].

mod error;
mod gather;
mod ledger;

use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Level, Span, debug_span, enabled};

use self::error::Report;
pub use self::error::{Gathered, LegError, LegFailure, LegLabel, ScatterError};
use self::gather::{Gather, Labels};
use self::ledger::{Account, Outcome};
pub use self::ledger::{ScatterLedger, ScatterStats};

/// A question to every shard: one leg each, all or nothing.
///
/// The legs are cheap owned handles (a shard's pool, a replica set, a
/// `(shard, keys)` pair); [`run`](Self::run) says what to ask of each.
///
/// # Examples
///
/// ```
/// use sortie::Scatter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let ask = |shard: u64| async move {
///     if shard == 1 { Err(std::io::Error::other("down")) } else { Ok(shard * 10) }
/// };
///
/// let sums = Scatter::over([0, 2, 3]).run(ask).await.unwrap();
/// assert_eq!(sums, [0, 20, 30]);
///
/// let error = Scatter::over([0, 1]).label(|shard| format!("eu-{shard}")).run(ask).await;
/// assert_eq!(error.unwrap_err().to_string(), "shard eu-1 failed");
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a scatter does nothing until it is run"]
pub struct Scatter<L, N = usize> {
    legs: Vec<L>,
    labels: Labels<N>,
    limit: usize,
    deadline: Option<Instant>,
    ledger: Option<ScatterLedger>,
}

impl<L> Scatter<L> {
    /// Creates a scatter over `legs`, in shard order. Without [`label`](Self::label) a leg is
    /// called by its place in that order, from 0.
    pub fn over(legs: impl IntoIterator<Item = L>) -> Self {
        Self {
            legs: legs.into_iter().collect(),
            labels: Labels::ordinals(),
            limit: usize::MAX,
            deadline: None,
            ledger: None,
        }
    }
}

impl<L, N> Scatter<L, N> {
    /// Names the shard of each leg, for errors and spans. `name` is called once per leg, now; the
    /// names are turned into text only when something is reported.
    pub fn label<M: fmt::Display>(self, name: impl FnMut(&L) -> M) -> Scatter<L, M> {
        Scatter {
            labels: Labels::new(self.legs.iter().map(name).collect()),
            legs: self.legs,
            limit: self.limit,
            deadline: self.deadline,
            ledger: self.ledger,
        }
    }

    /// Runs at most `limit` legs at a time, started in shard order. The default is all at once.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is zero: such a scatter could never end.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(limit > 0, "a scatter runs at least one leg at a time");
        self.limit = limit;
        self
    }

    /// Ends the scatter at `deadline`, whatever is missing then. Waiting for a place under the
    /// [`limit`](Self::limit) counts; a deadline that has passed already starts no leg.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Counts this scatter's legs in `ledger`.
    pub fn ledger(mut self, ledger: &ScatterLedger) -> Self {
        self.ledger = Some(ledger.clone());
        self
    }

    /// Asks every shard and returns the answers in shard order.
    ///
    /// No legs give an empty answer; one leg is awaited without any machinery.
    ///
    /// # Errors
    ///
    /// [`ScatterError`] when a leg fails or the deadline passes first. It names the shard, holds
    /// the answers that did arrive, and says which legs were called back and which never started.
    /// When a leg fails in the same turn in which the deadline passes, the error is the leg's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future drops every leg before the drop returns, and nothing runs
    /// on in this process. What a leg's abandoned query does on its server is the leg's to say.
    ///
    /// # Panics
    ///
    /// A panic in a leg (or in `visit`) is passed on, after every other leg was dropped. Panics
    /// when polled outside a Tokio runtime with a timer, if a deadline is set.
    pub async fn run<T, E, F, Fut>(self, visit: F) -> Result<Vec<T>, ScatterError<T, E>>
    where
        N: fmt::Display,
        F: FnMut(L) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let legs = self.legs.len();
        if legs == 0 {
            return Ok(Vec::new());
        }
        let account = Account::open(self.ledger.clone(), legs);
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(expired(&self.labels, legs, account));
        }
        // Asked once: even a disabled span costs as much as a leg that is ready at once.
        let span = enabled!(Level::DEBUG).then(|| debug_span!("scatter", legs));
        if legs == 1 {
            return self.alone(account, visit, span).await;
        }
        let mut gather = Gather::new(self, visit, account, span);
        match gather.drive().await {
            Ok(()) => gather.finish(),
            Err(payload) => {
                gather.abandon();
                resume_unwind(payload)
            }
        }
    }

    async fn alone<T, E, F, Fut>(
        self,
        mut account: Account,
        mut visit: F,
        span: Option<Span>,
    ) -> Result<Vec<T>, ScatterError<T, E>>
    where
        N: fmt::Display,
        F: FnMut(L) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(leg) = self.legs.into_iter().next() else { return Ok(Vec::new()) };
        let span = span.map_or_else(Span::none, |scatter| leg_span(&scatter, &self.labels, 0));
        account.start();
        account.show();
        let ended = async {
            let asked = visit(leg);
            match self.deadline {
                Some(deadline) => timeout_at(deadline, asked).await.ok(),
                None => Some(asked.await),
            }
        };
        let failure = match AssertUnwindSafe(ended.instrument(span)).catch_unwind().await {
            Ok(Some(Ok(answer))) => {
                account.end(Outcome::Ok);
                return Ok(vec![answer]);
            }
            Ok(Some(Err(error))) => LegFailure::Failed(error),
            Ok(None) => LegFailure::TimedOut,
            Err(payload) => {
                account.end(Outcome::Failed);
                resume_unwind(payload)
            }
        };
        account.end(failure.outcome());
        let error = LegError::new(self.labels.leg(0), failure);
        Err(ScatterError::new(Report::of(error)))
    }
}

fn leg_span<N: fmt::Display>(scatter: &Span, labels: &Labels<N>, ordinal: usize) -> Span {
    debug_span!(parent: scatter, "leg", shard = %labels.at(ordinal))
}

/// The deadline had passed before anything was asked: the first leg stands for all of them.
fn expired<N: fmt::Display, T, E>(
    labels: &Labels<N>,
    legs: usize,
    mut account: Account,
) -> ScatterError<T, E> {
    account.start();
    account.end(Outcome::TimedOut);
    let first = LegError::new(labels.leg(0), LegFailure::TimedOut);
    let not_started = (1..legs).map(|ordinal| labels.leg(ordinal)).collect();
    ScatterError::new(Report { not_started, ..Report::of(first) })
}
