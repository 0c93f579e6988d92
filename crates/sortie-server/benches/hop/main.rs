//! What a hop costs: `pgbench -S -M prepared` straight to PostgreSQL, through PgBouncer with
//! session pooling, and through sortie's pipe lane, in turn within each round.
//!
//! Noise of the machine hits all targets of a round, so what counts is the median of the ratios
//! within the rounds. A proxy is started for its run and stopped after it, so that nobody's idle
//! pool sits on the server while somebody else is measured; all of them are warm when it counts.
//!
//! `cargo xtask bench hop [--rounds N] [--seconds N] [--clients 1,64]`. As a test (`cargo test
//! --bench hop`) one short round with few clients shows that every path works, without figures
//! that would mean anything; there PgBouncer may be missing.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]
#![expect(clippy::print_stdout, reason = "figures are for whoever asked for them")]

mod pgbouncer;
mod run;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sortie_testkit::{Postgres, Server};
use tempfile::TempDir;

use crate::pgbouncer::PgBouncer;
use crate::run::{Figures, Load, cpu_time, fill};

const SORTIE: &str = env!("CARGO_BIN_EXE_sortie");

/// Who may be between pgbench and the server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Target {
    Direct,
    PgBouncer,
    Sortie,
}

/// What is measured: how often, how long, and with how many clients.
#[derive(Debug)]
struct Plan {
    rounds: usize,
    load: Load,
    clients: Vec<usize>,
    targets: Vec<Target>,
}

impl Plan {
    fn full() -> Self {
        let targets = vec![Target::Direct, Target::PgBouncer, Target::Sortie];
        Self { rounds: 7, load: Load::Seconds(3), clients: vec![1, 64], targets }
    }

    fn smoke() -> Self {
        let mut plan = Self::full();
        (plan.rounds, plan.load, plan.clients) = (1, Load::Transactions(50), vec![1, 4]);
        if !pgbouncer::is_installed() {
            plan.targets.retain(|target| *target != Target::PgBouncer);
        }
        plan
    }

    /// Reads the arguments; cargo adds `--bench` when figures are asked for.
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let figures = arguments.iter().any(|argument| argument == "--bench");
        let mut plan = if figures { Self::full() } else { Self::smoke() };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(option) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{option} needs a value"));
            match option.as_str() {
                "--rounds" => plan.rounds = value.parse().unwrap(),
                "--seconds" => plan.load = Load::Seconds(value.parse().unwrap()),
                "--clients" => {
                    plan.clients = value.split(',').map(|count| count.parse().unwrap()).collect();
                }
                other => panic!("{other} is no option: --rounds, --seconds, --clients"),
            }
        }
        plan
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = Plan::from_arguments();
    let postgres = Postgres::start().await;
    fill(&postgres).await;
    println!("hop: pgbench -n -S -M prepared, {} rounds of {:?}", plan.rounds, plan.load);
    for &clients in &plan.clients {
        let mut measured: BTreeMap<Target, Vec<Figures>> = BTreeMap::new();
        for round in 0..plan.rounds {
            let mut targets = plan.targets.clone();
            targets.rotate_left(round % plan.targets.len());
            for target in targets {
                let figures = measure(target, &postgres, clients, plan.load).await;
                measured.entry(target).or_default().push(figures);
            }
        }
        report(clients, &measured);
    }
    postgres.stop().await;
}

/// One run of one target, which is started and stopped around it.
async fn measure(target: Target, postgres: &Postgres, clients: usize, load: Load) -> Figures {
    let server = postgres.listen();
    match target {
        Target::Direct => run::pgbench(server, "", clients, load, || 0.0).await,
        Target::PgBouncer => {
            let proxy = PgBouncer::start(server, clients).await;
            let cpu = || cpu_time(proxy.id());
            run::pgbench(proxy.listen(), "", clients, load, cpu).await
        }
        Target::Sortie => {
            let home = TempDir::with_prefix("hop-").unwrap();
            let file = home.path().join("sortie.toml");
            std::fs::write(&file, configuration(server, clients)).unwrap();
            let proxy = Server::start(SORTIE, &["-c", file.to_str().unwrap()]).await;
            let cpu = || cpu_time(proxy.id());
            let lane = "-c sortie.lane=pipe";
            let figures = run::pgbench(proxy.listen(), lane, clients, load, cpu).await;
            proxy.stop().await;
            figures
        }
    }
}

/// As many connections to the server as PgBouncer may have.
fn configuration(server: SocketAddr, clients: usize) -> String {
    format!(
        "auth = \"trust\"\n\
         [clusters.bench.pool]\n\
         connections_max = {clients}\n\
         [[clusters.bench.shards]]\n\
         replicas = [\"postgres://bench@{server}/bench\"]\n"
    )
}

fn report(clients: usize, measured: &BTreeMap<Target, Vec<Figures>>) {
    println!();
    println!(
        "{clients:>3} clients          TPS  / direct  / PgBouncer   p50 us   p99 us  CPU us/tx"
    );
    for (target, figures) in measured {
        let median = |of: fn(&Figures) -> f64| run::median(figures.iter().map(of));
        println!(
            "{:<13} {:>10.0}  {:>8}  {:>11}  {:>7.0}  {:>7.0}  {:>9.1}",
            format!("{target:?}"),
            median(|it| it.tps),
            ratio(figures, measured.get(&Target::Direct)),
            ratio(figures, measured.get(&Target::PgBouncer)),
            median(|it| it.p50),
            median(|it| it.p99),
            median(|it| it.cpu),
        );
    }
}

/// The median of the ratios within the rounds, as text.
fn ratio(ours: &[Figures], theirs: Option<&Vec<Figures>>) -> String {
    let Some(theirs) = theirs else { return "-".to_owned() };
    let pairs = ours.iter().zip(theirs);
    format!("{:.3}", run::median(pairs.map(|(ours, theirs)| ours.tps / theirs.tps)))
}
