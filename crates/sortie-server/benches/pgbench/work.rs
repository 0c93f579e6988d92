//! What is measured: which statements pgbench sends, and who may be between it and the server.

use std::fmt;

/// A comparison, by the name that the command line has for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// Point reads of keys that hardly ever meet, in the pipe lane.
    Hop,
    /// The same statements, relayed and observed.
    Observed,
    /// The same statements, each judged and shared if another reader has the same key.
    Uniform,
    /// Everybody reads one cheap row.
    HotKey,
    /// Everybody asks for one aggregate that takes some 25 ms.
    HotAggregate,
}

/// Who may be between pgbench and the server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Target {
    Direct,
    PgBouncer,
    /// sortie, every statement relayed.
    Pipe,
    /// sortie, every statement relayed, and looked at to count what sharing would save.
    Observe,
    /// sortie, statements shared with readers who ask while one runs.
    Running,
    /// sortie, statements shared with readers who asked before it began.
    Fresh,
}

impl Work {
    pub(crate) const HOT: [Self; 3] = [Self::Uniform, Self::HotKey, Self::HotAggregate];

    pub(crate) fn targets(self) -> Vec<Target> {
        let ours: &[Target] = match self {
            Self::Hop => &[Target::Pipe],
            Self::Observed => return vec![Target::Pipe, Target::Observe],
            Self::Uniform | Self::HotKey | Self::HotAggregate => &[Target::Running, Target::Fresh],
        };
        [&[Target::Direct, Target::PgBouncer], ours].concat()
    }

    /// pgbench's query mode: only whoever prepares spares the server the planning.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Hop | Self::Observed | Self::Uniform => "prepared",
            Self::HotKey | Self::HotAggregate => "simple",
        }
    }

    /// A script for pgbench; its own select-only one if there is none.
    pub(crate) fn script(self) -> Option<&'static str> {
        match self {
            Self::Hop | Self::Observed | Self::Uniform => None,
            Self::HotKey => Some("SELECT abalance FROM pgbench_accounts WHERE aid = 1;\n"),
            Self::HotAggregate => {
                Some("SELECT count(*), sum(abalance) FROM pgbench_accounts WHERE aid <= 150000;\n")
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hop => "hop: uniform cheap keys, prepared, relayed",
            Self::Observed => "uniform cheap keys, prepared, relayed and observed",
            Self::Uniform => "uniform cheap keys, prepared, shared",
            Self::HotKey => "one hot cheap key, simple",
            Self::HotAggregate => "one hot aggregate, simple",
        })
    }
}

impl Target {
    /// The endpoint's mode.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            _ => "share",
        }
    }

    /// What pgbench asks of the endpoint when it connects.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Direct | Self::PgBouncer | Self::Observe => "",
            Self::Pipe => "-c sortie.lane=pipe",
            Self::Running => "-c sortie.join=running",
            Self::Fresh => "-c sortie.join=fresh",
        }
    }
}
