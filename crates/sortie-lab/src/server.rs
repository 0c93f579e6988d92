//! One PostgreSQL server: started, stopped, killed, paused, promoted.

mod process;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::signal;
use crate::site::Site;

/// Recovery after a crash on a busy machine included.
const READY_MAX: Duration = Duration::from_secs(60);
/// After a fast shutdown was asked for; then it is ended at once.
const STOP_MAX: Duration = Duration::from_secs(15);
/// For what a server that runs does on request.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where nobody has tables: a question to a standby there does not conflict with what it replays,
/// which is told apart by databases.
const BARE: &str = "template1";

/// One PostgreSQL server of a lab.
#[derive(Debug)]
pub struct Server {
    name: String,
    folder: PathBuf,
    port: AtomicU16,
    /// Settings of the command line.
    fixed: Vec<(String, String)>,
    /// Settings of its own file, which it reads again on request.
    settings: Mutex<BTreeMap<String, String>>,
    /// The postmaster, from its start until it was waited for.
    postmaster: Mutex<Option<Child>>,
    site: Arc<Site>,
}

impl Server {
    pub(crate) fn new(site: &Arc<Site>, name: String, fixed: Vec<(String, String)>) -> Self {
        let folder = site.home().join(name.replace(' ', "-"));
        let (port, settings, postmaster) = Default::default();
        Self { name, folder, port, fixed, settings, postmaster, site: Arc::clone(site) }
    }

    /// Returns its name, e.g. `shard 0 standby 1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)))
    }

    /// Returns the folder of its Unix socket; `None` when its path would be too long.
    pub fn socket_folder(&self) -> Option<PathBuf> {
        self.site.has_sockets().then(|| self.site.sockets())
    }

    /// Returns the folder of its files: `data`, and `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns what it logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the postmaster's process; `None` when it does not run.
    pub fn process(&self) -> Option<u32> {
        let mut postmaster = self.postmaster();
        self.reap(&mut postmaster);
        postmaster.as_ref().map(Child::id)
    }

    /// Runs a script as the superuser `postgres`, stops at its first error, and returns the rows,
    /// columns separated by `|`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's own words.
    pub fn script(&self, database: &str, sql: &str) -> Result<String, Error> {
        let address = self.address();
        let mut psql = self.site.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        psql.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        psql.args(["-d", database, "-f", "-"]);
        self.site.run(&format!("{}: psql", self.name), psql, sql)
    }

    /// Starts it and waits until it takes statements; a server that runs is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the end of its log, when it ended; [`Error::Late`].
    pub fn start(&self) -> Result<(), Error> {
        let mut postmaster = self.postmaster();
        self.reap(&mut postmaster);
        if postmaster.is_some() {
            return Ok(());
        }
        let what = || format!("{}: start", self.name);
        self.write_settings()?;
        let child = self.spawn()?;
        let id = child.id();
        *postmaster = Some(child);
        let ready = clock::until(READY_MAX, || {
            self.site.check_cancel()?;
            self.reap(&mut postmaster);
            Ok(postmaster.is_none().then_some(false).or(self.says_ready(id).then_some(true)))
        });
        match ready? {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Failed { what: what(), output: self.log_end() }),
            None => Err(Error::Late { what: what(), limit: READY_MAX, output: self.log_end() }),
        }
    }

    /// Stops it the fast way: clients are cut off, files are in order. A server that does not end
    /// by itself is ended.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it can't be waited for.
    pub fn stop(&self) -> Result<(), Error> {
        self.end("INT", STOP_MAX)
    }

    /// Ends it as a crash would: every process of it, at once.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it can't be waited for.
    pub fn kill(&self) -> Result<(), Error> {
        self.end("KILL", Duration::ZERO)
    }

    /// Stops and starts it.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.start()
    }

    /// Halts every process of it where it stands: connections stay open and nothing answers.
    pub fn pause(&self) {
        let Some(id) = self.process() else { return };
        // The parent first: then there are no new children.
        signal::send("STOP", &[id]);
        signal::send("STOP", &signal::children(id));
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        let Some(id) = self.process() else { return };
        signal::send("CONT", &signal::children(id));
        signal::send("CONT", &[id]);
    }

    /// Stops a standby from replaying what it receives, until
    /// [`resume_replay`](Self::resume_replay).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], e.g. when it is no standby.
    pub fn pause_replay(&self) -> Result<(), Error> {
        // What is asked for comes about between two records.
        self.script(BARE, "SELECT pg_wal_replay_pause()")?;
        self.until_true(BARE, "pg_get_wal_replay_pause_state() = 'paused'")
    }

    /// Lets a standby replay again.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], e.g. when it is no standby.
    pub fn resume_replay(&self) -> Result<(), Error> {
        self.script(BARE, "SELECT pg_wal_replay_resume()").map(drop)
    }

    /// Makes a standby a primary, on a new timeline. It takes writes when this returns, and waits
    /// for no standby of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], e.g. when it is no standby.
    pub fn promote(&self) -> Result<(), Error> {
        self.script("postgres", "SELECT pg_promote(true, 60)")?;
        self.until_true("postgres", "NOT pg_is_in_recovery()")
    }

    /// Changes settings of a running server and waits until it has read them. (What only a start
    /// can change holds from the next start on.)
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it does not answer, [`Error::Late`] when it does not reload.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let mut own = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        own.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        drop(own);
        self.write_settings()?;
        self.reload()
    }

    /// Replaces who may log in and how: the lines of `pg_hba.conf`.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn set_hba(&self, lines: &str) -> Result<(), Error> {
        let path = self.data().join("pg_hba.conf");
        let what = format!("can't write {}", path.display());
        fs::write(path, format!("{lines}\n")).map_err(Error::system(what))?;
        self.reload()
    }
}
