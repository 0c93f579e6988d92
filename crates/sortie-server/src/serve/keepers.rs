//! What goes on beside the sessions for as long as a configuration is in force: looking at the
//! databases, watching the servers.
//!
//! What is the same in the next configuration goes on undisturbed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use crate::judge::SharedLane;
use crate::relay::World;

/// The tasks, by what they are about.
#[derive(Debug, Default)]
pub(super) struct Keepers {
    tasks: JoinSet<Infallible>,
    kept: HashMap<usize, AbortHandle>,
}

impl Keepers {
    /// Looks at the databases of this lane, too.
    pub(super) fn look(&mut self, lane: &SharedLane) {
        for (number, keeper) in lane.keepers() {
            self.begin(number, keeper);
        }
    }

    /// Does what belongs to this world, and nothing else.
    pub(super) fn keep(&mut self, world: &World<SharedLane>) {
        self.look(&world.lane);
        let mut wanted: Vec<usize> = world.lane.keepers().map(|(number, _)| number).collect();
        for cluster in &world.clusters {
            let cluster = Arc::clone(cluster);
            let number = Arc::as_ptr(&cluster).addr();
            self.begin(number, async move { cluster.keep_watched().await });
            wanted.push(number);
        }
        self.kept.retain(|number, task| {
            let is_wanted = wanted.contains(number);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
    }

    /// Waits; a panic of one of the tasks is this one's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn watch(&mut self) -> Infallible {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(never)) => match never {},
                Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
                Some(Err(_aborted)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// What a task is about lives as long as the task: no other has its number meanwhile.
    fn begin(&mut self, number: usize, keeper: impl Future<Output = Infallible> + Send + 'static) {
        self.kept.entry(number).or_insert_with(|| self.tasks.spawn(keeper));
    }
}
