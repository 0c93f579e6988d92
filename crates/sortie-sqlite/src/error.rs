//! The one error type of the crate.

use std::path::PathBuf;

/// A cause whose type is nobody else's business.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an embedded cluster was not created, or an attempt failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A law of trouble, or an address in front of one, that can't be read or names nobody.
    #[error("{0}")]
    Trouble(String),
    /// The configuration asks for a cluster that can't exist.
    #[error("{0}")]
    Config(String),
    /// The data directory holds something that is not the cluster asked for.
    #[error("{}: {reason}", dir.display())]
    NotOurs {
        /// The data directory.
        dir: PathBuf,
        /// What it holds, and what to do about it.
        reason: String,
    },
    /// A file of the cluster could not be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// SQLite refused: a statement it can't run, or a file it can't read.
    #[error("{at}: {source}")]
    Sqlite {
        /// The label of the replica, or the file.
        at: String,
        /// What SQLite said.
        source: Source,
    },
    /// The replica was told to fail (`--fail`).
    #[error("replica {replica} of shard {shard} is told to fail (--fail)")]
    Failing {
        /// The shard's number.
        shard: usize,
        /// The replica's number within its shard.
        replica: usize,
    },
    /// All slots are taken and the queue in front of them is full.
    #[error("replica {replica} has {queue_max} attempts queued already")]
    Busy {
        /// The label of the replica.
        replica: String,
        /// The bound of its queue.
        queue_max: usize,
    },
    /// The cluster was dropped.
    #[error("replica {replica} is closed: the embedded cluster is gone")]
    Closed {
        /// The label of the replica.
        replica: String,
    },
}
