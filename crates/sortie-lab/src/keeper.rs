//! What outlives us just long enough to leave nothing behind.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

const SCRIPT: &str = include_str!("keeper.sh");

/// A `sh` that waits for the end of its input. Nobody else holds the other end, so the input ends
/// when this handle is dropped, and also when this process is killed.
#[derive(Debug)]
pub(crate) struct Keeper {
    home: PathBuf,
    child: Child,
    /// `None` once closed.
    input: Mutex<Option<ChildStdin>>,
}

impl Keeper {
    pub(crate) fn start(home: &Path) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sortie-lab-keeper"]).arg(home).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().map_err(Error::system("can't start `sh`"))?;
        let input = Mutex::new(child.stdin.take());
        Ok(Self { home: home.to_owned(), child, input })
    }

    /// Notes that a process began.
    pub(crate) fn began(&self, id: u32) {
        self.say('+', id);
    }

    /// Notes that a process ended and its number may be given to another.
    pub(crate) fn ended(&self, id: u32) {
        self.say('-', id);
    }

    fn say(&self, sign: char, id: u32) {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = input.as_mut() {
            // A keeper that was killed by hand is missed at the end only.
            writeln!(input, "{sign} {id}").ok();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.input.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.child.wait().ok();
        // It is gone already, unless the keeper was killed by hand.
        std::fs::remove_dir_all(&self.home).ok();
    }
}
