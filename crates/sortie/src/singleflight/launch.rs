//! One load's life: from its first poll to the moment its outcome is published.

use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::TryFutureExt;
use futures_util::future::{Either, pending, select};
use tokio::sync::Notify;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing::span::Id;

use crate::observe::{Begins, Event};
use crate::rt::task::Handle;
use crate::rt::time::{self, Instant};
use crate::singleflight::boarding::Gate;
use crate::singleflight::call::{FlightCx, FlightId};
use crate::singleflight::config::{Config, Idle};
use crate::singleflight::contained::Contained;
use crate::singleflight::error::FlightError;
use crate::singleflight::lineage::Frame;
use crate::singleflight::party::Outcome;
use crate::singleflight::settle::Due;
use crate::singleflight::table::Table;
use crate::singleflight::tether::Tether;

/// A load that runs.
pub(super) type Loading<V, E> = Pin<Box<dyn Future<Output = Outcome<V, E>> + Send>>;

/// Begins a load, as often as it is called.
pub(super) type Load<V, E> = Arc<dyn Fn(FlightCx) -> Loading<V, E> + Send + Sync>;

/// Tells the task of a flight that its last caller has left.
pub(super) type Bell = Arc<Notify>;

/// What it takes to begin a load once more.
pub(super) struct Loader<V, E> {
    pub(super) load: Load<V, E>,
    /// The loads that the call was made inside of.
    pub(super) ancestors: Vec<Frame>,
    /// The runtime of the caller whose load this is, if it is in one.
    pub(super) handle: Option<Handle>,
}

/// A flight to be launched.
pub(super) struct Begin<V, E> {
    pub(super) bell: Option<Bell>,
    pub(super) cx: FlightCx,
    /// When its task must look after it for the first time.
    pub(super) alarm: Option<Instant>,
    pub(super) loader: Loader<V, E>,
    pub(super) how: Begins,
}

/// A flight that has left its leader. Dropped before it has landed (its task went with its runtime,
/// or was aborted), it is lost, and whoever waits for it is told.
pub(super) struct Airborne<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) table: Arc<Table<K, V, E>>,
    pub(super) hash: u64,
    pub(super) id: u64,
    pub(super) span: Option<Id>,
    landed: bool,
}

impl<V, E: 'static> Loader<V, E> {
    pub(super) fn new<L, F>(load: L, ancestors: Vec<Frame>) -> Self
    where
        L: Fn(FlightCx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        Self::of(self::load(load), ancestors)
    }

    /// Takes the current runtime along.
    pub(super) fn of(load: Load<V, E>, ancestors: Vec<Frame>) -> Self {
        Self { load, ancestors, handle: Handle::try_current().ok() }
    }
}

impl<V, E> Loader<V, E> {
    /// Its own runtime is gone: whoever begins it does so in another.
    pub(super) fn anywhere(self) -> Self {
        Self { handle: None, ..self }
    }
}

/// A load of whatever type.
pub(super) fn load<L, F, V, E: 'static>(load: L) -> Load<V, E>
where
    L: Fn(FlightCx) -> F + Send + Sync + 'static,
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    Arc::new(move |cx| shared(load(cx)))
}

/// A load whose error is one that its callers share.
pub(super) fn shared<V, E: 'static>(
    load: impl Future<Output = Result<V, E>> + Send + 'static,
) -> Loading<V, E> {
    Box::pin(load.map_err(FlightError::failed))
}

impl<V, E> Clone for Loader<V, E> {
    fn clone(&self) -> Self {
        Self {
            load: Arc::clone(&self.load),
            ancestors: self.ancestors.clone(),
            handle: self.handle.clone(),
        }
    }
}

impl<K, V, E> Airborne<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) fn new(table: &Arc<Table<K, V, E>>, hash: u64, id: u64, span: &Span) -> Self {
        Self { table: Arc::clone(table), hash, id, span: span.id(), landed: false }
    }

    pub(super) fn land(mut self, outcome: Outcome<V, E>) {
        self.landed = true;
        // What went to nobody is dropped here, outside the lock.
        drop(self.table.land(self.hash, self.id, outcome, self.span.take()));
    }
}

impl<K, V, E> Drop for Airborne<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.landed {
            self.table.lose(self.hash, self.id, self.span.take());
        }
    }
}

/// Launches a flight that no caller polls: a successor, or the next for those who waited.
pub(super) fn launch<K, V, E>(table: &Arc<Table<K, V, E>>, hash: u64, begin: Begin<V, E>)
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Begin { bell, cx, alarm, loader, how } = begin;
    let FlightId(id) = cx.flight;
    let mut frames = loader.ancestors;
    frames.push(Frame::flight(table.address(), id));
    let span = span(id, how.label());
    let airborne = Airborne::new(table, hash, id, &span);
    let again = table.again(&loader.load, Some(&cx));
    let load = Contained::begin(loader.load, cx, frames, span).again(again);
    table.tell(|| Event::Begun { flight: FlightId(id), how });
    // Without a runtime to run in, the flight is dropped here and is lost.
    if let Some(handle) = loader.handle.or_else(|| Handle::try_current().ok()) {
        depart(airborne, load, alarm, bell, &handle);
    }
}

/// Gives a flight its task. The only place that spawns.
pub(super) fn depart<K, V, E>(
    airborne: Airborne<K, V, E>,
    load: Contained<V, E>,
    alarm: Option<Instant>,
    bell: Option<Bell>,
    handle: &Handle,
) where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let (table, hash, id) = (Arc::clone(&airborne.table), airborne.hash, airborne.id);
    let span = airborne.span.clone();
    // The task's owner is the flight's entry in the table: it keeps the abort handle, and whoever
    // removes the entry aborts the task. The task itself ends at `flight_max` at the latest.
    let task = handle.spawn(fly(airborne, load, bell, alarm)).abort_handle();
    if let Err(orphan) = table.own(hash, id, Tether::Task(task), span, None) {
        orphan.abort();
    }
}

async fn fly<K, V, E>(
    airborne: Airborne<K, V, E>,
    mut load: Contained<V, E>,
    bell: Option<Bell>,
    mut alarm: Option<Instant>,
) where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let outcome = loop {
        // The load is polled first: an answer that is there is never taken for a late one.
        match select(&mut load, pin!(called(bell.as_deref(), alarm))).await {
            Either::Left((outcome, _)) => break outcome,
            Either::Right(_) => match airborne.table.due(airborne.hash, airborne.id) {
                Due::At(next) => alarm = next,
                Due::TimedOut => break Err(FlightError::TimedOut),
                // Superseded or deserted; the abort is on its way.
                Due::Gone => return,
            },
        }
    };
    drop(load);
    airborne.land(outcome);
}

/// Waits until the task of a flight must look after it.
pub(super) async fn called(bell: Option<&Notify>, alarm: Option<Instant>) {
    let rung = async {
        match bell {
            Some(bell) => bell.notified().await,
            None => pending().await,
        }
    };
    let tick = async {
        match alarm {
            Some(alarm) => time::sleep_until(alarm).await,
            None => pending().await,
        }
    };
    select(pin!(rung), pin!(tick)).await;
}

#[inline]
pub(super) fn cx(id: u64, began: Instant, gate: Option<Arc<Gate>>, config: &Config) -> FlightCx {
    let gates = gate.map_or_else(Vec::new, |gate| vec![gate]);
    FlightCx { flight: FlightId(id), began, flight_max: config.flight_max, gates }
}

pub(super) fn bell(config: &Config) -> Option<Bell> {
    matches!(config.idle, Idle::Linger(_)).then(Bell::default)
}

/// The span of one load.
pub(super) fn span(id: u64, how: &'static str) -> Span {
    span_if_heard(id, how).unwrap_or_else(Span::none)
}

/// As `span`, for a load that may be over at once: where nobody listens, one look at that is all.
#[inline]
pub(super) fn span_if_heard(id: u64, how: &'static str) -> Option<Span> {
    let heard = LevelFilter::current() >= LevelFilter::DEBUG;
    heard.then(|| span_heard(id, how))
}

#[cold]
fn span_heard(id: u64, how: &'static str) -> Span {
    tracing::debug_span!("flight", id, how)
}
