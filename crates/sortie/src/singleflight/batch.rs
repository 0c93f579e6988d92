//! One load for many keys, each with a flight of its own.
//!
//! # Invariants
//!
//! 1. A key's flight is one like any other: it is joined, left, forgotten, relieved and ended by
//!    itself. Only the task that runs the load is shared.
//! 2. Every flight that a call leads has begun before the call waits for one that it joined, so two
//!    calls that join each other's keys both end.
//! 3. No two shards are locked at once.

use std::future::poll_fn;
use std::hash::Hash;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{self, OptionFuture, ready, select};

use crate::observe::Event;
use crate::rt::task::Handle;
use crate::rt::time::{self, Instant};
use crate::singleflight::arrivals::Caller;
use crate::singleflight::call::{Call, FlightCx, FlightId, Landed, Role};
use crate::singleflight::contained::Contained;
use crate::singleflight::crew::{Crew, LoadMany, Part, Rows, by_key, many, spawn, take};
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::{self, Airborne, Loader, Loading};
use crate::singleflight::lineage;
use crate::singleflight::party::{Outcome, Sitter};
use crate::singleflight::seat::Seat;
use crate::singleflight::sought::Owned;
use crate::singleflight::takeoff::Place;
use crate::singleflight::{SingleFlight, solo};

/// One key of a call.
enum Stop<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    Landed(Outcome<Landed<V>, E>),
    Seated(Seat<'a, K, V, E>),
    /// In a load that its caller runs alone.
    Solo,
}

/// A flight that this call leads.
struct Lead<K> {
    index: usize,
    key: K,
    hash: u64,
    id: u64,
}

/// What a call of many keys has come to in its first poll.
struct Board<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    stops: Vec<Stop<'a, K, V, E>>,
    solos: Vec<(usize, K)>,
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// As `run_many`.
    pub(super) async fn fly_many(
        &self,
        keys: Vec<K>,
        call: Call,
        load: LoadMany<K, V, E>,
    ) -> Vec<Outcome<Landed<V>, E>> {
        self.table.clock.ask();
        let now = Instant::now();
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            let expire = |key| {
                self.table.count(self.table.hash(&key), |stats| &mut stats.expired);
                Err(FlightError::TimedOut)
            };
            return keys.into_iter().map(expire).collect();
        }
        let mut keys = Some(keys);
        let board = poll_fn(|task| {
            let keys = keys.take().expect("polled once");
            Poll::Ready(self.board(keys, call, now, &load, task))
        });
        let Board { mut stops, solos } = board.await;
        let alone = (!solos.is_empty()).then(|| self.many_alone(solos, call, now, load));
        let ((), alone) =
            future::join(wait(&mut stops, call.deadline), OptionFuture::from(alone)).await;
        for (index, outcome) in alone.into_iter().flatten() {
            stops[index] = Stop::Landed(outcome);
        }
        let outcome = |stop| match stop {
            Stop::Landed(outcome) => outcome,
            Stop::Seated(_) | Stop::Solo => Err(FlightError::TimedOut),
        };
        stops.into_iter().map(outcome).collect()
    }

    /// Finds each key its place, and begins the loads of those that lead.
    fn board(
        &self,
        keys: Vec<K>,
        call: Call,
        now: Instant,
        load: &LoadMany<K, V, E>,
        task: &mut Context<'_>,
    ) -> Board<'_, K, V, E> {
        let join = call.join.unwrap_or(self.table.config.join);
        let mut board = Board { stops: Vec::with_capacity(keys.len()), solos: Vec::new() };
        let mut leads = Vec::new();
        // A gate for each load: the query of one may be sent long before another's.
        let (batch_max, mut gates) = (self.table.config.batch_max, vec![self.table.gate(now)]);
        let sitter = Sitter { waker: task.waker(), until: call.deadline };
        for (index, key) in keys.into_iter().enumerate() {
            let hash = self.table.hash(&key);
            let (asked, gate) = (key.clone(), gates.last().and_then(Option::as_ref));
            let (key_of, at_limit) = (Owned(asked), call.at_limit);
            let caller = Caller { key: key_of, hash, join, now: Some(now), at_limit, gate, sitter };
            board.stops.push(match self.place(caller, || Some(single(load, key.clone()))) {
                Place::Lead(id) => {
                    leads.push(Lead { index, key, hash, id });
                    if leads.len() % batch_max == 0 {
                        gates.push(self.table.gate(now));
                    }
                    Stop::Solo
                }
                Place::Seated(seat) => Stop::Seated(seat),
                Place::Refused(error) => Stop::Landed(Err(error)),
                Place::Solo(key) => {
                    board.solos.push((index, key));
                    Stop::Solo
                }
            });
        }
        for gate in gates {
            let rest = leads.split_off(batch_max.min(leads.len()));
            let Some(first) = leads.first() else { break };
            let cx = launch::cx(first.id, now, gate, &self.table.config);
            let leads = mem::replace(&mut leads, rest);
            self.lead_many(leads, cx, call.deadline, load, task, &mut board.stops);
        }
        board
    }

    /// Polls one load once, here. Only one that is not ready gets a task.
    fn lead_many<'a>(
        &'a self,
        leads: Vec<Lead<K>>,
        cx: FlightCx,
        until: Option<Instant>,
        load: &LoadMany<K, V, E>,
        task: &mut Context<'_>,
        stops: &mut [Stop<'a, K, V, E>],
    ) {
        let began = cx.began;
        let span = launch::span(leads[0].id, "leader");
        let rows = many(load, leads.iter().map(|lead| lead.key.clone()).collect());
        let again = self.table.again(&rows, Some(&cx));
        let mut loading = None;
        let first_poll = AssertUnwindSafe(|| {
            let mut future = rows(cx);
            let polled = future.as_mut().poll(task);
            loading = polled.is_pending().then_some(future);
            polled
        });
        let frames: Vec<_> = leads.iter().map(|lead| self.frame(lead.id)).collect();
        let polled = lineage::inside(
            |stack| stack.extend_from_slice(&frames),
            || span.in_scope(|| catch_unwind(first_poll)),
        );
        let loading = match polled {
            Ok(Poll::Ready(ended)) if self.table.is_retried(&ended) => {
                Ok(Box::pin(ready(ended)) as _)
            }
            Ok(Poll::Ready(ended)) => Err(ended),
            Err(payload) => Err(Err(FlightError::panicked(&*payload))),
            Ok(Poll::Pending) => Ok(loading.expect("a pending load is kept")),
        };
        let outcome = match loading {
            Err(outcome) => outcome,
            Ok(loading) => {
                let mut ancestors = lineage::ancestors();
                ancestors.extend(frames);
                let running = Contained::running(loading, ancestors, span).again(again);
                let sitter = Sitter { waker: task.waker(), until };
                return self.depart_many(leads, began, load, running, sitter, stops);
            }
        };
        let mut found = by_key(outcome);
        for Lead { index, key, hash, id } in leads {
            let mine = take(&mut found, &key);
            stops[index] = Stop::Landed(self.landed(hash, id, mine, began, span.id()));
        }
    }

    /// Moves a load that was not ready to a task of its own.
    fn depart_many<'a>(
        &'a self,
        leads: Vec<Lead<K>>,
        began: Instant,
        again: &LoadMany<K, V, E>,
        load: Contained<Rows<K, V, E>, E>,
        sitter: Sitter<'_>,
        stops: &mut [Stop<'a, K, V, E>],
    ) {
        // From here on a panic lands the flights as aborted instead of leaving them for ever.
        let span = load.span();
        let airborne = |lead: &Lead<K>| Airborne::new(&self.table, lead.hash, lead.id, span);
        let airborne: Vec<_> = leads.iter().map(airborne).collect();
        let handle = Handle::try_current();
        let handle = handle.expect("a load that is not ready at once needs a tokio runtime");
        let bell = launch::bell(&self.table.config);
        let (mut parts, mut alarm) = (Vec::with_capacity(leads.len()), None);
        for (Lead { index, key, hash, id }, airborne) in leads.into_iter().zip(airborne) {
            let loader = single(again, key.clone());
            stops[index] = match self.table.depart(hash, id, Some(loader), bell.clone(), sitter) {
                Ok(((seat, waits), due)) => {
                    alarm = [alarm, due].into_iter().flatten().min();
                    parts.push(Part { key, airborne });
                    Stop::Seated(Seat::new(&self.table, seat, Role::Leader, began).waits(waits))
                }
                Err(cell) => Stop::Landed(self.answered(&cell, began)),
            };
        }
        let again = Arc::clone(again);
        spawn(Crew { parts, load, again, bell }, alarm, &handle);
    }

    /// One load for all keys that met a limit, in the caller's own future.
    async fn many_alone(
        &self,
        solos: Vec<(usize, K)>,
        call: Call,
        now: Instant,
        load: LoadMany<K, V, E>,
    ) -> Vec<(usize, Outcome<Landed<V>, E>)> {
        let (mut frames, mut keys) = (Vec::new(), Vec::new());
        for (_, key) in &solos {
            frames.push(solo::frame(self.table.address(), key.clone()));
            keys.push(key.clone());
        }
        let cx = launch::cx(0, now, None, &self.table.config);
        let solo = Box::pin(solo::solo(frames, cx, call.deadline, move |cx| load(keys, cx)));
        let (mut found, began) = match solo.await {
            Ok(Landed { value, began, .. }) => (by_key(Ok(value)), began),
            Err(error) => (Err(error), now),
        };
        let answer = |(index, key)| {
            let outcome = take(&mut found, &key);
            self.table.tell(|| Event::answered(Role::Solo, outcome.is_ok(), now, now, None));
            (
                index,
                outcome.map(|value| Landed { value, role: Role::Solo, flight: FlightId(0), began }),
            )
        };
        solos.into_iter().map(answer).collect()
    }
}

/// Waits until every seat has its outcome, to the caller's deadline.
async fn wait<K, V, E>(stops: &mut [Stop<'_, K, V, E>], deadline: Option<Instant>)
where
    K: Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let all = poll_fn(|task| {
        let mut waits = false;
        for stop in &mut *stops {
            if let Stop::Seated(seat) = stop {
                match seat.poll(task) {
                    Poll::Ready(ended) => *stop = Stop::Landed(ended.answer()),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    });
    match deadline {
        None => all.await,
        Some(deadline) => {
            select(all, pin!(time::sleep_until(deadline))).await;
        }
    }
}

/// What a successor of one key's flight runs.
fn single<K, V, E>(load: &LoadMany<K, V, E>, key: K) -> Loader<V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + 'static,
    E: Send + Sync + 'static,
{
    let load = Arc::clone(load);
    let load = move |cx| -> Loading<V, E> {
        let (load, key) = (Arc::clone(&load), key.clone());
        Box::pin(async move { take(&mut by_key(load(vec![key.clone()], cx).await), &key) })
    };
    Loader::of(Arc::new(load), lineage::ancestors())
}
