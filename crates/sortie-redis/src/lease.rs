//! The right to fill one key, as one process holds it, and the wait of the others.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::local::Stamp;
use crate::names::Place;
use crate::shared::Shared;
use crate::steps::Token;

/// The right to fill one key of a [`RedisCache`](crate::RedisCache), in all processes.
///
/// While it is held a task of its own renews it, and its drop releases it; a process that dies
/// holds it no longer than it was last renewed for. When Redis is away it stores nothing.
pub struct RedisLease<K> {
    pub(crate) key: K,
    pub(crate) leased: Box<Leased>,
}

pub(crate) struct Leased {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    /// As it was before Redis was asked.
    pub(crate) stamp: Stamp,
    pub(crate) began: Instant,
    /// None, or taken, when there is nothing to release.
    pub(crate) token: Option<Token>,
    /// The same for as long as this lives.
    own: Option<Token>,
    /// Ends with the lease.
    renewal: JoinSet<()>,
}

/// Ends when somebody else's lease on a key of a [`RedisCache`](crate::RedisCache) does.
pub struct RedisWait {
    pub(crate) since: Instant,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<K> RedisLease<K> {
    /// The key that it is for.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl Leased {
    pub(crate) fn new(shared: Arc<Shared>, place: Place, token: Option<Token>) -> Self {
        let (stamp, began) = (shared.outdated.of(&place), Instant::now());
        let own = token.clone();
        if let Some(own) = &own {
            shared.own.add(own.clone(), began);
        }
        Self { shared, place, stamp, began, token, own, renewal: JoinSet::new() }
    }

    /// From here on it is kept alive.
    pub(crate) fn hold<K>(mut self, key: K) -> RedisLease<K> {
        if let Some(token) = self.token.clone() {
            self.renewal.spawn(renew(Arc::clone(&self.shared), self.place.clone(), token));
        }
        RedisLease { key, leased: Box::new(self) }
    }
}

/// A holder that hangs keeps others away for `lease_max` and no longer.
async fn renew(shared: Arc<Shared>, place: Place, token: Token) {
    let settings = &shared.steps.settings;
    let (began, pause) = (Instant::now(), settings.lease / 3);
    while began.elapsed() + pause < settings.lease_max {
        sleep(pause).await;
        // Away is not lost: it may be back before the lease ends.
        if let Ok(false) = shared.steps.renew(&place, &token).await {
            return;
        }
    }
}

impl RedisWait {
    pub(crate) fn new(shared: Arc<Shared>, place: Place, token: Token, swept: bool) -> Self {
        // Of another process's nothing else is known; and a load from before a sweep may be
        // outdated, whoever's it is.
        let own = if swept { None } else { shared.own.began(&token) };
        let since = own.unwrap_or_else(Instant::now);
        Self { since, ended: Box::pin(async move { wait(&shared, &place, &token).await }) }
    }
}

/// Told by a notice; and it looks itself now and then, for notices may get lost.
async fn wait(shared: &Shared, place: &Place, token: &Token) {
    let seat = shared.waits.seat(&place.key);
    loop {
        let told = seat.notify().notified();
        // Once with a place, so that what was told before that is not missed.
        if !matches!(shared.steps.peek(place, token).await, Ok(true)) {
            return;
        }
        select! {
            () = told => return,
            () = sleep(Duration::from_millis(fastrand::u64(50..150))) => {}
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            self.shared.own.remove(own);
        }
        if let Some(token) = self.token.take() {
            self.shared.release(self.place.clone(), token);
        }
    }
}

impl Future for RedisWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
    }
}

impl<K> fmt::Debug for RedisLease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLease").field("token", &self.leased.token).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisWait")
    }
}
