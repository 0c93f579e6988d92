//! The endpoint, as the admin database shows and steers it.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::reload::Reload;
use crate::budget::BudgetStats;
use crate::config::Config;
use crate::console::Subject;
use crate::judge::SharedLane;
use crate::read::{AttemptStats, FlightSeen};
use crate::relay::{Cluster, Relay};

/// What runs.
pub(super) struct Endpoint {
    relay: Relay<SharedLane>,
    reload: Reload,
    stop: mpsc::Sender<()>,
}

impl Endpoint {
    pub(super) fn new(relay: Relay<SharedLane>, reload: Reload, stop: mpsc::Sender<()>) -> Self {
        Self { relay, reload, stop }
    }
}

impl Subject for Endpoint {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.relay.world().config)
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.relay.world().clusters.clone()
    }

    fn flights(&self, most: usize) -> Vec<(String, FlightSeen, Vec<String>)> {
        self.relay.world().lane.seen(most)
    }

    fn replicas(&self) -> Vec<(String, usize, String, AttemptStats)> {
        self.relay.world().lane.replicas()
    }

    fn budget(&self) -> BudgetStats {
        self.relay.budget().read()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        let reload = self.reload.clone();
        Box::pin(async move { reload.ask().await })
    }

    fn stop(&self, now: bool) {
        // One for the accepting, one for the waiting. If they are there already, so is the end.
        for _ in 0..if now { 2 } else { 1 } {
            self.stop.try_send(()).ok();
        }
    }
}
