//! The cluster as a whole.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::binaries::Binaries;
use crate::clock::{self, joined};
use crate::config::LabConfig;
use crate::error::Error;
use crate::server::Server;
use crate::shard::Shard;
use crate::site::Site;
use crate::step::Step;

/// A running cluster. Dropping it ends every server at once and removes the folder.
#[derive(Debug)]
pub struct Lab {
    /// Dropped before the site: its keeper then finds nothing to do.
    shards: Vec<Shard>,
    site: Arc<Site>,
}

impl Lab {
    /// Makes a cluster, all shards at the same time, and tells `progress` what is done.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing is left then.
    pub fn start(config: &LabConfig, progress: impl Fn(&Step) + Sync) -> Result<Self, Error> {
        let began = clock::now();
        let done = |what: String| progress(&Step { what, after: began.elapsed() });
        config.check()?;
        let binaries = Binaries::find(config.pg_bin.as_deref())?;
        let found = format!("PostgreSQL {} in {}", binaries.version(), binaries.folder().display());
        let site = Arc::new(Site::make(binaries, config.cancel.clone())?);
        done(format!("{found}; the cluster lives in {}", site.home().display()));
        let shards: Result<Vec<Shard>, Error> = thread::scope(|scope| {
            let done = &done;
            let makes: Vec<_> = (0..config.shards)
                .map(|number| (number, Arc::clone(&site)))
                .map(|(number, site)| scope.spawn(move || Shard::make(&site, config, number, done)))
                .collect();
            makes.into_iter().map(|make| joined(make)).collect()
        });
        let lab = Self { shards: shards?, site };
        lab.site.made();
        Ok(lab)
    }

    /// Returns the shards, in order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Returns every server, shard by shard, primaries first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.shards.iter().flat_map(Shard::servers)
    }

    /// Returns the programs it runs on.
    pub fn binaries(&self) -> &Binaries {
        &self.site.binaries
    }

    /// Returns the folder that holds everything.
    pub fn home(&self) -> &Path {
        self.site.home()
    }

    /// Stops every server in order, standbys first, so that no primary waits for one, and removes
    /// the folder.
    ///
    /// # Errors
    ///
    /// The first server's that did not end in order; all are ended then.
    pub fn stop(self) -> Result<(), Error> {
        let standbys = self.shards.iter().flat_map(Shard::standbys);
        let stopped = stop_all(standbys);
        stopped.and(stop_all(self.shards.iter().map(Shard::primary)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // All at once; each one's own drop then waits for its end.
        self.servers().for_each(Server::tell_to_end);
    }
}

fn stop_all<'s>(servers: impl Iterator<Item = &'s Server>) -> Result<(), Error> {
    thread::scope(|scope| {
        let stops: Vec<_> = servers.map(|server| scope.spawn(|| server.stop())).collect();
        let ends: Vec<_> = stops.into_iter().map(|stop| joined(stop)).collect();
        ends.into_iter().collect()
    })
}
