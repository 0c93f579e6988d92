//! Running commands one after another, with a line before and after each.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Success, or a message that says what went wrong and what to do next.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A named run of steps.
pub(crate) struct Steps {
    name: &'static str,
    started: Instant,
}

impl Steps {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, started: now() }
    }

    /// Runs `command` with our own standard streams; its output stays visible.
    pub(crate) fn step(&self, title: &str, command: &mut Command) -> Outcome {
        let line = command_line(command);
        println!("\n==> {}: {title}\n    {line}", self.name);
        let started = now();
        let status = command.stdin(Stdio::null()).status();
        let took = seconds(started.elapsed());
        match status {
            Ok(status) if status.success() => {
                println!("    ok: {title} ({took})");
                Ok(())
            }
            Ok(status) => Err(format!("{title} failed ({status}) after {took}. Again:\n  {line}")),
            Err(error) => Err(format!("{title} could not start: {error}. Again:\n  {line}")),
        }
    }

    /// Runs a check of our own as a step; `again` is the command that repeats it.
    pub(crate) fn check(
        &self,
        title: &str,
        again: &str,
        check: impl FnOnce() -> Outcome,
    ) -> Outcome {
        println!("\n==> {}: {title}", self.name);
        let started = now();
        check().map_err(|message| format!("{message}\n\n{title} failed. Again:\n  {again}"))?;
        println!("    ok: {title} ({})", seconds(started.elapsed()));
        Ok(())
    }

    /// Says how long the whole run took.
    pub(crate) fn done(&self) {
        println!("\nxtask {}: all passed ({})", self.name, seconds(self.started.elapsed()));
    }
}

/// Cargo, the same one that runs us, with these arguments.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Runs `command` quietly and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{line}` could not start: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{line}` failed ({}):\n{complaint}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The repository's root: xtask's own folder is one of its members.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| ".".into(), PathBuf::from)
}

/// Every path in this tool is relative to the root.
pub(crate) fn enter_root() -> Outcome {
    std::env::set_current_dir(root()).map_err(|error| format!("the repository is gone: {error}"))
}

/// Tracked files and new ones, without those git ignores.
pub(crate) fn repository_files() -> Outcome<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listing = output(&mut git)?;
    let mut files: Vec<String> = listing
        .split('\0')
        .filter(|path| !path.is_empty() && Path::new(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether `path` is a file of that kind: `rs`, `toml`, …
pub(crate) fn is_kind(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Reads a text file; the message names it.
pub(crate) fn read(path: impl AsRef<Path>) -> Outcome<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn command_line(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))))
        .collect();
    let program = Path::new(command.get_program());
    words.push(program.file_name().map_or_else(|| quoted(command.get_program()), quoted));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '*', '"', '\'', '$', '&', ';']) {
        format!("'{}'", word.replace('\'', "'\\''"))
    } else {
        word.into_owned()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "a build tool measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_how_to_run_it_again() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 3"]).env("SORTIE_STEP", "a b");
        let message = Steps::new("test").step("the shell", &mut command).unwrap_err();
        assert!(message.contains("SORTIE_STEP='a b' sh -c 'exit 3'"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
    }
}
