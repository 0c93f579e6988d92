//! PostgreSQL's programs: where they are, and how to get them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;

/// What a lab runs.
const PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "psql"];

/// The oldest that has what sortie asks of a server, e.g. `client_connection_check_interval`.
const VERSION_MIN: u32 = 14;

/// Folders whose children are versions, each with its programs in `bin`.
const VERSIONED: [&str; 3] =
    ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/postgresql"];

/// Folders with names like `postgresql@17` or `pgsql-17` in them.
const PREFIXED: [(&str, &str); 4] = [
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql"),
];

/// How each system's own tool installs a server.
const INSTALL: [(&str, &str); 6] = [
    ("apt-get", "sudo apt-get update && sudo apt-get install -y postgresql"),
    ("dnf", "sudo dnf install -y postgresql-server"),
    ("brew", "brew install postgresql"),
    ("pacman", "sudo pacman -S postgresql"),
    ("apk", "sudo apk add postgresql postgresql-client"),
    ("zypper", "sudo zypper install postgresql-server"),
];

/// A folder with the programs of one PostgreSQL version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binaries {
    folder: PathBuf,
    version: String,
}

impl Binaries {
    /// Takes the folder that is given; without one looks where `pg_config` points, in the usual
    /// folders, newest version first, and in `PATH`.
    ///
    /// # Errors
    ///
    /// [`Error::NoBinaries`] says what to install; [`Error::Incomplete`] what a given folder lacks.
    pub fn find(given: Option<&Path>) -> Result<Self, Error> {
        if let Some(folder) = given {
            return Self::at(folder);
        }
        let looked = candidates();
        let complete = looked.iter().filter(|folder| missing(folder).is_none());
        // One that is too old, or can't run here, hides no newer one.
        let mut usable = complete.map(|folder| Self::at(folder));
        let first = usable.next();
        match first {
            Some(Ok(binaries)) => Ok(binaries),
            Some(Err(error)) => usable.find_map(Result::ok).ok_or(error),
            None => Err(Error::NoBinaries { looked, install: install() }),
        }
    }

    fn at(folder: &Path) -> Result<Self, Error> {
        if let Some(program) = missing(folder) {
            return Err(Error::Incomplete { folder: folder.to_owned(), program });
        }
        let postgres = folder.join("postgres");
        let said = output(Command::new(&postgres).arg("--version"));
        let Some(version) = said.as_deref().and_then(version) else {
            let what = format!("{} --version", postgres.display());
            return Err(Error::Failed { what, output: said.unwrap_or_default() });
        };
        let binaries = Self { folder: folder.to_owned(), version: version.to_owned() };
        if binaries.major() < VERSION_MIN {
            let text = format!(
                "{} is PostgreSQL {version}; a lab needs {VERSION_MIN} or newer",
                folder.display()
            );
            return Err(Error::Config(text));
        }
        Ok(binaries)
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the version, e.g. `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the version's first number; 0 when it has none.
    pub fn major(&self) -> u32 {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Returns the path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` has the version in third place.
fn version(said: &str) -> Option<&str> {
    let word = said.split_whitespace().nth(2)?;
    word.starts_with(|c: char| c.is_ascii_digit()).then_some(word)
}

fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| !folder.join(program).is_file())
}

/// Every folder to look in, in order, each once.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    // Debian's answers for the client library's package: then it may have no server in it.
    folders.extend(output(Command::new("pg_config").arg("--bindir")).map(|dir| dir.trim().into()));
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for root in VERSIONED {
        versions.extend(versions_in(root, ""));
    }
    for (root, prefix) in PREFIXED {
        versions.extend(versions_in(root, prefix));
    }
    versions.sort_by(|(a, _), (b, _)| b.cmp(a));
    folders.extend(versions.into_iter().map(|(_, folder)| folder));
    folders.push("/usr/local/pgsql/bin".into());
    folders.push("/Applications/Postgres.app/Contents/Versions/latest/bin".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| !folder.as_os_str().is_empty() && seen.insert(folder.clone()));
    folders
}

/// Folders `ROOT/PREFIX…/bin` with the version their name ends in.
fn versions_in(root: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let version = |name: &OsStr| {
        let rest = name.to_str()?.strip_prefix(prefix)?;
        let digits: String = rest.chars().filter(char::is_ascii_digit).take(4).collect();
        Some(digits.parse().unwrap_or(0))
    };
    entries
        .filter_map(|entry| Some((version(&entry.file_name())?, entry.path().join("bin"))))
        .collect()
}

/// The command of this machine's package manager.
fn install() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let has = |tool: &str| folders.iter().any(|folder| folder.join(tool).is_file());
    let command = INSTALL.into_iter().find(|(tool, _)| has(tool)).map(|(_, command)| command);
    command.map_or_else(
        || "(no package manager found that I know; the package is called `postgresql`)".into(),
        str::to_owned,
    )
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_a_server_says() {
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0)"), Some("15.18"));
        assert_eq!(version("postgres (PostgreSQL) 19beta1"), Some("19beta1"));
        assert_eq!(version("something else entirely"), None);
        let beta = Binaries { folder: "/x".into(), version: "19beta1".into() };
        assert_eq!(beta.major(), 19);
    }

    #[test]
    fn a_folder_without_a_server_says_what_it_lacks() {
        let error = Binaries::find(Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere has no program `postgres`");
    }

    #[test]
    fn without_a_server_the_command_that_installs_one_is_said() {
        let error = Error::NoBinaries {
            looked: vec!["/a".into(), "/b".into()],
            install: INSTALL[0].1.to_owned(),
        };
        let text = error.to_string();
        assert!(text.contains("apt-get install -y postgresql\n"), "{text}");
        assert!(text.ends_with("Looked in:\n  /a\n  /b"), "{text}");
    }
}
