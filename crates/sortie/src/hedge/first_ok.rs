//! The plain form: send to all, keep the first answer.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::Span;

use super::call::{Ended, Started, fly, traced};
use super::error::{AttemptFailure, FailedAttempt, HedgeError, HedgeErrorKind};
use super::reaper::AttemptKind;
use crate::rt::time::Instant;

/// Asks all `replicas` at once and returns the first `Ok`.
///
/// An error, however fast, never wins while another replica may still answer. The others are
/// dropped before this returns.
///
/// # When not to use it
///
/// Above a load of 1/(k+1), k being the number of replicas: there it makes everybody slower. Each
/// request costs k times the work, so that with exponential service times and losers that run to
/// their end the mean wait goes from `1/(1 - load)` to `1/(k (1 - k load))`: two copies help below
/// 33 % load, three below 25 %. [`Hedge`](crate::Hedge) asks the next replica only when it must.
///
/// # Errors
///
/// [`HedgeErrorKind::Exhausted`] when every attempt failed or panicked, with all of them;
/// [`HedgeErrorKind::NoReplicas`], at once, if `replicas` is empty.
///
/// # Cancel safety
///
/// Cancel safe: the attempts are part of this future, no task is spawned, and dropping it drops
/// them. What a dropped attempt does on a server is the attempt's to say.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let answer = sortie::first_ok([90_u64, 1, 0], |latency_ms| async move {
///     tokio::time::sleep(Duration::from_millis(latency_ms)).await;
///     if latency_ms == 0 { Err("down") } else { Ok(latency_ms) }
/// });
/// assert_eq!(answer.await.unwrap(), 1); // The fast error did not win.
/// # }
/// ```
pub async fn first_ok<R, T, E, Fut>(
    replicas: impl IntoIterator<Item = R>,
    attempt: impl Fn(R) -> Fut,
) -> Result<T, HedgeError<E>>
where
    Fut: Future<Output = Result<T, E>>,
{
    let mut running: FuturesUnordered<_> = replicas
        .into_iter()
        .enumerate()
        .map(|(ordinal, replica)| fly(&attempt, Started { ordinal, replica, span: span(ordinal) }))
        .collect();
    if running.is_empty() {
        return Err(HedgeError::new(HedgeErrorKind::NoReplicas, Vec::new()));
    }
    let begun = Instant::now();
    let mut failed = Vec::new();
    while let Some(Ended { ordinal, outcome }) = running.next().await {
        let failure = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => AttemptFailure::Failed(error),
            Err(panic) => AttemptFailure::panicked(&*panic),
        };
        failed.push(failed_attempt(ordinal, begun.elapsed(), failure));
    }
    Err(HedgeError::new(HedgeErrorKind::Exhausted, failed))
}

fn failed_attempt<E>(
    place: usize,
    elapsed: Duration,
    failure: AttemptFailure<E>,
) -> FailedAttempt<E> {
    let replica = place.to_string().into();
    FailedAttempt { replica, kind: AttemptKind::First, elapsed, failure }
}

fn span(place: usize) -> Span {
    if !traced() {
        return Span::none();
    }
    tracing::debug_span!("attempt", replica = place, kind = AttemptKind::First.as_str())
}
