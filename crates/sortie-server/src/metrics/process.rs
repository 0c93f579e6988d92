//! The page's part about the process: what dashboards expect of any, under the names they expect.

use std::fmt;
use std::fs;

use prometheus_client::metrics::MetricType;

use super::Page;

/// Gauges that are not zero when nobody asks for anything.
#[cfg(test)]
pub(super) const RESTING: &[&str] =
    &["process_open_fds", "process_max_fds", "process_resident_memory_bytes"];

/// What the system says of this process, as far as it does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessStats {
    /// Files and sockets that are open.
    open_fds: Option<u64>,
    /// How many may be.
    max_fds: Option<u64>,
    resident_bytes: Option<u64>,
}

impl ProcessStats {
    /// Asks the system.
    pub(crate) fn read() -> Self {
        let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        // One of them is the folder that is being read.
        let open_fds = open.and_then(|count| u64::try_from(count.saturating_sub(1)).ok());
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let max_fds = number(&limits, "Max open files");
        let resident_bytes = number(&status, "VmRSS:").map(|kib| kib * 1024);
        Self { open_fds, max_fds, resident_bytes }
    }
}

/// Writes it.
pub(super) fn encode(process: &ProcessStats, page: &mut Page<'_>) -> fmt::Result {
    for (name, help, value) in [
        ("process_open_fds", "Files and sockets that are open", process.open_fds),
        ("process_max_fds", "Files and sockets that may be open", process.max_fds),
        ("process_resident_memory_bytes", "Memory in use", process.resident_bytes),
    ] {
        if let Some(value) = value {
            page.named(name, help, MetricType::Gauge, |metric| metric.encode_gauge(&value))?;
        }
    }
    Ok(())
}

/// The first number of the line that begins like this.
fn number(text: &str, begin: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(begin))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_this_process_uses() {
        let process = ProcessStats::read();
        let (open, max) = (process.open_fds.unwrap(), process.max_fds.unwrap());
        assert!((3..=max).contains(&open), "{process:?}");
        assert!(process.resident_bytes.unwrap() > 100_000, "{process:?}");
        assert_eq!(number("Max open files  1024  4096  files\n", "Max open files"), Some(1024));
        assert_eq!(number("Max open files  unlimited\n", "Max open files"), None);
    }
}
