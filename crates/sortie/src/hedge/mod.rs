//! First answer wins: ask one more replica when the last one asked is slow or fails.
//!
//! An *attempt* is one query to one replica. The *winner* is the attempt that answered, a *loser*
//! one that still ran then. The *reaper* hears about losers.
//!
//! # Invariants
//!
//! 1. Losers never outlive the call: attempts are owned by its future, no task is spawned.
//! 2. At most `attempts_max` attempts start, each on a replica of its own.
//! 3. A failure starts the next attempt at once; only slowness waits for the delay.
//! 4. A failed attempt never ends a call while another may still answer.
//! 5. Every request and every attempt ends exactly once in the ledger.

mod call;
mod class;
mod error;
mod first_ok;
mod ledger;
mod reaper;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::class::{Class, Classify, OkWins};
pub use self::error::{AttemptFailure, FailedAttempt, HedgeError, HedgeErrorKind};
pub use self::first_ok::first_ok;
pub use self::ledger::HedgeLedger;
pub use self::reaper::{AttemptId, AttemptKind, DropOnly, Loser, Loss, Reaper};

use self::ledger::Counters;
use crate::replicas::ReplicaSet;

/// A policy for asking several replicas the same question. A handle: clones share the ledger.
///
/// `C` decides what an outcome means, `P` hears about losers; plain `Hedge` is the default of both:
/// `Ok` wins, `Err` fails over, losers are only dropped.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use sortie::{Hedge, ReplicaSet};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), sortie::HedgeError<std::io::Error>> {
/// let hedge = Hedge::after(Duration::from_millis(5));
/// let replicas = ReplicaSet::new([90_u64, 1]); // Their latencies in milliseconds.
/// let answer = hedge
///     .run(&replicas, |latency_ms| async move {
///         tokio::time::sleep(Duration::from_millis(latency_ms)).await;
///         Ok(latency_ms)
///     })
///     .await?;
/// assert_eq!(answer, 1); // The second replica won, 6 ms in.
/// assert_eq!(hedge.ledger().hedge_wins, 1);
/// # Ok(())
/// # }
/// ```
pub struct Hedge<C = OkWins, P = DropOnly> {
    policy: Arc<Policy<C, P>>,
}

struct Policy<C, P> {
    delay: Option<Duration>,
    attempts_max: usize,
    classify: C,
    reaper: P,
    label: Option<Arc<str>>,
    counters: Counters,
}

impl Hedge {
    /// Creates a policy that asks the next replica each time `delay` passes without an answer.
    ///
    /// Tokio's timer ticks in milliseconds and fires late, never early: the shortest delay that
    /// exists is about 2 ms.
    pub fn after(delay: Duration) -> Self {
        Self::with(Some(delay))
    }

    /// Creates a policy that never hedges: the next replica is asked only when one fails.
    pub fn off() -> Self {
        Self::with(None)
    }

    fn with(delay: Option<Duration>) -> Self {
        let (classify, reaper, counters) = (OkWins, DropOnly, Counters::default());
        let attempts_max = usize::MAX;
        Self {
            policy: Arc::new(Policy {
                delay,
                attempts_max,
                classify,
                reaper,
                label: None,
                counters,
            }),
        }
    }
}

/// Options. Each makes a policy of its own, with an empty ledger.
impl<C: Clone, P: Clone> Hedge<C, P> {
    /// Sets how many replicas a call asks at most, the first included. All of the set, if unset.
    ///
    /// # Panics
    ///
    /// Panics if `attempts_max` is 0.
    #[must_use]
    pub fn attempts_max(self, attempts_max: usize) -> Self {
        assert!(attempts_max > 0, "a call that may ask nobody has no answer");
        self.change(|policy| Policy { attempts_max, ..policy })
    }

    /// Sets the name that this policy's attempts carry in traces.
    #[must_use]
    pub fn label(self, label: impl Into<Arc<str>>) -> Self {
        let label = Some(label.into());
        self.change(|policy| Policy { label, ..policy })
    }

    /// Sets what decides whether an outcome is the answer. See [`Classify`].
    #[must_use]
    pub fn classify<C2>(self, classify: C2) -> Hedge<C2, P> {
        self.change(|policy| Policy {
            classify,
            delay: policy.delay,
            attempts_max: policy.attempts_max,
            reaper: policy.reaper,
            label: policy.label,
            counters: policy.counters,
        })
    }

    /// Sets who hears about losers. See [`Reaper`].
    #[must_use]
    pub fn reaper<P2>(self, reaper: P2) -> Hedge<C, P2> {
        self.change(|policy| Policy {
            reaper,
            delay: policy.delay,
            attempts_max: policy.attempts_max,
            classify: policy.classify,
            label: policy.label,
            counters: policy.counters,
        })
    }

    fn change<C2, P2>(self, change: impl FnOnce(Policy<C, P>) -> Policy<C2, P2>) -> Hedge<C2, P2> {
        Hedge { policy: Arc::new(change(Arc::unwrap_or_clone(self.policy))) }
    }
}

impl<C, P> Hedge<C, P> {
    /// Returns the first answer from `replicas`, asked in turn.
    ///
    /// One replica is asked at once, and polled before anything is set up for more. Another is
    /// asked each time the delay passes, and at once when an attempt fails or panics, until the
    /// replicas or [`attempts_max`](Self::attempts_max) are used up. The first answer is returned;
    /// a failure never is while another attempt may still answer. Losers are dropped, then shown to
    /// the reaper, before this returns.
    ///
    /// The future borrows nothing from `self` or `replicas`.
    ///
    /// # Errors
    ///
    /// [`HedgeErrorKind::Answered`] when a replica's error is the answer,
    /// [`HedgeErrorKind::Exhausted`] when every replica asked failed,
    /// [`HedgeErrorKind::NoReplicas`] at once if there are none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future drops every attempt, then shows them to the reaper as
    /// [`Loss::Abandoned`]. Nothing runs on in this process; what a dropped attempt does on a
    /// server is the attempt's and the reaper's to say.
    ///
    /// # Panics
    ///
    /// A panic of the classification or the reaper goes to the caller; one of an attempt does not.
    /// Panics if an attempt has to be waited for outside a Tokio runtime whose timer is enabled.
    pub fn run<R, T, E, F, Fut>(
        &self,
        replicas: &ReplicaSet<R>,
        attempt: F,
    ) -> impl Future<Output = Result<T, HedgeError<E>>> + use<R, T, E, F, Fut, C, P>
    where
        R: Clone,
        F: Fn(R) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        P: Reaper<R>,
    {
        call::run(Arc::clone(&self.policy), replicas.clone(), attempt)
    }

    /// Returns what this policy and its clones have done so far.
    pub fn ledger(&self) -> HedgeLedger {
        self.policy.counters.snapshot()
    }
}

impl<C, P> Clone for Hedge<C, P> {
    fn clone(&self) -> Self {
        Self { policy: Arc::clone(&self.policy) }
    }
}

impl<C, P> fmt::Debug for Hedge<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy { delay, attempts_max, label, counters, .. } = &*self.policy;
        f.debug_struct("Hedge")
            .field("delay", delay)
            .field("attempts_max", attempts_max)
            .field("label", label)
            .field("ledger", &counters.snapshot())
            .finish_non_exhaustive()
    }
}

impl<C: Clone, P: Clone> Clone for Policy<C, P> {
    fn clone(&self) -> Self {
        Self {
            delay: self.delay,
            attempts_max: self.attempts_max,
            classify: self.classify.clone(),
            reaper: self.reaper.clone(),
            label: self.label.clone(),
            // A changed policy is another policy: what its parent did is not its doing.
            counters: Counters::default(),
        }
    }
}
