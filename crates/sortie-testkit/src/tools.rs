//! The programs that the tests run: where they are, and how to run them to their end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The repository's root folder.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/NAME is two folders below the root").to_owned()
}

/// Finds a program in `PATH` or where Debian keeps PostgreSQL's.
///
/// A test whose program is missing fails: a skipped test looks like a passed one.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(debian.map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing; `cargo xtask test` installs it"))
}

/// The Python that has the client libraries of `tests/clients/requirements.txt`.
pub fn python() -> PathBuf {
    let python = workspace().join("target/clients/bin/python");
    assert!(python.is_file(), "{} is missing; `cargo xtask test` makes it", python.display());
    python
}

/// Node, with the client libraries of `tests/clients/node/package.json`.
pub fn node() -> Command {
    let modules = workspace().join("target/clients-node/node_modules");
    assert!(modules.is_dir(), "{} is missing; `cargo xtask test` makes it", modules.display());
    let mut command = Command::new(program("node"));
    command.env("NODE_PATH", modules).arg("--no-deprecation");
    command
}

/// What a program printed before it ended with success.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ran {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Whether it said success.
    pub success: bool,
}

/// Runs a command to its end on a thread of its own, so that the test's runtime goes on.
pub async fn run(mut command: Command) -> Ran {
    let line = format!("{command:?}");
    let run = move || command.stdin(Stdio::null()).output();
    // The blocking pool owns it; the caller waits for it here.
    let output: Output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic")
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { out: text(&output.stdout), err: text(&output.stderr), success: output.status.success() }
}
