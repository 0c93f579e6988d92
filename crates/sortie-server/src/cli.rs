//! The command line: what can be asked for, and refusals that say what to do instead.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use sortie_sqlite::{Address, Latency};

/// What `sortie` understands.
#[derive(Debug, Parser)]
#[command(
    name = "sortie",
    bin_name = "sortie",
    version,
    about = "A reader endpoint: one query for a thousand callers, the fastest replica, all shards"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `sortie` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer Postgres clients
    #[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
    Serve(Serve),
}

/// `sortie serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Serve sample data: SQLite files as shards and replicas, no database needed
    #[arg(long, help_heading = START)]
    pub(crate) embedded: bool,

    /// Serve the clusters of a configuration file (not yet: comes with the next part)
    #[arg(short, long, value_name = "FILE", help_heading = START)]
    config: Option<PathBuf>,

    /// Serve one database without a file (not yet: comes with the next part)
    #[arg(short, long, value_name = "URL", help_heading = START)]
    database: Option<String>,

    /// Where Postgres clients connect; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6440")]
    pub(crate) listen: Loopback,

    /// Where `/metrics`, `/healthz` and `/readyz` are; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6441")]
    pub(crate) admin: Loopback,

    /// Connections served at a time; one more is told to come back later
    #[arg(long, value_name = "COUNT", default_value_t = 900)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections_max: u32,

    /// How long a replica may stay silent before the next one is asked, or `off`
    #[arg(long, value_name = "off|DURATION", default_value = "70ms")]
    pub(crate) hedge: HedgeDelay,

    /// Age at which a query that others wait for takes no more company and is asked anew
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = duration)]
    pub(crate) soft_age: Duration,

    /// Keep the files here, and use them again next time; without it they are temporary
    #[arg(long, value_name = "DIR", requires = "embedded", help_heading = EMBEDDED)]
    pub(crate) data: Option<PathBuf>,

    /// How many users there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, help_heading = EMBEDDED)]
    pub(crate) rows: u32,

    /// Make replicas slow: `[SHARD[.REPLICA]=]LAW`, repeatable; delays add up
    ///
    /// A LAW is `fixed:5ms` (every attempt waits that long), `lognormal:50ms:0.1` (median and
    /// sigma) or `stall:1%:200ms` (that share of attempts waits).
    #[arg(long, value_name = "LAW", requires = "embedded", help_heading = EMBEDDED)]
    pub(crate) latency: Vec<Latency>,

    /// Make replicas fail at once: `SHARD[.REPLICA]`, repeatable
    #[arg(long, value_name = "WHO", requires = "embedded", help_heading = EMBEDDED)]
    pub(crate) fail: Vec<Address>,
}

/// An address that only this machine can reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

/// When to ask one more replica; `None` is never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HedgeDelay(pub(crate) Option<Duration>);

const START: &str = "What to serve (one of)";
const EMBEDDED: &str = "Embedded cluster";

const EXAMPLES: &str = "\
Examples:
  sortie serve --embedded
      sample data on 127.0.0.1:6440; the first lines say what to type next
  sortie serve --embedded --data ./cluster
      the same, kept in ./cluster
  sortie serve --embedded --latency 0.1=fixed:200ms
      replica 1 of shard 0 is slow: hedged reads outrun it
  sortie serve --embedded --latency 0.1=fixed:200ms --hedge off
      the same without hedging, to see the difference
  sortie serve --embedded --latency lognormal:50ms:0.1 --latency stall:1%:2s
      every replica takes about 50 ms, and one attempt in a hundred hangs for 2 s
  sortie serve --embedded --fail 1 --latency 0=fixed:2s
      shard 1 fails, shard 0 is slow: a question for both fails at once, with the shard's name";

const WAYS: &str = "`sortie serve` does not guess what to serve. There are three ways to start:
  sortie serve --embedded          sample data in SQLite files: no database, no configuration
  sortie serve -c sortie.toml      the clusters of a configuration file (comes with the next part)
  sortie serve -d postgres://...   one database, no file (comes with the next part)";

impl Serve {
    /// Checks that it is said what to serve, and that it can be served.
    ///
    /// # Errors
    ///
    /// A usage error that lists the ways to start.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        let later = match (&self.config, &self.database) {
            (Some(_), _) => Some("-c"),
            (None, Some(_)) => Some("-d"),
            (None, None) => None,
        };
        if let Some(option) = later {
            let text = format!(
                "{option} can't be used yet: serving PostgreSQL comes with the next part; until \
                 then there is `sortie serve --embedded`",
            );
            return Err(Cli::command().error(ErrorKind::InvalidValue, text));
        }
        if !self.embedded {
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, WAYS));
        }
        Ok(())
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Never looked up: what a name means is decided by files and servers elsewhere.
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = match local {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => text.parse::<SocketAddr>().map_err(|_no_address| {
                "write ADDRESS:PORT, for example `127.0.0.1:6440` or `[::1]:6440`".to_owned()
            })?,
        };
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} can be reached from other machines, and sortie has no authentication yet: \
                 whoever connects may read everything. Use a loopback address (127.0.0.1, [::1]); \
                 from elsewhere, tunnel to it, for example with `ssh -L`",
                address.ip(),
            ));
        }
        Ok(Self(address))
    }
}

impl FromStr for HedgeDelay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        duration(text).map(|delay| Self(Some(delay))).map_err(|error| format!("{error}, or `off`"))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a duration above zero: a delay or an age of nothing is a slip, never a wish.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a duration above zero with its unit, for example `70ms` or `1s`".into()),
    }
}

#[cfg(test)]
mod tests;
