//! The article's single flight as it stands: a map of calls, one spawned task for each.
//!
//! A baseline, written for these examples: the idea and its faults are the article's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

/// A caller's context: its owner cancels it, everybody who was handed a clone notices.
#[derive(Clone)]
pub(crate) struct Context(watch::Receiver<bool>);

/// The owner's end of a [`Context`]. Dropping it cancels nothing.
pub(crate) struct Cancel(watch::Sender<bool>);

/// Why a call of the baseline failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Some context was cancelled: not necessarily the one of the caller who reads this.
    Cancelled,
    /// The query failed.
    Query(String),
}

/// The calls in flight, by key.
pub(crate) struct PlainFlights<V> {
    calls: Calls<V>,
}

/// A cache with `get` and `set` and no idea of when a value was read.
#[derive(Default)]
pub(crate) struct PlainCache(Mutex<HashMap<i64, i64>>);

type Calls<V> = Arc<Mutex<HashMap<i64, Call<V>>>>;
type Call<V> = watch::Receiver<Option<Result<V, Fault>>>;

impl Context {
    pub(crate) fn new() -> (Cancel, Self) {
        let (owner, context) = watch::channel(false);
        (Cancel(owner), Self(context))
    }

    /// Returns when the owner cancels; pending for ever if it never does.
    pub(crate) async fn cancelled(mut self) {
        if self.0.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl<V: Clone + Send + Sync + 'static> PlainFlights<V> {
    /// Joins the call of `key`, or starts one with the context of this caller, as the article does.
    pub(crate) async fn run<F, Fut>(
        &self,
        context: Context,
        key: i64,
        action: F,
    ) -> Result<V, Fault>
    where
        F: FnOnce(Context) -> Fut,
        Fut: Future<Output = Result<V, Fault>> + Send + 'static,
    {
        let call = self.join_or_start(&context, key, action);
        wait(context, call).await
    }

    fn join_or_start<F, Fut>(&self, context: &Context, key: i64, action: F) -> Call<V>
    where
        F: FnOnce(Context) -> Fut,
        Fut: Future<Output = Result<V, Fault>> + Send + 'static,
    {
        let mut calls = lock(&self.calls);
        if let Some(call) = calls.get(&key) {
            return call.clone();
        }
        let (done, call) = watch::channel(None);
        calls.insert(key, call.clone());
        let (calls, load) = (Arc::clone(&self.calls), action(context.clone()));
        go(async move {
            done.send_replace(Some(load.await));
            // Between "done" and "deleted" the Go scheduler may run anybody, and under load it
            // does. Tokio yields only where the code says so: here.
            tokio::task::yield_now().await;
            lock(&calls).remove(&key);
        });
        call
    }
}

impl PlainCache {
    pub(crate) fn get(&self, key: i64) -> Option<i64> {
        lock(&self.0).get(&key).copied()
    }

    pub(crate) fn set(&self, key: i64, value: i64) {
        lock(&self.0).insert(key, value);
    }

    pub(crate) fn remove(&self, key: i64) {
        lock(&self.0).remove(&key);
    }
}

impl<V> Default for PlainFlights<V> {
    fn default() -> Self {
        Self { calls: Arc::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("context canceled"),
            Self::Query(message) => f.write_str(message),
        }
    }
}

async fn wait<V: Clone>(context: Context, mut call: Call<V>) -> Result<V, Fault> {
    tokio::select! {
        () = context.cancelled() => Err(Fault::Cancelled),
        outcome = call.wait_for(Option::is_some) => match outcome.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Fault::Query("the call's task is gone".into())),
        },
    }
}

/// Go's `go`: a task that nobody owns, waits for or can end.
#[expect(clippy::disallowed_methods, reason = "a task without an owner is what the baseline has")]
fn go(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
