//! Signals, sent by the shell's own `kill`: it needs no package, and no unsafe code here.

use std::fs;
use std::process::{Command, Stdio};

/// Sends a signal by name; a process that is gone is no error.
pub(crate) fn send(name: &str, ids: &[u32]) {
    if ids.is_empty() {
        return;
    }
    let mut command = Command::new("sh");
    command.args(["-c", "s=$1; shift; kill -s \"$s\" \"$@\"", "sh", name]);
    command.args(ids.iter().map(u32::to_string));
    // Where there is no shell there is no PostgreSQL either.
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().ok();
}

/// Returns the processes whose parent is `id`.
pub(crate) fn children(id: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).or_else(|_none| {
        let found = Command::new("pgrep").args(["-P", &id.to_string()]).output()?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&found.stdout).into_owned())
    });
    let listed = listed.unwrap_or_default();
    listed.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Kills a process group: a program, and the ones that it started and that now lack a reader.
pub(crate) fn end_group(leader: u32) {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s KILL -- \"-$1\"", "sh", &leader.to_string()]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().ok();
}

/// Whether a process that is not our child still runs; where there is no `/proc`, no.
pub(crate) fn runs(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}
