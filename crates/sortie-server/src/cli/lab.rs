//! The command line of `sortie lab`.

use std::path::PathBuf;

use clap::Args;

use crate::said::Loopback;

/// `sortie lab`.
#[derive(Args, Debug)]
pub(crate) struct Lab {
    /// Slices of the rows, each with a primary of its own
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) shards: u32,

    /// Synchronous standbys of each primary
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) replicas: u32,

    /// How many users there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rows: u32,

    /// The folder with PostgreSQL's programs; without it they are looked for where `pg_config`
    /// points, in the usual folders, newest version first, and in PATH
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,

    /// Where Postgres clients connect; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6440")]
    pub(crate) listen: Loopback,

    /// Where `/metrics`, `/healthz` and `/readyz` are; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6441")]
    pub(crate) admin: Loopback,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  sortie lab
      two shards, each a primary and two synchronous standbys, sortie in front on 127.0.0.1:6440;
      the last lines say what to type next, Ctrl-C stops and removes everything
  sortie lab --shards 3 --replicas 1 --rows 1000000
      a smaller cluster with more rows
  sortie lab --pg-bin /usr/lib/postgresql/16/bin
      of one of several PostgreSQL versions";
