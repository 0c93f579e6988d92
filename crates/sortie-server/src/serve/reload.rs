//! The configuration is read again while sessions go on: on SIGHUP, or when an administrator asks.
//!
//! # Invariants
//!
//! 1. Everything is read and checked, as at the start, before anything changes: what is wrong
//!    changes nothing.
//! 2. One reload at a time, and however it was asked for, it does and says the same.
//! 3. No session is ended but those whose cluster, role or shard is gone; nothing that is under way
//!    is disturbed.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::keepers::Keepers;
use super::{Error, worlds};
use crate::config::{Config, Difference};
use crate::judge::SharedLane;
use crate::listener::Room;
use crate::logins::Logins;
use crate::relay::{Relay, World};
use crate::supervisor::Supervisor;

/// How long clusters' databases are waited for until they have been looked at.
pub(super) const LOOKED_MAX: Duration = Duration::from_secs(3);

/// Who may ask at a time; one more waits until there is room.
const ASKING_MAX: usize = 16;

/// What was done, or why nothing was.
type Outcome = Result<String, String>;

/// Asks for a reload. Clones ask the same.
#[derive(Clone, Debug)]
pub(crate) struct Reload(mpsc::Sender<oneshot::Sender<Outcome>>);

/// Those who ask.
pub(super) type Asking = mpsc::Receiver<oneshot::Sender<Outcome>>;

/// How reloads ended.
#[derive(Debug)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    unchanged: AtomicU64,
    refused: AtomicU64,
    last_refused: AtomicBool,
    /// In seconds since 1970.
    read_at: AtomicU64,
}

/// How reloads ended, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReloadStats {
    /// How often, by outcome.
    pub(crate) outcomes: [(&'static str, u64); 3],
    /// Whether what was read last is in force.
    pub(crate) is_in_force: bool,
    /// When what is in force was last read, in seconds since 1970.
    pub(crate) read_at: u64,
}

/// Reads the configuration.
pub(super) type Read<'a> = &'a dyn Fn() -> Result<Config, Error>;

/// What a reload changes.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) relay: Relay<SharedLane>,
    pub(super) keepers: Keepers,
    pub(super) room: Room,
    pub(super) logins: Logins,
    pub(super) reloads: Arc<Reloads>,
    pub(super) supervisor: Supervisor,
}

impl Reload {
    /// The way to ask, and where it is heard.
    pub(super) fn new() -> (Self, Asking) {
        let (asks, asking) = mpsc::channel(ASKING_MAX);
        (Self(asks), asking)
    }

    /// Has the configuration read again. Returns what has changed.
    ///
    /// # Errors
    ///
    /// Why it can't be used, with the file, the line and what mends it; nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the reload to its end, if it has begun.
    pub(crate) async fn ask(&self) -> Outcome {
        let (tell, told) = oneshot::channel();
        let ended = || "nothing has changed: the endpoint ends".to_owned();
        self.0.send(tell).await.map_err(|_ended| ended())?;
        told.await.map_err(|_ended| ended())?
    }
}

impl Reloads {
    /// None since the configuration was read at the start, just now.
    pub(super) fn none() -> Self {
        Self {
            applied: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_refused: AtomicBool::new(false),
            read_at: AtomicU64::new(now()),
        }
    }

    /// Reads how they ended.
    pub(crate) fn read(&self) -> ReloadStats {
        let outcomes = [
            ("applied", &self.applied),
            ("unchanged", &self.unchanged),
            ("refused", &self.refused),
        ]
        .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)));
        let is_in_force = !self.last_refused.load(Ordering::Relaxed);
        ReloadStats { outcomes, is_in_force, read_at: self.read_at.load(Ordering::Relaxed) }
    }

    fn ended(&self, outcome: &AtomicU64, is_good: bool) {
        outcome.fetch_add(1, Ordering::Relaxed);
        self.last_refused.store(!is_good, Ordering::Relaxed);
        if is_good {
            self.read_at.store(now(), Ordering::Relaxed);
        }
    }
}

/// By the clock of the wall, as it is compared with others'.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Running {
    /// Reloads whenever it is asked for, and looks after the keepers.
    pub(super) async fn keep(
        mut self,
        read: Option<Read<'_>>,
        (mut hangup, mut asking): (Option<Signal>, Asking),
    ) -> Infallible {
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => pending().await,
                }
            };
            let tell = tokio::select! {
                never = self.keepers.watch() => match never {},
                _hung_up = hung_up => None,
                Some(tell) = asking.recv() => Some(tell),
            };
            let outcome = match read {
                Some(read) => {
                    self.supervisor.reloading().await;
                    let outcome = self.reload(read).await;
                    let now = match &outcome {
                        Ok(changes) => format!("the configuration was read: {changes}"),
                        Err(why) => why.clone(),
                    };
                    self.supervisor.ready(&now).await;
                    outcome
                }
                None => Err("there is no configuration to read again".to_owned()),
            };
            if let Some(tell) = tell {
                // Whoever asked may have gone.
                tell.send(outcome).ok();
            }
        }
    }

    async fn reload(&mut self, read: Read<'_>) -> Outcome {
        let reloads = Arc::clone(&self.reloads);
        let config = read().map_err(|error| {
            reloads.ended(&reloads.refused, false);
            let why = format!("nothing has changed: {error}");
            tracing::error!(event = "reload", why, "the configuration can't be used");
            why
        })?;
        let difference = Difference::between(&self.config, &config);
        if difference.is_none() {
            reloads.ended(&reloads.unchanged, true);
            tracing::info!(event = "reload", "the configuration was read: it is the same");
            return Ok("the same as before".to_owned());
        }
        // What needs a restart stays different until then, and is said again.
        self.config = config.until_restart(&self.config);
        self.apply().await;
        reloads.ended(&reloads.applied, true);
        let changes = difference.to_string();
        tracing::info!(event = "reload", changes, "the configuration was read");
        Ok(changes)
    }

    async fn apply(&mut self) {
        let before = self.relay.world();
        let world: World<SharedLane> = worlds::world(&self.config, &self.logins, Some(&before));
        // Whatever is new is looked at before it is asked for: nothing is refused for that.
        self.keepers.look(&world.lane);
        tokio::select! {
            never = self.keepers.watch() => match never {},
            _looked = timeout(LOOKED_MAX, world.lane.looked()) => {}
        }
        world.lane.follow(&before.lane);
        self.room.change(world.limits.sessions_max);
        self.relay.change(world);
        let now = self.relay.world();
        worlds::settle(&before, &now);
        self.keepers.keep(&now);
    }
}
