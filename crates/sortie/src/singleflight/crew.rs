//! The task of one load for many keys: it lands each key's flight, and looks after all of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::observe::Event;
use crate::rt::task::Handle;
use crate::rt::time::Instant;
use crate::singleflight::call::FlightCx;
use crate::singleflight::contained::Contained;
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{self, Airborne, Begin, Bell, Load, Loading};
use crate::singleflight::lineage::Frame;
use crate::singleflight::party::Outcome;
use crate::singleflight::settle::Due;
use crate::singleflight::table::Table;
use crate::singleflight::tether::{Group, Tether};

/// What a load of many keys returns.
pub(super) type Rows<K, V, E> = Vec<(K, Result<V, E>)>;

/// The rows, to be taken out by key, or what failed for all.
pub(super) type Found<K, V, E> = Outcome<HashMap<K, Result<V, E>>, E>;

pub(super) type LoadMany<K, V, E> =
    Arc<dyn Fn(Vec<K>, FlightCx) -> Loading<Rows<K, V, E>, E> + Send + Sync>;

/// A flight of a load of many keys.
pub(super) struct Part<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) key: K,
    pub(super) airborne: Airborne<K, V, E>,
}

/// A load of many keys with all its flights.
pub(super) struct Crew<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) parts: Vec<Part<K, V, E>>,
    pub(super) load: Contained<Rows<K, V, E>, E>,
    /// What a successor runs.
    pub(super) again: LoadMany<K, V, E>,
    pub(super) bell: Option<Bell>,
}

/// A load of these keys.
pub(super) fn many<K, V, E>(load: &LoadMany<K, V, E>, keys: Vec<K>) -> Load<Rows<K, V, E>, E>
where
    K: Clone + Send + Sync + 'static,
    V: 'static,
    E: 'static,
{
    let load = Arc::clone(load);
    Arc::new(move |cx| load(keys.clone(), cx))
}

pub(super) fn by_key<K: Eq + Hash, V, E>(rows: Outcome<Rows<K, V, E>, E>) -> Found<K, V, E> {
    rows.map(|rows| rows.into_iter().collect())
}

pub(super) fn take<K: Eq + Hash, V, E>(found: &mut Found<K, V, E>, key: &K) -> Outcome<V, E> {
    match found {
        Ok(rows) => match rows.remove(key) {
            Some(row) => row.map_err(FlightError::failed),
            None => Err(FlightError::NotFound),
        },
        Err(error) => Err(error.clone()),
    }
}

/// Gives a load of many keys its task, and each of its flights a hold on it.
pub(super) fn spawn<K, V, E>(crew: Crew<K, V, E>, alarm: Option<Instant>, handle: &Handle)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Some(Part { airborne, .. }) = crew.parts.first() else { return };
    let (table, span) = (Arc::clone(&airborne.table), airborne.span.clone());
    let ids: Vec<_> = crew.parts.iter().map(|it| (it.airborne.hash, it.airborne.id)).collect();
    let (group, bell) = (Group::new(ids.len()), crew.bell.clone());
    // The task's owners are the entries of its flights, as with a load of one key.
    group.own(handle.spawn(fly(crew, alarm, Arc::clone(&group))).abort_handle());
    for (hash, id) in ids {
        let part = Tether::Part(Arc::clone(&group));
        if let Err(orphan) = table.own(hash, id, part, span.clone(), bell.as_ref()) {
            orphan.abort();
        }
    }
    // A flight may have become idle before it had this bell.
    if let Some(bell) = bell {
        bell.notify_one();
    }
}

async fn fly<K, V, E>(mut crew: Crew<K, V, E>, mut alarm: Option<Instant>, group: Arc<Group>)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let outcome = loop {
        let called = pin!(launch::called(crew.bell.as_deref(), alarm));
        match select(&mut crew.load, called).await {
            Either::Left((outcome, _)) => break outcome,
            Either::Right(_) => alarm = look(&mut crew.parts, &crew.again, &group),
        }
        if crew.parts.is_empty() {
            return;
        }
    };
    let Crew { parts, load, .. } = crew;
    drop(load);
    let mut found = by_key(outcome);
    for Part { key, airborne } in parts {
        let mine = take(&mut found, &key);
        airborne.land(mine);
    }
}

/// Looks after each flight, lets go of those that are over, and says when to look again.
fn look<K, V, E>(
    parts: &mut Vec<Part<K, V, E>>,
    again: &LoadMany<K, V, E>,
    group: &Group,
) -> Option<Instant>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let (mut next, mut successors) = (None, Vec::new());
    // Whatever becomes of the parts, a successor that has begun gets its task.
    let table = Arc::clone(&parts.first()?.airborne.table);
    for part in mem::take(parts) {
        let Airborne { hash, id, .. } = &part.airborne;
        let (due, successor) = table.due_in_group(*hash, *id);
        successors.extend(successor.map(|begin| (part.key.clone(), *hash, begin)));
        match due {
            Due::At(at) => {
                next = [next, at].into_iter().flatten().min();
                parts.push(part);
            }
            Due::TimedOut => {
                part.airborne.land(Err(FlightError::TimedOut));
                group.leave();
            }
            // Superseded or given up, and counted where that happened.
            Due::Gone => {}
        }
    }
    if !successors.is_empty() {
        succeed(&table, &successors, again);
    }
    next
}

/// Launches the successors of the flights of one load as one load.
fn succeed<K, V, E>(
    table: &Arc<Table<K, V, E>>,
    successors: &[(K, u64, Begin<V, E>)],
    again: &LoadMany<K, V, E>,
) where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let (_, _, Begin { cx, alarm, loader, how, bell }) = &successors[0];
    let (mut cx, mut frames, bell) = (cx.clone(), loader.ancestors.clone(), bell.clone());
    let span = launch::span(cx.flight.number(), how.label());
    cx.gates.clear();
    let (mut parts, mut keys) = (Vec::new(), Vec::new());
    for (key, hash, begin) in successors {
        let FlightCx { flight, gates, .. } = &begin.cx;
        frames.push(Frame::flight(table.address(), flight.number()));
        cx.gates.extend(gates.iter().cloned());
        let airborne = Airborne::new(table, *hash, flight.number(), &span);
        parts.push(Part { key: key.clone(), airborne });
        keys.push(key.clone());
        table.tell(|| Event::Begun { flight: *flight, how: *how });
    }
    let load = many(again, keys);
    let retries = table.again(&load, Some(&cx));
    let load = Contained::begin(load, cx, frames, span).again(retries);
    let crew = Crew { parts, load, again: Arc::clone(again), bell };
    let handle = loader.handle.clone().or_else(|| Handle::try_current().ok());
    if let Some(handle) = handle {
        spawn(crew, *alarm, &handle);
    }
}
