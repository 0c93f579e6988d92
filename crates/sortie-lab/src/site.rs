//! Where a lab lives, and how it starts programs there.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::config::Cancel;
use crate::error::Error;
use crate::keeper::Keeper;

/// A socket's path has to fit the system's address structure, the file's name included.
const SOCKET_FOLDER_MAX: usize = 80;

/// The folder, the account, the programs, and the keeper of all that.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) binaries: Binaries,
    pub(crate) account: Account,
    cancel: Cancel,
    /// Whether nothing is to be cancelled any more.
    made: AtomicBool,
    home: PathBuf,
    /// Ends what still runs, and removes the folder.
    pub(crate) keeper: Keeper,
}

impl Site {
    pub(crate) fn make(binaries: Binaries, cancel: Cancel) -> Result<Self, Error> {
        let home = new_folder(&std::env::temp_dir())?;
        let keeper = Keeper::start(&home)?;
        let account = Account::for_owner_of(&home)?;
        account.open(&home)?;
        let site = Self { binaries, account, cancel, made: AtomicBool::new(false), home, keeper };
        site.check_access()?;
        fs::create_dir(site.sockets()).map_err(Error::system("can't make a folder"))?;
        account.own(&site.sockets())?;
        Ok(site)
    }

    /// From now on a cancellation comes too late.
    pub(crate) fn made(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_cancel(&self) -> Result<(), Error> {
        if self.made.load(Ordering::Relaxed) { Ok(()) } else { self.cancel.check() }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where servers put their Unix sockets.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.home.join("s")
    }

    /// Whether the path of a socket there is short enough.
    pub(crate) fn has_sockets(&self) -> bool {
        self.sockets().as_os_str().len() <= SOCKET_FOLDER_MAX
    }

    /// Starts a command line of one of PostgreSQL's programs: as the account, in a process group
    /// of its own, deaf to our environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut Command) {
        let is_libpq = |name: &OsStr| name.as_encoded_bytes().starts_with(b"PG");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_libpq(name)) {
            command.env_remove(name);
        }
        command.env("HOME", &self.home).env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
        command.current_dir(&self.home).process_group(0);
        self.account.apply(command);
    }

    /// An account that can't enter our folder, or the programs', fails in ways that don't say so.
    fn check_access(&self) -> Result<(), Error> {
        let mut command = Command::new(self.binaries.program("postgres"));
        self.dress(&mut command);
        command.arg("--version");
        let output = command.output();
        if output.is_ok_and(|output| output.status.success()) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the account that runs the servers (root may not) can't enter {} or run {}; \
             move the one with TMPDIR, or open the other",
            self.home.display(),
            self.binaries.program("postgres").display(),
        )))
    }
}

fn new_folder(temporary: &Path) -> Result<PathBuf, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = temporary.join(format!("sortie-lab-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            // Left by a process of the same number, before our time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => {
                let what = format!("can't make {}", folder.display());
                return Err(Error::System { what, source });
            }
        }
    }
}
