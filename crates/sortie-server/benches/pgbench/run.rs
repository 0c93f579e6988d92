//! One run of pgbench, and what came of it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{Postgres, Ran, program, run};
use tempfile::TempDir;

use crate::proxy::Proxy;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    Seconds(u32),
    /// Per client.
    Transactions(u32),
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) tps: f64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time of the proxy per transaction, in microseconds.
    pub(crate) cpu: f64,
}

/// Makes the role, the database and pgbench's tables: 1,000,000 rows.
pub(crate) async fn fill(postgres: &Postgres) {
    postgres.script("CREATE ROLE bench LOGIN;\nCREATE DATABASE bench OWNER bench;\n").await;
    let mut command = command(postgres.listen());
    command.args(["-i", "-q", "-s", "10", "bench"]);
    done(run(command).await);
}

/// A way of running pgbench.
#[derive(Debug)]
pub(crate) struct Pgbench {
    /// Its query mode.
    pub(crate) mode: &'static str,
    /// Its own select-only script if there is none.
    pub(crate) script: Option<&'static str>,
    pub(crate) clients: usize,
    pub(crate) load: Load,
}

impl Pgbench {
    /// Runs it. The first `warm_up` seconds do not count, or as many transactions of each client if
    /// the load is in transactions.
    pub(crate) async fn run(&self, proxy: &Proxy, options: &str, warm_up: u32) -> Figures {
        let home = TempDir::with_prefix("pgbench-").unwrap();
        let mut command = command(proxy.listen());
        command.env("PGOPTIONS", options);
        command.args(["-n", "-M", self.mode, "-c", &self.clients.to_string()]);
        if let Some(script) = self.script {
            let file = home.path().join("script.sql");
            fs::write(&file, script).unwrap();
            command.arg("-f").arg(file);
        } else {
            command.arg("-S");
        }
        command.args(["-j", if self.clients == 1 { "1" } else { "2" }]);
        match self.load {
            Load::Seconds(count) => command.args(["-T", &(warm_up + count).to_string()]),
            Load::Transactions(count) => command.args(["-t", &(warm_up + count).to_string()]),
        };
        command.arg("-l").arg(format!("--log-prefix={}", home.path().join("log").display()));
        command.arg("bench");
        let before = proxy.cpu_time();
        let out = done(run(command).await);
        assert!(out.contains("number of failed transactions: 0 "), "{out}");
        Figures::of(transactions(&home), self.load, proxy.cpu_time() - before)
    }
}

impl Figures {
    /// From all transactions of a run, and the seconds of CPU time that the proxy took for them.
    fn of(mut all: Vec<Transaction>, load: Load, spent: f64) -> Self {
        let cpu = spent / u32::try_from(all.len()).map(f64::from).unwrap() * 1e6;
        let end = all.iter().map(|it| it.ended).fold(0.0, f64::max);
        if let Load::Seconds(count) = load {
            all.retain(|it| it.ended > end - f64::from(count));
        }
        let begin = all.iter().map(|it| it.ended).fold(end, f64::min);
        let tps = u32::try_from(all.len()).map(f64::from).unwrap() / (end - begin).max(1e-6);
        let took = |percent| quantile(all.iter().map(|it| it.took), percent);
        let (p50, p99) = (took(50), took(99));
        Self { tps, p50, p99, cpu }
    }
}

/// One line of pgbench's logs.
struct Transaction {
    /// In microseconds.
    took: f64,
    /// In seconds.
    ended: f64,
}

fn transactions(home: &TempDir) -> Vec<Transaction> {
    let mut transactions = Vec::new();
    for log in fs::read_dir(home.path()).unwrap() {
        let log = log.unwrap();
        if !log.file_name().as_encoded_bytes().starts_with(b"log") {
            continue;
        }
        for line in fs::read_to_string(log.path()).unwrap().lines() {
            let columns: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
            let [_client, _number, took, _script, seconds, micros, ..] = columns[..] else {
                panic!("a line of pgbench's log: {line}")
            };
            transactions.push(Transaction { took, ended: seconds + micros / 1e6 });
        }
    }
    transactions
}

fn command(target: SocketAddr) -> Command {
    let mut command = Command::new(program("pgbench"));
    command.args(["-h", &target.ip().to_string(), "-p", &target.port().to_string(), "-U", "bench"]);
    command
}

fn done(ran: Ran) -> String {
    assert!(ran.success, "{}{}", ran.out, ran.err);
    ran.out
}

/// The value below which so many percent of them are, between two of them if need be.
pub(crate) fn quantile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() - 1) * percent;
    let (below, above) = (values[place / 100], values[place.div_ceil(100)]);
    let part = u32::try_from(place % 100).map(f64::from).unwrap() / 100.0;
    below + (above - below) * part
}
