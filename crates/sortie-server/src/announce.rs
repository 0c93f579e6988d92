//! The first lines: what was made, where it listens, what to type next.
//!
//! This is all that the server writes to standard output; everything later is a log line on
//! standard error.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::logs;

/// A server that is about to answer.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    pub(crate) users: u32,
    pub(crate) shards: usize,
    pub(crate) replicas: usize,
    pub(crate) dir: PathBuf,
    /// Whether the files were written just now.
    pub(crate) is_new: bool,
    pub(crate) is_temporary: bool,
    /// How long making or opening the cluster took.
    pub(crate) took: Duration,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Announcement {
    /// Says it.
    pub(crate) fn print(&self) {
        logs::tell(self);
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, shards, replicas, dir, took, listen, admin, .. } = self;
        let (host, port) = (listen.ip(), listen.port());
        let made = if self.is_new { "created" } else { "opened" };
        let kept = if self.is_temporary { ", removed at the end" } else { "" };
        writeln!(
            f,
            "{made} an embedded cluster in {took:.1?}: {users} users, {shards} shards x \
             {replicas} replicas, in {}{kept}",
            dir.display(),
        )?;
        writeln!(f, "postgres protocol on {listen}, no password; admin on http://{admin}/")?;
        writeln!(f)?;
        writeln!(f, "  # ask")?;
        writeln!(
            f,
            "  psql -h {host} -p {port} -U reader -d sortie \
             -c 'SELECT * FROM users WHERE user_id = 42'"
        )?;
        writeln!(f, "  # 50 clients, 1000 statements; then see how few of them reached a replica")?;
        write!(
            f,
            "  echo 'SELECT count(*), sum(balance) FROM users' | pgbench -n -f - -c 50 -t 20 \
             -h {host} -p {port} -U reader sortie; \
             curl -s http://{admin}/metrics | grep -E '(client|backend)_statements_total|flights_total'"
        )
    }
}
