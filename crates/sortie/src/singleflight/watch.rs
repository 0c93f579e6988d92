//! Who takes loads from their leaders that have rested with them for long.
//!
//! A leader that is parked would keep what its load holds, a connection say, from those who need
//! it, and a load that is with its leader has no timer of its own for its soft age and its end. So
//! every load that is not done soon gets a task, which sees to all of that. One *watcher* does this
//! for all loads of a registry that rest with leaders of one runtime: no timer is set for a load
//! that ends before.
//!
//! # Invariants
//!
//! 1. A runtime that is noted in a shard (`watched`) has a watcher that will look there. It takes
//!    the note away only under the shard's lock, when nothing of that runtime rests there.
//! 2. A watcher looks after loads of its own runtime only: where nobody drives that one, the loads
//!    in it would not run either, and the loads of others are not kept waiting.
//! 3. It ends when nothing rests. When its runtime is shut down before, all that rests there is
//!    handed over and so is lost with it: those who wait elsewhere are told.

use std::hash::Hash;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::sync::Mutex;
use crate::rt::task::{Handle, RuntimeId};
use crate::rt::time::{self, Instant, Sleep};
use crate::singleflight::config::Config;
use crate::singleflight::table::{Desks, Table};

/// How long a load rests with its leader. Next to it a task and its timers cost nothing.
const PATIENCE: Duration = Duration::from_millis(5);

/// The watchers of a registry, at most one for each runtime.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<Watch>>);

struct Watch {
    runtime: RuntimeId,
    /// Something was laid down where it may have looked already.
    again: bool,
}

/// The task of one of them.
struct Watcher<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    table: Arc<Table<K, V, E>>,
    runtime: RuntimeId,
    patience: Duration,
    /// When it looked last, or began to watch.
    looked: Instant,
    over: bool,
}

impl Config {
    /// A load has its task before its soft age: that is its task's to see to.
    fn patience(&self) -> Duration {
        let floor = self.soft_factor.map_or(PATIENCE, |(_, floor)| floor);
        PATIENCE.min(floor).min(self.soft_age).min(self.flight_max)
    }
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// A load rests in a shard where its runtime was not noted. It began then, if that is known.
    pub(super) fn watch(self: &Arc<Self>, handle: &Handle, began: Option<Instant>) {
        let runtime = handle.id();
        let mut all = self.watches.0.lock();
        if let Some(watch) = all.iter_mut().find(|watch| watch.runtime == runtime) {
            watch.again = true;
            return;
        }
        all.push(Watch { runtime, again: false });
        drop(all);
        let (table, patience) = (Arc::clone(self), self.config.patience());
        let looked = Instant::now();
        let watcher = Watcher { table, runtime, patience, looked, over: false };
        let first = began.map_or(looked + patience / 2, |began| began + patience);
        // Made here, so that whoever has no timer is told by a panic.
        let alarm = Box::pin(time::sleep_until(first));
        // It ends by itself when nothing rests, or with its runtime.
        handle.spawn(watcher.run(alarm));
    }
}

impl<K, V, E> Watcher<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    async fn run(mut self, mut alarm: Pin<Box<Sleep>>) {
        loop {
            alarm.as_mut().await;
            let Some(next) = self.look() else { break };
            alarm.as_mut().reset(next);
        }
        self.over = true;
    }

    /// Takes the loads that have rested for long, and says when to look again.
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        // When loads were laid down that have no begin, unless nobody drove this one for a while.
        let lately = now.checked_sub(self.patience).map_or(self.looked, |it| it.max(self.looked));
        let late = |began| began + self.patience <= now;
        let next = self.take(lately, late).map(|first| first + self.patience);
        self.looked = now;
        let mut all = self.table.watches.0.lock();
        let at = all.iter().position(|watch| watch.runtime == self.runtime)?;
        let again = mem::take(&mut all[at].again).then(|| now + self.patience / 2);
        let next = [next, again].into_iter().flatten().min();
        if next.is_none() {
            all.swap_remove(at);
        }
        next
    }

    /// Takes those of its loads that began at such a moment, and says when the first of the others
    /// did. What has no begin began `lately`.
    fn take(&self, lately: Instant, is_late: impl Fn(Instant) -> bool) -> Option<Instant> {
        let mut first = None;
        for shard in self.table.shards() {
            let mut late = Vec::new();
            let mut desks = shard.lock();
            let Desks { entries, watched, .. } = &mut *desks;
            let Some(at) = watched.iter().position(|it| *it == self.runtime) else { continue };
            let mut rest = None;
            for entry in entries.iter_mut() {
                entry.age_from(lately);
                if let Some((id, Some(began), leader)) = entry.resting()
                    && leader.handle.id() == self.runtime
                {
                    if is_late(began) {
                        late.push((entry.hash, id));
                    } else {
                        rest = [rest, Some(began)].into_iter().flatten().min();
                    }
                }
            }
            if rest.is_none() {
                watched.swap_remove(at);
            }
            drop(desks);
            for (hash, id) in late {
                self.table.part(hash, id);
            }
            first = [first, rest].into_iter().flatten().min();
        }
        first
    }
}

impl<K, V, E> Drop for Watcher<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.over {
            self.table.watches.0.lock().retain(|watch| watch.runtime != self.runtime);
            self.take(self.looked, |_began| true);
        }
    }
}
