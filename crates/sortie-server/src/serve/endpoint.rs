//! The endpoint, as the admin database shows and steers it.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::console::Subject;
use crate::judge::SharedLane;
use crate::read::{AttemptStats, FlightSeen};
use crate::relay::Cluster;

/// What runs.
pub(super) struct Endpoint {
    config: Arc<Config>,
    clusters: Vec<Arc<Cluster>>,
    lane: SharedLane,
    stop: mpsc::Sender<()>,
}

impl Endpoint {
    pub(super) fn new(
        config: &Config,
        clusters: Vec<Arc<Cluster>>,
        lane: SharedLane,
        stop: mpsc::Sender<()>,
    ) -> Self {
        Self { config: Arc::new(config.clone()), clusters, lane, stop }
    }
}

impl Subject for Endpoint {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.clusters.clone()
    }

    fn flights(&self, most: usize) -> Vec<(String, FlightSeen, Vec<String>)> {
        self.lane.seen(most)
    }

    fn replicas(&self) -> Vec<(String, usize, String, AttemptStats)> {
        self.lane.replicas()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        let why = "nothing has changed: the configuration is read at the start only";
        Box::pin(async move { Err(why.to_owned()) })
    }

    fn stop(&self, now: bool) {
        // One for the accepting, one for the waiting. If they are there already, so is the end.
        for _ in 0..if now { 2 } else { 1 } {
            self.stop.try_send(()).ok();
        }
    }
}
