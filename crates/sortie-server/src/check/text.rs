//! The report as people read it.

use std::fmt;
use std::time::Duration;

use super::report::{
    ClusterReport, Finding, Kind, Level, Reads, Report, ServerReport, ShardReport, TableReport,
};

const HEAD: [&str; 9] =
    ["SERVER", "ROLE", "VERSION", "TIMELINE", "CONNECT", "LAG", "FENCE", "CANCEL", "READS"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cluster in &self.clusters {
            writeln!(f, "{cluster}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        let count = |level| self.findings.iter().filter(|one| one.level == level).count();
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        let several = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let found = format!("{}, {}", several(problems, "problem"), several(warnings, "warning"));
        let end =
            if self.works { "everything that is needed works" } else { "not everything works" };
        write!(f, "{end}: {found}")
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {}, as role {}", self.name, self.role)?;
        let rows: Vec<[String; 9]> =
            self.shards.iter().flat_map(|shard| shard.servers.iter().map(row)).collect();
        let mut widths = HEAD.map(str::len);
        for (column, width) in widths.iter_mut().enumerate() {
            let longest = rows.iter().map(|row| row[column].chars().count()).max();
            *width = longest.unwrap_or(0).max(*width);
        }
        let mut rows = rows.into_iter();
        for ShardReport { shard, servers, hedge } in &self.shards {
            let system = servers.iter().find_map(|server| server.system.as_deref());
            let hedge = if *hedge { "hedging works" } else { "no hedging" };
            writeln!(f, "  shard {shard}, system {}, {hedge}", system.unwrap_or("unknown"))?;
            line(f, &HEAD.map(str::to_owned), &widths)?;
            for row in rows.by_ref().take(servers.len()) {
                line(f, &row, &widths)?;
            }
        }
        for TableReport { name, key, rows_sampled, fits } in &self.tables {
            let how = match key {
                Some(key) => format!("hashed by {key}, {rows_sampled} rows looked at"),
                None => "on every shard".to_owned(),
            };
            writeln!(f, "  table {name}: {how}: {}", if *fits { "fits" } else { "does not fit" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Problem => "problem",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        write!(f, "{level:<8} {}: {}", self.about, self.what)?;
        match &self.fix {
            Some(fix) => write!(f, "\n{:<8} fix: {fix}", ""),
            None => Ok(()),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[String; 9], widths: &[usize; 9]) -> fmt::Result {
    let cells: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    writeln!(f, "    {}", cells.join("  ").trim_end())
}

fn row(server: &ServerReport) -> [String; 9] {
    let unknown = || "-".to_owned();
    let works = |works: Option<bool>| match works {
        Some(true) => "yes".to_owned(),
        Some(false) => "NO".to_owned(),
        None => unknown(),
    };
    let kind = match server.kind {
        Some(Kind::Primary) => "primary",
        Some(Kind::Standby) => "standby",
        None => "NO ANSWER",
    };
    let cancel = match server.cancel_took {
        Some(took) => short(took),
        None => works(server.cancel),
    };
    let reads = match server.reads {
        Some(Reads::Current) => "current".to_owned(),
        Some(Reads::MayBeBehind) => "may be behind".to_owned(),
        None => unknown(),
    };
    [
        server.name.clone(),
        kind.to_owned(),
        // Distributions add their own name after a space.
        server
            .version
            .as_deref()
            .and_then(|version| version.split(' ').next())
            .map_or_else(unknown, str::to_owned),
        server.timeline.map_or_else(unknown, |timeline| timeline.to_string()),
        server.connect.map_or_else(unknown, short),
        lag(server),
        works(server.fence),
        cancel,
        reads,
    ]
}

fn lag(server: &ServerReport) -> String {
    match (server.lag_bytes, server.lag) {
        (Some(0), _) | (None, Some(Duration::ZERO)) => "none".to_owned(),
        (Some(bytes), Some(age)) => format!("{}, {}", size(bytes), short(age)),
        (Some(bytes), None) => size(bytes),
        (None, Some(age)) => short(age),
        (None, None) => "-".to_owned(),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1_000.0) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_short() {
        assert_eq!([size(0), size(2_048), size(5 << 30)], ["0 B", "2 KiB", "5120 MiB"]);
        assert_eq!(short(Duration::from_micros(1_230)), "1.2 ms");
        assert_eq!(short(Duration::from_millis(61_500)), "61.5 s");
    }

    #[test]
    fn a_finding_says_what_to_do() {
        let finding = Finding::problem("db:1", "it is down").fix("start it");
        assert_eq!(finding.to_string(), "problem  db:1: it is down\n         fix: start it");
        let report = Report::new(Vec::new(), vec![Finding::note("a", "b"), finding]);
        assert!(!report.works);
        assert!(report.to_string().starts_with("problem  db:1"), "the worst goes first");
        assert!(report.to_string().ends_with("not everything works: 1 problem, 0 warnings"));
        let twice = vec![Finding::warning("a", "x"), Finding::warning("b", "x")];
        let report = Report::new(Vec::new(), twice);
        assert!(report.works);
        assert!(report.to_string().starts_with("warning  a, b: x\n"), "{report}");
    }
}
