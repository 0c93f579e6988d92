//! The command line: what can be asked for, and refusals that say what to do instead.

mod lab;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use sortie_sqlite::{Address, Latency};

use crate::config::{self, Config, ConfigError, Loaded, Mode};
use crate::logs::LogFormat;
use crate::said::{HedgeDelay, Listen, Loopback, duration};

pub(crate) use lab::Lab;

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
    Serve(Box<Serve>),
    /// Connect to every configured server, and say what will work and what not
    #[command(after_long_help = CHECKED, after_help = "`--help` says what is checked.")]
    Check(Check),
    /// Make a line of the users file: who may connect, by which password
    #[command(after_long_help = USERS, after_help = "`--help` shows examples.")]
    User(User),
    /// Make a real, sharded, replicated PostgreSQL cluster, with sortie in front of it
    #[command(after_long_help = lab::EXAMPLES, after_help = "`--help` shows examples.")]
    Lab(Lab),
}

/// `sortie check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) servers: Servers,

    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// How long a server or a table may take
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `sortie user`.
#[derive(Args, Debug)]
pub(crate) struct User {
    /// The role that clients come as
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Which PostgreSQL servers: a file, or URLs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Servers {
    /// The clusters of a configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "database", help_heading = START)]
    pub(crate) config: Option<PathBuf>,

    /// A replica of one database, without a file: repeat it for each replica
    #[arg(short, long, value_name = "URL", help_heading = START)]
    pub(crate) database: Vec<String>,
}

/// `sortie serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Serve sample data: SQLite files as shards and replicas, no database needed
    #[arg(long, help_heading = START, conflicts_with_all = ["config", "database"])]
    pub(crate) embedded: bool,

    #[command(flatten)]
    pub(crate) servers: Servers,

    /// Where Postgres clients connect; loopback only unless a file says `auth = "scram"`, port 0
    /// takes a free one [default: the file's, or 127.0.0.1:6440]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Listen>,

    /// Where `/metrics`, `/healthz` and `/readyz` are; loopback only [default: the file's, or
    /// 127.0.0.1:6441]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<Loopback>,

    /// Connections served at a time; one more is told to come back later [default: 900]
    #[arg(long, value_name = "COUNT", conflicts_with = "config")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections_max: Option<u32>,

    /// What is done with statements that could be shared [default: share]
    ///
    /// With a file it says so itself, for each cluster, and for each role if it is to differ.
    #[arg(long, value_name = "MODE", conflicts_with_all = ["config", "embedded"])]
    pub(crate) mode: Option<Mode>,

    /// How long a replica may stay silent before the next one is asked, or `off` [default: 70ms]
    #[arg(long, value_name = "off|DURATION", conflicts_with = "config")]
    pub(crate) hedge: Option<HedgeDelay>,

    /// Age at which a query that others wait for takes no more company and is asked anew
    /// [default: 5s]
    #[arg(long, value_name = "DURATION", conflicts_with = "config", value_parser = duration)]
    pub(crate) soft_age: Option<Duration>,

    /// How log lines are written: for people, or a JSON object on each line [default: the file's,
    /// or text]
    ///
    /// `RUST_LOG` says what is logged: `error`, `warn`, `info` (without it) or `debug`.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Keep the files here, and use them again next time; without it they are temporary
    #[arg(long, value_name = "DIR", requires = "embedded", help_heading = EMBEDDED)]
    pub(crate) data: Option<PathBuf>,

    /// How many users there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, help_heading = EMBEDDED)]
    #[arg(conflicts_with_all = ["config", "database"])]
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

const START: &str = "Where the rows are (one of)";
const EMBEDDED: &str = "Embedded cluster";

const EXAMPLES: &str = "\
Examples:
  sortie serve -c sortie.toml
      the clusters of a file; docs/sortie.toml shows all keys, `sortie check` tests it
  sortie serve -d postgres://reader@10.0.0.2/bank -d postgres://reader@10.0.0.3/bank
      two replicas of one database, as database `bank`; PGPASSWORD is their password
  sortie serve -d postgres://reader@10.0.0.2/bank --mode observe
      relays everything to it, and says what sharing would save: SHOW WHY, and at the end
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
      shard 1 fails, shard 0 is slow: a question for both fails at once, with the shard's name
Signals:
  SIGHUP reads the file again and drops no connection; SIGTERM and Ctrl-C let running statements
  end first, a second one ends at once";

const CHECKED: &str = "\
What is checked:
  servers   answer, log in, play the configured part; those of a shard are copies of one another
  reads     what synchronous_commit and synchronous_standby_names promise for reads from replicas
  works     cancelling, fencing by a position, hedging; poolers and proxies in between
  tables    are there, alike on every shard, rows where PostgreSQL's hash puts them
Exit status: 0 if everything that is needed works, 1 if not, 2 if the command can't be understood.

Examples:
  sortie check -c sortie.toml
  sortie check -d postgres://reader@10.0.0.2/bank -d postgres://reader@10.0.0.3/bank --json";

const USERS: &str = "\
The password is the first line of the standard input; it is not shown, kept or logged. The line
that is printed belongs into the file that `users` names in the configuration. It is what
PostgreSQL keeps of a password, too: `SELECT rolpassword FROM pg_authid` has the same.

Examples:
  read -rs PASSWORD; printf %s \"$PASSWORD\" | sortie user alice >> users.txt; chmod 600 users.txt
  sortie user alice < alice.password >> users.txt";

const WAYS: &str = "`sortie serve` does not guess what to serve. There are three ways to start:
  sortie serve --embedded          sample data in SQLite files: no database, no configuration
  sortie serve -c sortie.toml      the clusters of a configuration file (docs/sortie.toml)
  sortie serve -d postgres://...   replicas of one database, a -d for each: no file";

impl Command {
    /// Checks what can't be said in the definition.
    ///
    /// # Errors
    ///
    /// A usage error that says what to do instead.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        match self {
            Self::Serve(options) => options.check(),
            Self::Check(options) => options.check(),
            Self::User(_) | Self::Lab(_) => Ok(()),
        }
    }

    /// How log lines are to be written. It has to be known before a file is read with all that may
    /// be said of it.
    pub(crate) fn log_format(&self) -> LogFormat {
        let Self::Serve(options) = self else { return LogFormat::Text };
        let in_file = || config::log_format(options.servers.config.as_deref()?);
        options.log_format.or_else(in_file).unwrap_or_default()
    }
}

impl Serve {
    /// Checks that it is said what to serve.
    ///
    /// # Errors
    ///
    /// A usage error that lists the ways to start.
    fn check(&self) -> Result<(), clap::Error> {
        if !self.embedded && self.servers.is_empty() {
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, WAYS));
        }
        // A file says how clients prove who they are, and is read later.
        let mut flags = Config::empty();
        self.override_in(&mut flags);
        if let (None, Some(what)) = (&self.servers.config, flags.too_open()) {
            let text = format!("--listen {}: {what}", flags.listen);
            return Err(Cli::command().error(ErrorKind::ValueValidation, text));
        }
        Ok(())
    }

    /// Lets the flags that were given go before a configuration.
    pub(crate) fn override_in(&self, config: &mut Config) {
        config.listen = self.listen.map_or(config.listen, |Listen(listen)| listen);
        config.admin = self.admin.unwrap_or(config.admin);
        config.connections_max = self.connections_max.unwrap_or(config.connections_max);
        config.log_format = self.log_format.unwrap_or(config.log_format);
        for cluster in &mut config.clusters {
            cluster.hedge = self.hedge.map_or(cluster.hedge, |HedgeDelay(delay)| delay);
            cluster.soft_age = self.soft_age.unwrap_or(cluster.soft_age);
            if let Some(mode) = self.mode {
                cluster.mode = mode;
                cluster.users.iter_mut().for_each(|user| user.mode = mode);
            }
        }
    }
}

impl Check {
    /// Checks that it is said what to check.
    ///
    /// # Errors
    ///
    /// A usage error that says how.
    fn check(&self) -> Result<(), clap::Error> {
        if self.servers.is_empty() {
            let text = "what is to be checked? `sortie check -c sortie.toml`, or \
                        `sortie check -d postgres://...`, a -d for each replica";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, text));
        }
        Ok(())
    }
}

impl Servers {
    /// Reads what is said about them, and the password that it lacks from `PGPASSWORD`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        let password = std::env::var("PGPASSWORD").ok();
        match &self.config {
            Some(file) => config::load(file, password),
            None => config::from_urls(&self.database, password),
        }
    }

    fn is_empty(&self) -> bool {
        self.config.is_none() && self.database.is_empty()
    }
}

#[cfg(test)]
mod tests;
