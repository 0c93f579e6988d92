//! What a server is told, by its own files and by other servers.

use std::fmt::Write;
use std::fs;
use std::sync::PoisonError;

use super::{ANSWER_MAX, Server};
use crate::clock;
use crate::error::Error;
use crate::signal;

/// What this crate sets, apart from the server's own configuration file.
const OWN_CONF: &str = "lab.conf";

impl Server {
    /// Makes an empty data directory.
    pub(crate) fn create(&self) -> Result<(), Error> {
        self.make_folder()?;
        let mut initdb = self.site.command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-instructions"]).arg(self.data());
        self.site.run(&format!("{}: initdb", self.name), initdb, "")?;
        let path = self.data().join("postgresql.conf");
        let conf = fs::read_to_string(&path)
            .map(|conf| format!("{conf}\ninclude_if_exists = '{OWN_CONF}'\n"))
            .and_then(|conf| fs::write(&path, conf));
        conf.map_err(Error::system(format!("can't extend {}", path.display())))
    }

    /// Makes its data directory a copy of a running server's, as its standby.
    pub(crate) fn copy_from(&self, primary: &Self) -> Result<(), Error> {
        self.make_folder()?;
        let mut copy = self.site.command("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--no-manifest"]);
        copy.args(["-h", "127.0.0.1", "-p", &primary.address().port().to_string()]);
        copy.args(["-U", "postgres", "-D"]).arg(self.data());
        self.site.run(&format!("{}: pg_basebackup", self.name), copy, "")?;
        self.write_file("standby.signal", "")?;
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.clear();
        settings.insert("primary_conninfo".into(), self.conninfo(primary));
        Ok(())
    }

    /// Makes a stopped server, whatever it was, a standby of a running one, from a fresh copy.
    /// Start it afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what `pg_basebackup` said.
    pub fn rebuild_from(&self, primary: &Self) -> Result<(), Error> {
        self.stop()?;
        let what = format!("can't remove {}", self.data().display());
        fs::remove_dir_all(self.data()).map_err(Error::system(what))?;
        self.copy_from(primary)
    }

    /// Makes a standby follow another primary, e.g. one that was promoted.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn follow(&self, primary: &Self) -> Result<(), Error> {
        let conninfo = self.conninfo(primary);
        self.set(&[("primary_conninfo", &conninfo)])
    }

    /// Makes a primary's commits wait until all of these standbys have replayed them; with none,
    /// until they are on its own disk.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); [`Error::Late`] when they don't all stream.
    pub fn require(&self, standbys: &[&Self]) -> Result<(), Error> {
        let names: Vec<String> =
            standbys.iter().map(|server| format!("\"{}\"", server.application_name())).collect();
        let count = names.len();
        let all =
            if count == 0 { String::new() } else { format!("ANY {count} ({})", names.join(", ")) };
        self.set(&[("synchronous_standby_names", &all)])?;
        self.until_true(
            "postgres",
            &format!(
                "(SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND \
             sync_state IN ('sync', 'quorum')) >= {count}"
            ),
        )
    }

    /// Under which name it announces itself to its primary: `standby_1`.
    fn application_name(&self) -> String {
        let (_, own) = self.name.split_once("standby ").unwrap_or(("", "0"));
        format!("standby_{own}")
    }

    fn conninfo(&self, primary: &Self) -> String {
        let (port, name) = (primary.address().port(), self.application_name());
        format!("host=127.0.0.1 port={port} user=postgres application_name={name}")
    }

    fn make_folder(&self) -> Result<(), Error> {
        let what = format!("can't make {}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(Error::system(what))?;
        self.site.account.own(&self.folder)
    }

    pub(super) fn write_settings(&self) -> Result<(), Error> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, value) in &*settings {
            // Writing to a string does not fail.
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).ok();
        }
        self.write_file(OWN_CONF, &text)
    }

    fn write_file(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.data().join(name);
        let what = format!("can't write {}", path.display());
        fs::write(&path, text).map_err(Error::system(what))?;
        self.site.account.own(&path)
    }

    /// Makes it read its files again, and waits until new sessions have what is in them.
    pub(super) fn reload(&self) -> Result<(), Error> {
        let Some(id) = self.process() else { return Ok(()) };
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.script("postgres", loaded)?;
        signal::send("HUP", &[id]);
        self.until_true("postgres", &format!("pg_conf_load_time() <> '{}'", before.trim()))
    }

    /// Waits until a condition holds.
    pub(super) fn until_true(&self, database: &str, condition: &str) -> Result<(), Error> {
        let question = format!("SELECT {condition}");
        let holds = clock::until(ANSWER_MAX, || {
            let answer = self.script(database, &question)?;
            Ok::<_, Error>((answer.trim() == "t").then_some(()))
        });
        holds?.ok_or_else(|| Error::Late {
            what: format!("{}: {condition}", self.name),
            limit: ANSWER_MAX,
            output: self.log_end(),
        })
    }
}
