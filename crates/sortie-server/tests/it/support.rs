//! What the tests of this binary share.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Batch, Cluster, Frame, Metrics, Ran, Server, Wire, program, run};
use tempfile::NamedTempFile;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::relay::start;

/// The server under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sortie");

/// How many users an embedded cluster has.
pub(crate) const USERS: u32 = 100_000;

/// How often a test that measures may try: other programs on this machine can only make a round
/// worse, so the best one counts.
pub(crate) const ROUNDS_MAX: usize = 3;

/// Longer than it takes to look at the shards' catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(20);

static MACHINE: RwLock<()> = RwLock::const_new(());

/// Until the guard goes, no other test of this binary runs: for those that measure time.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Until the guard goes, no test that measures time runs.
pub(crate) async fn among_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// Starts `sortie serve --embedded ARGUMENTS`.
pub(crate) async fn serve(arguments: &[&str]) -> Server {
    Server::start(BINARY, &[&["--embedded"], arguments].concat()).await
}

/// Runs psql with `arguments` against a server: no settings of the user, rows bare.
pub(crate) async fn psql(server: SocketAddr, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-A", "-t", "-w", "-h", &server.ip().to_string()]);
    command.args(["-p", &server.port().to_string(), "-U", "tester", "-d", "postgres"]);
    command.args(arguments);
    run(command).await
}

/// Its answer must be that.
#[track_caller]
pub(crate) fn answers(ran: &Ran, expected: &str) {
    assert_eq!((ran.success, ran.out.trim()), (true, expected), "{}", ran.err);
}

/// It must have been told no, for this reason.
#[track_caller]
pub(crate) fn refuses(ran: &Ran, expected: &str) {
    assert!(!ran.success && ran.err.contains(expected), "{expected}: {}{}", ran.out, ran.err);
}

/// Opens `count` connections at once.
pub(crate) async fn connect(server: SocketAddr, count: usize) -> Vec<Wire> {
    let mut opening: JoinSet<Wire> = (0..count).map(|_| Wire::connect(server)).collect();
    let mut open = Vec::with_capacity(count);
    while let Some(wire) = opening.join_next().await {
        open.push(wire.unwrap());
    }
    open
}

/// Sends the same batch on every connection at the same time; the connections come back.
pub(crate) async fn all_ask(wires: Vec<Wire>, batch: &Batch) -> (Vec<Wire>, Vec<Vec<Frame>>) {
    let ask = |mut wire: Wire| {
        let batch = batch.clone();
        async move {
            let answer = wire.ask(&batch).await;
            (wire, answer)
        }
    };
    let mut asking: JoinSet<_> = wires.into_iter().map(ask).collect();
    let mut answered = Vec::new();
    while let Some(one) = asking.join_next().await {
        answered.push(one.unwrap());
    }
    answered.into_iter().unzip()
}

/// What happened between two scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spent {
    /// Statements that reached a replica.
    pub(crate) statements: f64,
    /// Those of them that were hedges.
    pub(crate) hedges: f64,
    pub(crate) leaders: f64,
    pub(crate) followers: f64,
}

pub(crate) fn spent(before: &Metrics, after: &Metrics) -> Spent {
    let grew = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
    Spent {
        statements: grew("sortie_backend_statements_total", &[]),
        hedges: grew("sortie_hedges_total", &[]),
        leaders: grew("sortie_flights_total", &["role=\"leader\""]),
        followers: grew("sortie_flights_total", &["role=\"follower\""]),
    }
}

/// The rows that every embedded cluster holds, for a user who may only read, as sortie's may.
pub(crate) fn sample_data() -> String {
    let mut script = "CREATE ROLE tester LOGIN;\n\
        ALTER ROLE tester SET default_transaction_read_only = on;\n\
        CREATE TABLE users (user_id int8 PRIMARY KEY, name text NOT NULL, balance int8 NOT NULL);\n\
        GRANT ALL ON users TO tester;\n\
        COPY users FROM STDIN;\n"
        .to_owned();
    for id in 1..=USERS {
        let (name, balance) = (sortie_sqlite::name(id), sortie_sqlite::balance(id));
        writeln!(script, "{id}\t{name}\t{balance}").unwrap();
    }
    script + "\\.\n"
}

/// Some ids whose rows lie on a shard of the cluster in `data`, smallest first.
pub(crate) fn ids_on(data: &Path, shard: usize, count: usize) -> Vec<i64> {
    let file = rusqlite::Connection::open(replica_file(data, shard, 0)).unwrap();
    let mut ids = file.prepare("SELECT user_id FROM users ORDER BY 1 LIMIT ?1").unwrap();
    let ids = ids.query_map([i64::try_from(count).unwrap()], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

/// The SQLite file of one replica.
pub(crate) fn replica_file(data: &Path, shard: usize, replica: usize) -> std::path::PathBuf {
    data.join(format!("shard-{shard}-replica-{replica}.sqlite"))
}

/// The value that `share` of the sample is not above: nearest rank.
pub(crate) fn quantile(sample: &mut [Duration], share: f64) -> Duration {
    sample.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sample of some hundred"
    )]
    let rank = (share * sample.len() as f64).ceil() as usize;
    sample[rank.clamp(1, sample.len()) - 1]
}

/// A small generator of numbers that look random and are the same at every run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides` (`SplitMix64`).
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

/// An endpoint in front of two shards, and a session there, once their tables are known.
pub(crate) async fn before_shards(cluster: &Cluster) -> (Server, NamedTempFile, Wire) {
    let url = |shard| format!("postgres://reader@{}/sortie", cluster.primary(shard).address());
    let (server, config) = start(&[url(0), url(1)], 5).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let began = Instant::now();
    while wire.simple("SELECT count(*) FROM users").await.iter().any(|it| it.report().is_some()) {
        assert!(began.elapsed() < LOOKED_MAX, "the catalogs are not read");
        sleep(Duration::from_millis(50)).await;
    }
    (server, config, wire)
}
