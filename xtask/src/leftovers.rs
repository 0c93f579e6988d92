//! What a test run leaves behind: processes and temporary files that are ours.
//!
//! Everything started under a [`Watch`] carries its name in the environment and writes its
//! temporary files into its folder. A process that lost its parent, its environment (servers
//! that write a title over it) or both still has its command line or its working folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::step::Outcome;

const MARK: &str = "SORTIE_TEST_RUN";
const PREFIX: &str = "sortie-test-";
/// What a test process shares until its end is taken down by a keeper of its own, after that end.
const ROUNDS_MAX: u32 = 300;
const ROUND: Duration = Duration::from_millis(100);

/// One test run's folder for temporary files, and the mark on its processes.
pub(crate) struct Watch {
    folder: PathBuf,
}

impl Watch {
    pub(crate) fn start() -> Outcome<Self> {
        // Not under target/: sockets need short paths, and a database server that refuses to run
        // as root must be able to enter it.
        let temporary = std::env::temp_dir();
        remove_stale(&temporary);
        let folder = temporary.join(format!("{PREFIX}{}", std::process::id()));
        let open = Permissions::from_mode(0o755);
        fs::create_dir(&folder)
            .and_then(|()| fs::set_permissions(&folder, open))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Makes `command` and all that it starts recognisable.
    pub(crate) fn mark(&self, command: &mut Command) {
        command.env("TMPDIR", &self.folder).env(MARK, &self.folder);
    }

    /// Fails with a list when a process or a file is left.
    pub(crate) fn finish(self) -> Outcome {
        self.finish_within(ROUNDS_MAX)
    }

    fn finish_within(self, rounds_max: u32) -> Outcome {
        let mut rounds = 0;
        let (processes, files) = loop {
            let left = (processes_of(&self.folder), names_in(&self.folder));
            if left.0.is_empty() && left.1.is_empty() {
                return Ok(());
            }
            rounds += 1;
            if rounds > rounds_max {
                break left;
            }
            std::thread::park_timeout(ROUND);
        };
        let mut message = format!("left behind in {}:", self.folder.display());
        for line in processes.iter().chain(&files) {
            message.push_str("\n  ");
            message.push_str(line);
        }
        Err(message)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("xtask: {} stays: {error}", self.folder.display());
        }
    }
}

/// Removes the folders of runs that were killed: their number is no process any more.
fn remove_stale(temporary: &Path) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            // Somebody else's, perhaps: then it stays.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| format!("file {}", entry.file_name().display())).collect();
    names.sort();
    names
}

/// Processes whose environment, command line or working folder names `folder`. Where there is
/// no `/proc` nothing is found.
fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let holds = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.windows(needle.len()).any(|window| window == needle)
        };
        let inside =
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if id != std::process::id() && (inside || holds("environ") || holds("cmdline")) {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            found.push(format!("process {id}: {}", words.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn the_folder_of_a_killed_run_is_removed_by_the_next() {
        let temporary = std::env::temp_dir().join(format!("stale-{}", std::process::id()));
        let [dead, alive] =
            [u32::MAX, std::process::id()].map(|id| temporary.join(format!("{PREFIX}{id}")));
        fs::create_dir_all(&dead).unwrap();
        fs::create_dir_all(&alive).unwrap();
        remove_stale(&temporary);
        let left = (dead.exists(), alive.exists());
        fs::remove_dir_all(&temporary).unwrap();
        assert_eq!(left, (false, true));
    }

    #[test]
    fn a_process_and_a_file_that_stay_are_named() {
        let watch = Watch::start().unwrap();
        let folder = watch.folder.clone();
        fs::write(folder.join("forgotten"), "").unwrap();
        let mut command = Command::new("sh");
        watch.mark(command.args(["-c", "echo ready; read forever"]));
        let mut sleeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Until it speaks its environment may not be there yet: it is still being started.
        sleeper.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let message = watch.finish_within(0).unwrap_err();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(message.contains("file forgotten"), "{message}");
        assert!(message.contains("read forever"), "{message}");
        assert!(!folder.exists());
        assert!(Watch { folder: folder.join("never") }.finish().is_ok());
    }
}
