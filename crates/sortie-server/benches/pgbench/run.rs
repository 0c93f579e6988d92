//! One run of pgbench, and what came of it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{Postgres, Ran, program, run};
use tempfile::TempDir;

/// Transactions of each client that don't count: enough for connections and plans.
const WARM_UP: u32 = 30;

/// Before seconds are measured, at least so many go by: a server's process that is new takes a page
/// fault for nearly every page that it meets, for as long as it does not know most of them.
const WARM_UP_SECONDS: u32 = 10;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    Seconds(u32),
    /// Per client.
    Transactions(u32),
}

impl Load {
    fn warm_up(self) -> Self {
        match self {
            Self::Seconds(count) => Self::Seconds(count.max(WARM_UP_SECONDS)),
            Self::Transactions(count) => Self::Transactions(count.min(WARM_UP)),
        }
    }
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
    /// Runs it once to warm everything up, and once more with `cpu` read around it.
    pub(crate) async fn run(
        &self,
        target: SocketAddr,
        options: &str,
        cpu: impl Fn() -> f64,
    ) -> Figures {
        let home = TempDir::with_prefix("pgbench-").unwrap();
        let script = home.path().join("script.sql");
        fs::write(&script, self.script.unwrap_or_default()).unwrap();
        let bench = |load: Load| {
            let mut command = command(target);
            command.env("PGOPTIONS", options);
            command.args(["-n", "-M", self.mode, "-c", &self.clients.to_string()]);
            match self.script {
                Some(_) => command.arg("-f").arg(&script),
                None => command.arg("-S"),
            };
            command.args(["-j", if self.clients == 1 { "1" } else { "2" }]);
            match load {
                Load::Seconds(count) => command.args(["-T", &count.to_string()]),
                Load::Transactions(count) => command.args(["-t", &count.to_string()]),
            };
            command
        };
        let mut warm_up = bench(self.load.warm_up());
        warm_up.arg("bench");
        done(run(warm_up).await);
        let mut command = bench(self.load);
        command.arg("-l").arg(format!("--log-prefix={}", home.path().join("log").display()));
        command.arg("bench");
        let before = cpu();
        let out = done(run(command).await);
        Figures::read(&out, &latencies(&home), cpu() - before)
    }
}

impl Figures {
    /// From pgbench's report, its sorted latencies and the seconds of CPU time of the proxy.
    fn read(out: &str, latencies: &[f64], spent: f64) -> Self {
        let number = |line: &str| {
            let rest = out.lines().find_map(|it| it.strip_prefix(line));
            let rest = rest.unwrap_or_else(|| panic!("no line `{line}…`:\n{out}"));
            let digits = rest.split(['/', ' ']).next();
            digits.and_then(|digits| digits.parse::<f64>().ok()).unwrap()
        };
        assert!(out.contains("number of failed transactions: 0 "), "{out}");
        let transactions = number("number of transactions actually processed: ");
        let quantile = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        Self {
            tps: number("tps = "),
            p50: quantile(50),
            p99: quantile(99),
            cpu: spent / transactions * 1e6,
        }
    }
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

/// The third column of pgbench's logs, sorted.
fn latencies(logs: &TempDir) -> Vec<f64> {
    let mut latencies = Vec::new();
    for log in fs::read_dir(logs.path()).unwrap() {
        let log = log.unwrap();
        if !log.file_name().as_encoded_bytes().starts_with(b"log") {
            continue;
        }
        let text = fs::read_to_string(log.path()).unwrap();
        let column = text.lines().map(|line| line.split(' ').nth(2).unwrap());
        latencies.extend(column.map(|latency| latency.parse::<f64>().unwrap()));
    }
    latencies.sort_unstable_by(f64::total_cmp);
    latencies
}

/// CPU seconds of a process so far, over all its threads.
pub(crate) fn cpu_time(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let spent =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let nanoseconds = spent.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.sum::<f64>() / 1e9
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
