//! Spares asking again and again for what hardly ever comes.
//!
//! A future that was polled, and is pending, wakes the task when it has something to say. Who is
//! woken for another reason, thousands of times a second, sees at a glance that it has not.
//!
//! # Invariants
//!
//! 1. While it is quiet both futures, that of the cancel and that of the drain, are pending and
//!    have this task's waker.
//! 2. Whatever makes one of them ready is seen here before it wakes the task.

use std::task::{Context, Waker};

use tokio::sync::watch;
use tokio::task::coop;

use crate::session::keys::Key;

/// Whether neither a cancel nor the endpoint's end can have come since they were polled.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Who is woken, and how many cancels had been asked for.
    since: Option<(Waker, u64)>,
    drain: watch::Receiver<bool>,
}

impl Quiet {
    pub(super) fn new(drain: watch::Receiver<bool>) -> Self {
        Self { since: None, drain }
    }

    /// Both were polled, and are pending; so many cancels had been asked for.
    pub(super) fn begin(&mut self, asked: u64, cx: &Context<'_>) {
        // Without it a poll only says that there will be another one.
        let were_polled = coop::has_budget_remaining();
        self.since = were_polled.then(|| (cx.waker().clone(), asked));
    }

    /// One of them must be polled.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// Whether it is still so, for this task.
    pub(super) fn holds(&self, key: &Key, cx: &Context<'_>) -> bool {
        self.since
            .as_ref()
            .is_some_and(|(waker, asked)| *asked == key.asked() && waker.will_wake(cx.waker()))
            && matches!(self.drain.has_changed(), Ok(false))
    }
}
