//! What a cache's handles and tasks share, and two of those tasks: one keeps the connection and
//! pays what is owed, one gives leases back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use sortie::{Position, Tag};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::link::Away;
use crate::local::Outdated;
use crate::names::{BUCKETS, Place};
use crate::owed::{Debt, Owed, Turn, What};
use crate::steps::{Steps, Token};
use crate::waits::Waits;

/// Leases to be given back. Beyond it they end by themselves.
const RELEASES_MAX: usize = 1_024;

pub(crate) struct Shared {
    pub(crate) steps: Steps,
    pub(crate) owed: Owed,
    pub(crate) waits: Waits,
    pub(crate) outdated: Outdated,
    pub(crate) counts: Counts,
    pub(crate) own: Own,
    releases: Sender<(Place, Token)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) local_hits: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) away: AtomicU64,
}

/// The leases of this process, those that are being asked for among them, and since when: as many
/// as its callers hold.
#[derive(Default)]
pub(crate) struct Own(Mutex<HashMap<Token, Instant>>);

impl Own {
    pub(crate) fn add(&self, token: Token, began: Instant) {
        self.0.lock().insert(token, began);
    }

    pub(crate) fn began(&self, token: &Token) -> Option<Instant> {
        self.0.lock().get(token).copied()
    }

    pub(crate) fn remove(&self, token: &Token) {
        self.0.lock().remove(token);
    }
}

impl Shared {
    pub(crate) fn new(steps: Steps) -> (Arc<Self>, Receiver<(Place, Token)>) {
        let (releases, to_release) = mpsc::channel(RELEASES_MAX);
        let settings = &steps.settings;
        let (owed, outdated) = (Owed::new(settings.owed_max), Outdated::new(settings.local_bound));
        let (waits, counts, own) = (Waits::default(), Counts::default(), Own::default());
        (Arc::new(Self { steps, owed, waits, outdated, counts, own, releases }), to_release)
    }

    pub(crate) fn release(&self, place: Place, token: Token) {
        // Full, or the cache is gone: the lease ends by itself.
        self.releases.try_send((place, token)).ok();
    }

    pub(crate) fn owe(&self, place: &Place, position: Option<&Position>) {
        self.owed.key(place, position);
        self.steps.link.call.notify_one();
    }

    pub(crate) fn owe_everything(&self, position: Option<&Position>) {
        self.owed.everything(position);
        self.steps.link.call.notify_one();
    }

    pub(crate) async fn sweep(
        &self,
        tag: Option<Tag>,
        position: Option<&Position>,
    ) -> Result<(), Away> {
        // The first one alone: it brings the script there, and finds out whether anybody is.
        self.steps.sweep(0, tag, position).await?;
        let rest = (1..BUCKETS).map(|bucket| self.steps.sweep(bucket, tag, position));
        try_join_all(rest).await.map(drop)
    }

    /// Pays what is owed, from `after` on. What is refused lets the others past, and when the
    /// connection is lost it goes on there later. Says how many were paid and how many were not.
    async fn pay_all(&self, after: &mut Option<Turn>) -> (u64, u64) {
        let (mut paid, mut refused) = (0, 0);
        while let Some(debt) = self.owed.next(*after) {
            *after = Some(debt.turn());
            if self.pay(&debt).await.is_ok() {
                self.owed.paid(&debt);
                paid += 1;
                continue;
            }
            refused += 1;
            if !self.steps.link.is_there() {
                return (paid, refused);
            }
        }
        *after = None;
        (paid, refused)
    }

    async fn pay(&self, debt: &Debt) -> Result<(), Away> {
        match &debt.what {
            What::Key(place) => self.steps.invalidate(place, debt.position.as_ref()).await,
            What::Everything => self.sweep(None, debt.position.as_ref()).await,
        }
    }
}

/// Connects, pays what is owed, and waits until it is called again.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let (mut pause, mut after) = (Pause::default(), None);
    loop {
        if !shared.steps.link.connect().await {
            pause.pass().await;
            continue;
        }
        let (paid, refused) = shared.pay_all(&mut after).await;
        if paid > 0 {
            info!(paid, "delivered the invalidations that were owed");
        }
        if refused > 0 {
            warn!(owed = shared.owed.len(), "invalidations can't be delivered yet");
            pause.pass().await;
        } else if shared.owed.len() == 0 && shared.steps.link.is_there() {
            pause = Pause::default();
            shared.steps.link.call.notified().await;
        }
    }
}

/// Gives back what was dropped.
pub(crate) async fn release(shared: Arc<Shared>, mut dropped: Receiver<(Place, Token)>) {
    while let Some((place, token)) = dropped.recv().await {
        // Away: it ends by itself.
        shared.steps.release(&place, &token).await.ok();
    }
}

/// Between attempts: longer each time, and at random, so that processes don't come all at once.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Pause {
    const MAX: Duration = Duration::from_millis(500);

    pub(crate) async fn pass(&mut self) {
        sleep(self.0.mul_f64(0.5 + fastrand::f64())).await;
        self.0 = (self.0 * 2).min(Self::MAX);
    }
}
