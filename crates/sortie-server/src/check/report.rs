//! What a check found, for people and for machines.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::lsn::Lsn;

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether everything that is needed works: there is no problem.
    pub(super) works: bool,
    pub(super) clusters: Vec<ClusterReport>,
    /// Those that belong to no cluster come first.
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
pub(super) struct ClusterReport {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) shards: Vec<ShardReport>,
    pub(super) tables: Vec<TableReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShardReport {
    pub(super) shard: usize,
    pub(super) servers: Vec<ServerReport>,
    /// Whether a slow replica can be outrun: there is another one, and losers can be stopped.
    pub(super) hedge: bool,
}

/// One server. What could not be found out is `None`.
#[derive(Debug, Serialize)]
pub(super) struct ServerReport {
    pub(super) name: String,
    pub(super) configured: Kind,
    pub(super) kind: Option<Kind>,
    pub(super) version: Option<String>,
    pub(super) system: Option<String>,
    pub(super) timeline: Option<u32>,
    #[serde(rename = "connect_ms", serialize_with = "milliseconds")]
    pub(super) connect: Option<Duration>,
    /// Whether a standby gets new records.
    pub(super) streaming: Option<bool>,
    /// Bytes that the primary has written and the standby has not replayed.
    pub(super) lag_bytes: Option<u64>,
    /// Age of what the standby replayed last; zero if nothing is left to replay.
    #[serde(rename = "lag_ms", serialize_with = "milliseconds")]
    pub(super) lag: Option<Duration>,
    /// Where the primary writes, where a standby has replayed to.
    pub(super) position: Option<Lsn>,
    /// Whether an answer can say up to where its replica had replayed.
    pub(super) fence: Option<bool>,
    pub(super) cancel: Option<bool>,
    #[serde(rename = "cancel_ms", serialize_with = "milliseconds")]
    pub(super) cancel_took: Option<Duration>,
    /// What a read right after an acknowledged write sees.
    pub(super) reads: Option<Reads>,
    /// What stands between: a pooler, a managed service.
    pub(super) between: Option<String>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Primary,
    Standby,
}

/// What a read right after an acknowledged write sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reads {
    /// That write.
    Current,
    /// Perhaps the time before it.
    MayBeBehind,
}

#[derive(Debug, Serialize)]
pub(super) struct TableReport {
    pub(super) name: String,
    /// The column that places rows; `None` for a reference table.
    pub(super) key: Option<String>,
    /// How many rows were looked at, to see whether they lie where the hash says.
    pub(super) rows_sampled: usize,
    pub(super) fits: bool,
}

/// Something to know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The servers, the shards or the tables that it is about.
    pub(super) about: String,
    pub(super) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Something that is needed does not work.
    Problem,
    /// It works, and not as one may expect.
    Warning,
    /// Good to know.
    Note,
}

impl Finding {
    pub(super) fn problem(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Problem, about, what)
    }

    pub(super) fn warning(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Warning, about, what)
    }

    pub(super) fn note(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Note, about, what)
    }

    /// Says what to do about it.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    fn new(level: Level, about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level, about: about.into(), what: what.into(), fix: None }
    }
}

impl Report {
    /// Puts the worst first, and says once what holds for several.
    pub(super) fn new(clusters: Vec<ClusterReport>, found: Vec<Finding>) -> Self {
        let mut findings: Vec<Finding> = Vec::new();
        for one in found {
            let same = |known: &&mut Finding| {
                (known.level, &known.what, &known.fix) == (one.level, &one.what, &one.fix)
            };
            match findings.iter_mut().find(same) {
                Some(known) => known.about = format!("{}, {}", known.about, one.about),
                None => findings.push(one),
            }
        }
        findings.sort_by_key(|finding| finding.level);
        let works = findings.iter().all(|finding| finding.level != Level::Problem);
        Self { works, clusters, findings }
    }
}

#[expect(clippy::ref_option, reason = "serde hands over the field")]
fn milliseconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let rounded = |duration: Duration| (duration.as_secs_f64() * 1e5).round() / 100.0;
    duration.map(rounded).serialize(serializer)
}
