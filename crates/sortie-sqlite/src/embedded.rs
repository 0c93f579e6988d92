//! The cluster: its directory, its files, its replicas.
//!
//! # Invariants
//!
//! 1. A directory is a cluster when it holds the manifest, which is written last. One that holds
//!    the marker of an unfinished creation is built anew; anything else that is not empty is
//!    somebody else's and is left alone.
//! 2. Threads end before the temporary directory goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use sortie::{ShardId, ShardMap};
use tempfile::TempDir;

use crate::replica::{Plan, Pool};
use crate::{Error, Replica, Trouble, data};

/// Says which cluster a directory holds.
const MANIFEST: &str = "sortie-embedded";

/// Stands in a directory while its files are being written.
const UNFINISHED: &str = "sortie-embedded.unfinished";

const SHARDS_MAX: usize = 64;
const REPLICAS_MAX: usize = 16;
const WORKERS_MAX: usize = 64;
const ROWS_MAX: u32 = 10_000_000;

/// The shape of a cluster, and its trouble.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `data` | `None` | directory that keeps the files; `None` is a temporary one |
/// | `shards` | 2 | slices of the rows, at most 64 |
/// | `replicas` | 3 | copies of each slice, at most 16 |
/// | `rows` | 100,000 | users, with ids from 1, at most 10,000,000 |
/// | `workers` | 8 | attempts a replica runs at a time, at most 64 |
/// | `queue_max` | 1,024 | attempts that may wait for a worker of one replica |
/// | `trouble` | none | who is slow, who fails |
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmbeddedConfig {
    /// The directory that keeps the files; `None` is a temporary one, removed at drop.
    pub data: Option<PathBuf>,
    /// How many slices the rows are spread over.
    pub shards: usize,
    /// How many copies each slice has.
    pub replicas: usize,
    /// How many users there are; their ids start at 1.
    pub rows: u32,
    /// How many attempts a replica runs at a time.
    pub workers: usize,
    /// How many attempts may wait for a worker of one replica.
    pub queue_max: usize,
    /// Who is slow, who fails.
    pub trouble: Trouble,
}

/// A running cluster. It owns the threads of its replicas and its temporary directory.
///
/// Dropping it ends what runs, joins the threads, and removes the directory if it is temporary;
/// [`Replica`] handles that are left answer [`Error::Closed`].
#[derive(Debug)]
pub struct Embedded {
    // Fields drop in this order: nobody reads a file when the directory goes.
    _pools: Vec<Pool>,
    shards: Vec<Vec<Replica>>,
    dir: PathBuf,
    created: bool,
    temporary: Option<TempDir>,
}

impl Embedded {
    /// Creates a cluster, or opens the one that `config.data` holds.
    ///
    /// It reads and writes files on the calling thread; the default cluster is there in a
    /// fraction of a second.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Trouble`] when the configuration asks for what can't exist,
    /// [`Error::NotOurs`] when the directory holds something else, [`Error::Io`] and
    /// [`Error::Sqlite`] when its files can't be written or read.
    pub fn create(config: &EmbeddedConfig) -> Result<Self, Error> {
        config.check()?;
        let (dir, temporary) = home(config)?;
        let created = prepare(&dir, config)?;
        let mut pools = Vec::with_capacity(config.shards * config.replicas);
        let mut shards = Vec::with_capacity(config.shards);
        for shard in 0..config.shards {
            let mut replicas = Vec::with_capacity(config.replicas);
            for replica in 0..config.replicas {
                let pool = Pool::start(&Plan {
                    shard,
                    replica,
                    file: &file(&dir, shard, replica),
                    private: temporary.is_some(),
                    workers: config.workers,
                    queue_max: config.queue_max,
                    trouble: &config.trouble,
                })?;
                replicas.push(pool.replica().clone());
                pools.push(pool);
            }
            shards.push(replicas);
        }
        Ok(Self { _pools: pools, shards, dir, created, temporary })
    }

    /// Returns the replicas of every shard, both in the order of their numbers.
    pub fn shards(&self) -> &[Vec<Replica>] {
        &self.shards
    }

    /// Returns the directory that holds the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says whether the files were written just now, rather than found.
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// Says whether the directory goes when the cluster is dropped.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

impl EmbeddedConfig {
    fn check(&self) -> Result<(), Error> {
        let bounds = [
            ("shards", self.shards, SHARDS_MAX),
            ("replicas", self.replicas, REPLICAS_MAX),
            ("workers", self.workers, WORKERS_MAX),
            ("rows", self.rows as usize, ROWS_MAX as usize),
        ];
        for (what, asked, max) in bounds {
            if !(1..=max).contains(&asked) {
                return Err(Error::Config(format!("{what} must be 1 to {max}, not {asked}")));
            }
        }
        self.trouble.check(self.shards, self.replicas)
    }

    fn map(&self) -> ShardMap {
        ShardMap::pg_hash(u32::try_from(self.shards).expect("at most SHARDS_MAX"))
    }

    /// What the manifest says about files of this cluster. Trouble and workers are not in them.
    fn manifest(&self) -> String {
        let Self { shards, replicas, rows, .. } = self;
        format!("format 1\nshards {shards}\nreplicas {replicas}\nrows {rows}\n")
    }
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            data: None,
            shards: 2,
            replicas: 3,
            rows: 100_000,
            workers: 8,
            queue_max: 1_024,
            trouble: Trouble::default(),
        }
    }
}

/// Returns the directory asked for, or a temporary one with its owner.
fn home(config: &EmbeddedConfig) -> Result<(PathBuf, Option<TempDir>), Error> {
    if let Some(dir) = &config.data {
        return Ok((dir.clone(), None));
    }
    let temporary = tempfile::Builder::new().prefix("sortie-embedded-").tempdir();
    let temporary = io(&std::env::temp_dir(), temporary)?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// Makes `dir` hold the cluster; returns whether it had to be written.
fn prepare(dir: &Path, config: &EmbeddedConfig) -> Result<bool, Error> {
    io(dir, fs::create_dir_all(dir))?;
    let manifest = dir.join(MANIFEST);
    if manifest.exists() {
        let found = io(&manifest, fs::read_to_string(&manifest))?;
        reuse(dir, &found, config)?;
        return Ok(false);
    }
    let unfinished = dir.join(UNFINISHED);
    let empty = io(dir, fs::read_dir(dir))?.next().is_none();
    if !empty && !unfinished.exists() {
        let reason = "the directory is not empty and holds no cluster of ours; name another one, \
                      or an empty one";
        return Err(Error::NotOurs { dir: dir.to_owned(), reason: reason.into() });
    }
    io(&unfinished, fs::write(&unfinished, ""))?;
    let map = &config.map();
    thread::scope(|scope| {
        let write = |shard| scope.spawn(move || write_shard(dir, map, shard, config));
        let writers: Vec<_> = map.shards().map(write).collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().expect("a writer returns its errors"))
    })?;
    io(&manifest, fs::write(&manifest, config.manifest()))?;
    io(&unfinished, fs::remove_file(&unfinished))?;
    Ok(true)
}

/// Writes a shard once, then copies the file to the other replicas.
fn write_shard(
    dir: &Path,
    map: &ShardMap,
    shard: ShardId,
    config: &EmbeddedConfig,
) -> Result<(), Error> {
    let mine = (1..=config.rows).filter(|id| map.shard_of(i64::from(*id)) == shard);
    let shard = shard.index() as usize;
    let first = file(dir, shard, 0);
    if first.exists() {
        io(&first, fs::remove_file(&first))?; // Left by a creation that did not finish.
    }
    data::write(&first, mine)?;
    for replica in 1..config.replicas {
        let copy = file(dir, shard, replica);
        io(&copy, fs::copy(&first, &copy))?;
    }
    Ok(())
}

/// Checks that the files found are the cluster asked for.
fn reuse(dir: &Path, found: &str, config: &EmbeddedConfig) -> Result<(), Error> {
    let other = |reason| Err(Error::NotOurs { dir: dir.to_owned(), reason });
    let describe = |manifest: &str| manifest.trim_end().replace('\n', ", ");
    if found != config.manifest() {
        return other(format!(
            "the directory holds another cluster ({}) than the one asked for ({}); name another \
             directory, or remove this one",
            describe(found),
            describe(&config.manifest()),
        ));
    }
    for replica in 0..config.replicas {
        let mut rows = 0;
        for shard in 0..config.shards {
            rows += data::count(&file(dir, shard, replica))?;
        }
        if rows != u64::from(config.rows) {
            return other(format!(
                "replica {replica} of the shards holds {rows} rows, not {}; remove the directory \
                 and have it made anew",
                config.rows,
            ));
        }
    }
    Ok(())
}

fn file(dir: &Path, shard: usize, replica: usize) -> PathBuf {
    dir.join(format!("shard-{shard}-replica-{replica}.sqlite"))
}

fn io<T>(path: &Path, outcome: std::io::Result<T>) -> Result<T, Error> {
    outcome.map_err(|source| Error::Io { path: path.to_owned(), source })
}
