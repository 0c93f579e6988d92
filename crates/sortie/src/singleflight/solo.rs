//! A load that runs outside the table, for its caller alone.

use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::rt::time::{self, Instant};
use crate::singleflight::call::{FlightCx, FlightId, Landed, Role};
use crate::singleflight::contained::Contained;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{Loading, span};
use crate::singleflight::lineage::Frame;
use crate::singleflight::party::Outcome;

/// The lineage of a load outside the table.
pub(super) fn frame<K>(registry: usize, key: K) -> Frame
where
    K: Eq + Hash + Send + Sync + 'static,
{
    let key: Arc<dyn Any + Send + Sync> = Arc::new(key);
    Frame::solo(registry, key)
}

/// Runs a load in its caller's future, to the caller's deadline or to `flight_max`.
pub(super) async fn solo<V, E>(
    frames: Vec<Frame>,
    cx: FlightCx,
    deadline: Option<Instant>,
    load: impl FnOnce(FlightCx) -> Loading<V, E> + Send + 'static,
) -> Outcome<Landed<V>, E> {
    let (began, end) = (cx.began, cx.deadline());
    // In an async block, so that a panic of the closure itself is contained too.
    let load = Contained::running(Box::pin(async move { load(cx).await }), frames, span(0, "solo"));
    let outcome = match [end, deadline].into_iter().flatten().min() {
        None => load.await,
        Some(end) => match select(load, Box::pin(time::sleep_until(end))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), _)) => Err(FlightError::TimedOut),
        },
    };
    outcome.map(|value| Landed { value, role: Role::Solo, flight: FlightId(0), began })
}
