//! The life of a server's processes.

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Server;
use crate::clock;
use crate::error::Error;
use crate::ports::free_port;
use crate::signal;

/// After it was told to end without ceremony.
const END_MAX: Duration = Duration::from_secs(10);
/// Somebody else may take a port between the look and the start.
const PORTS_MAX: u32 = 5;
/// What is shown of a log.
const LOG_END_MAX: usize = 2_000;

impl Server {
    /// Starts it for the first time, on a port that nobody has.
    pub(crate) fn start_somewhere(&self) -> Result<(), Error> {
        let mut tried = 0;
        loop {
            let none = || Error::Config("no free port from 20000 to 32000".into());
            self.port.store(free_port().ok_or_else(none)?, std::sync::atomic::Ordering::Relaxed);
            tried += 1;
            match self.start() {
                Err(Error::Failed { output, .. })
                    if tried < PORTS_MAX && output.contains("Address already in use") => {}
                ended => return ended,
            }
        }
    }

    pub(super) fn spawn(&self) -> Result<Child, Error> {
        let path = self.folder.join("log");
        let what = format!("can't write {}", path.display());
        let log = File::options().append(true).create(true).open(path);
        let both = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = both.map_err(Error::system(what))?;
        let mut command = self.site.command("postgres");
        command.arg("-D").arg(self.data());
        for (name, value) in &self.fixed {
            command.args(["-c", &format!("{name}={value}")]);
        }
        command.args(["-c", &format!("port={}", self.address().port())]);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.map_err(Error::system(format!("can't start {command:?}")))?;
        self.site.keeper.began(child.id());
        Ok(child)
    }

    pub(super) fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a postmaster that ended.
    pub(super) fn reap(&self, postmaster: &mut Option<Child>) {
        if let Some(child) = postmaster
            && !matches!(child.try_wait(), Ok(None))
        {
            self.site.keeper.ended(child.id());
            *postmaster = None;
        }
    }

    /// Its lock file says who it is and how far it has come.
    pub(super) fn says_ready(&self, id: u32) -> bool {
        let lock = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = lock.lines().map(str::trim);
        lines.next() == Some(id.to_string().as_str()) && lines.nth(6) == Some("ready")
    }

    pub(super) fn log_end(&self) -> String {
        let log = self.log();
        let from = log.len().saturating_sub(LOG_END_MAX);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
        log[from..].to_owned()
    }

    /// Tells it to end at once, without waiting for that.
    pub(crate) fn tell_to_end(&self) {
        let Some(id) = self.process() else { return };
        self.resume();
        signal::send("QUIT", &[id]);
    }

    /// Sends a signal, gives it `limit` to end, then ends it.
    pub(super) fn end(&self, name: &str, limit: Duration) -> Result<(), Error> {
        self.resume();
        let mut postmaster = self.postmaster();
        self.reap(&mut postmaster);
        let Some(id) = postmaster.as_ref().map(Child::id) else { return Ok(()) };
        let mut signals = [(name, limit), ("QUIT", END_MAX), ("KILL", END_MAX)].into_iter();
        let mut next = signals.next();
        while let Some((name, limit)) = next
            && postmaster.is_some()
        {
            let children = if name == "KILL" { signal::children(id) } else { Vec::new() };
            signal::send(name, &[id]);
            signal::send(name, &children);
            clock::until(limit, || {
                self.reap(&mut postmaster);
                let gone = postmaster.is_none() && !children.iter().any(|id| signal::runs(*id));
                Ok::<_, Error>(gone.then_some(()))
            })?;
            next = signals.next();
        }
        if postmaster.is_none() {
            return Ok(());
        }
        let output = self.log_end();
        Err(Error::Late { what: format!("{}: end", self.name), limit: END_MAX, output })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that can't be ended is left to the keeper.
        self.end("QUIT", END_MAX).ok();
    }
}
