//! The last lines before a lab serves: where everything is, and what to type to see what happens.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use sortie::ShardMap;
use sortie_lab::{Binaries, Lab};

/// The user of the examples.
const USER: i64 = 42;

/// What is said about a lab.
#[derive(Clone, Debug)]
pub(super) struct Guide {
    listen: SocketAddr,
    admin: SocketAddr,
    psql: String,
    pgbench: String,
    /// Names and addresses.
    servers: Vec<(String, SocketAddr)>,
    /// The primary of the examples' user.
    primary: SocketAddr,
    /// The process of a standby of the examples' user, when there is another one.
    standby: Option<u32>,
}

impl Guide {
    pub(super) fn new(lab: &Lab, listen: SocketAddr, admin: SocketAddr) -> Self {
        let programs = lab.binaries();
        #[expect(clippy::cast_possible_truncation, reason = "a lab has at most 16 shards")]
        let map = ShardMap::pg_hash(lab.shards().len() as u32);
        let shard = &lab.shards()[map.shard_of(USER).index() as usize];
        Self {
            listen,
            admin,
            psql: command(programs, "psql"),
            pgbench: command(programs, "pgbench"),
            servers: lab.servers().map(|it| (it.name().to_owned(), it.address())).collect(),
            primary: shard.primary().address(),
            standby: match shard.standbys() {
                [standby, _, ..] => standby.process(),
                _ => None,
            },
        }
    }

    fn psql(&self, address: SocketAddr) -> String {
        let (ip, port) = (address.ip(), address.port());
        format!("{} -h {ip} -p {port} -U reader -d sortie", self.psql)
    }
}

impl fmt::Display for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, admin, pgbench, primary, .. } = self;
        let (ip, port) = (listen.ip(), listen.port());
        let sortie = self.psql(*listen);
        writeln!(f, "\npostgres protocol on {listen}, no password; admin on http://{admin}/\n")?;
        writeln!(f, "  {:<20}{sortie}", "sortie")?;
        for (name, address) in &self.servers {
            writeln!(f, "  {name:<20}{}", self.psql(*address))?;
        }
        writeln!(f, "\n  # a herd: 50 clients, 1000 statements; see how few reached a server")?;
        writeln!(
            f,
            "  echo 'SELECT count(*), sum(balance) FROM users' | {pgbench} -n -f - -c 50 -t 20 \
             -h {ip} -p {port} -U reader sortie; curl -s http://{admin}/metrics | \
             grep -E '^sortie_(client_statements|flights_begun|attempts)_total'"
        )?;
        if let Some(id) = self.standby {
            let family = family(id);
            writeln!(f, "  # a standby that stands still: the answers come from the other")?;
            writeln!(
                f,
                "  kill -STOP {family}; for i in 1 2 3 4; do {sortie} -c '\\timing on' \
                 -c 'SELECT * FROM users WHERE user_id = {USER}'; done; kill -CONT {family}"
            )?;
        }
        writeln!(f, "  # a fresh read right after a write: no standby may be behind")?;
        writeln!(
            f,
            "  for i in 1 2 3; do {} -c 'UPDATE users SET balance = balance + 1 WHERE user_id = \
             {USER} RETURNING balance'; {sortie} -c 'SELECT balance FROM users WHERE user_id = \
             {USER}'; done",
            self.psql(*primary),
        )?;
        write!(f, "\nCtrl-C stops and removes everything")
    }
}

/// A program's name, or its path when the name alone would not find it.
fn command(programs: &Binaries, name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(name).is_file()) {
        return name.to_owned();
    }
    programs.program(name).display().to_string()
}

/// The shell's words for a server and its children: each of those is a session of its own, so no
/// process group has them all.
fn family(id: u32) -> String {
    let listed = format!("/proc/{id}/task/{id}/children");
    if Path::new(&listed).exists() {
        format!("{id} $(cat {listed})")
    } else {
        format!("{id} $(pgrep -P {id})")
    }
}
