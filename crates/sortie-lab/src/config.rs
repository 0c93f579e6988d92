//! What a lab should be like.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

const SHARDS_MAX: u32 = 16;
const REPLICAS_MAX: u32 = 8;
const ROWS_MAX: u32 = 10_000_000;

/// What a lab should be like.
///
/// | setting | default | |
/// |---|---|---|
/// | `shards` | 2 | slices of the rows, 1 to 16 |
/// | `replicas` | 2 | synchronous standbys per shard, 0 to 8 |
/// | `rows` | 100,000 | users, with ids from 1, at most 10,000,000 |
/// | `sample` | yes | whether there are a role `reader`, a database `sortie` and the users |
/// | `pg_bin` | found | the folder with PostgreSQL's programs |
/// | `settings` | none | server settings, for all servers, e.g. `("log_statement", "all")` |
/// | `cancel` | none | what ends the making early |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LabConfig {
    /// How many slices the rows are spread over.
    pub shards: u32,
    /// How many standbys each shard has.
    pub replicas: u32,
    /// How many users there are; their ids start at 1.
    pub rows: u32,
    /// Whether the role `reader`, the database `sortie` and the table `users` are made.
    pub sample: bool,
    /// The folder with PostgreSQL's programs, instead of the one that is found.
    pub pg_bin: Option<PathBuf>,
    /// Settings of every server, on its command line.
    pub settings: Vec<(String, String)>,
    /// What ends the making early.
    pub cancel: Cancel,
}

/// Ends the making of a lab early; clones end the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Makes [`Lab::start`](crate::Lab::start) give up, stop what it started and return
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl LabConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (name, value, from, to) in [
            ("shards", self.shards, 1, SHARDS_MAX),
            ("replicas", self.replicas, 0, REPLICAS_MAX),
            ("rows", self.rows, 0, ROWS_MAX),
        ] {
            if !(from..=to).contains(&value) {
                return Err(Error::Config(format!("{name} is {from} to {to}, not {value}")));
            }
        }
        Ok(())
    }
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            shards: 2,
            replicas: 2,
            rows: 100_000,
            sample: true,
            pg_bin: None,
            settings: Vec::new(),
            cancel: Cancel::default(),
        }
    }
}
