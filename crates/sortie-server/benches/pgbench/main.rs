//! pgbench straight to PostgreSQL, through PgBouncer with session pooling, and through sortie, in
//! turn within each round.
//!
//! | command | what it tells |
//! |---|---|
//! | `cargo xtask bench hop` | what a hop costs: `pgbench -S -M prepared` through the pipe lane |
//! | `cargo xtask bench observe` | the same, observed: what `mode = "observe"` adds to that |
//! | `cargo xtask bench hot` | what sharing brings: hot reads, and cheap ones that never meet |
//!
//! Noise of the machine hits all targets of a round, so what counts is the median of the ratios
//! within the rounds. A proxy is started for its run and stopped after it, so that nobody's idle
//! pool sits on the server while somebody else is measured; all of them are warm when it counts.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]
#![expect(clippy::print_stdout, reason = "figures are for whoever asked for them")]

mod pgbouncer;
mod plan;
mod run;
mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sortie_testkit::{Postgres, Server};
use tempfile::TempDir;

use crate::pgbouncer::PgBouncer;
use crate::plan::Plan;
use crate::run::{Figures, Load, Pgbench, cpu_time, fill};
use crate::work::{Target, Work};

const SORTIE: &str = env!("CARGO_BIN_EXE_sortie");

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = Plan::from_arguments();
    let postgres = Postgres::start().await;
    fill(&postgres).await;
    println!("pgbench, {} rounds of {:?}", plan.rounds, plan.load);
    for &work in &plan.works {
        println!("\n{work}");
        for &clients in &plan.clients {
            let mut measured: BTreeMap<Target, Vec<Figures>> = BTreeMap::new();
            for round in 0..plan.rounds {
                let mut targets = plan.targets(work);
                let turn = round % targets.len();
                targets.rotate_left(turn);
                for target in targets {
                    let figures = measure(work, target, &postgres, clients, plan.load).await;
                    measured.entry(target).or_default().push(figures);
                }
            }
            report(clients, &measured);
        }
    }
    postgres.stop().await;
}

/// One run of one target, which is started and stopped around it.
async fn measure(
    work: Work,
    target: Target,
    postgres: &Postgres,
    clients: usize,
    load: Load,
) -> Figures {
    let server = postgres.listen();
    let bench = Pgbench { mode: work.mode(), script: work.script(), clients, load };
    match target {
        Target::Direct => bench.run(server, target.options(), || 0.0).await,
        Target::PgBouncer => {
            let proxy = PgBouncer::start(server, clients).await;
            let cpu = || cpu_time(proxy.id());
            bench.run(proxy.listen(), target.options(), cpu).await
        }
        Target::Pipe | Target::Observe | Target::Running | Target::Fresh => {
            let home = TempDir::with_prefix("pgbench-").unwrap();
            let file = home.path().join("sortie.toml");
            std::fs::write(&file, configuration(server, clients, target.mode())).unwrap();
            let proxy = Server::start(SORTIE, &["-c", file.to_str().unwrap()]).await;
            let cpu = || cpu_time(proxy.id());
            let figures = bench.run(proxy.listen(), target.options(), cpu).await;
            proxy.stop().await;
            figures
        }
    }
}

/// As many connections to the server as PgBouncer may have.
fn configuration(server: SocketAddr, clients: usize, mode: &str) -> String {
    format!(
        "auth = \"trust\"\n\
         [clusters.bench]\n\
         mode = \"{mode}\"\n\
         [clusters.bench.pool]\n\
         connections_max = {clients}\n\
         [[clusters.bench.shards]]\n\
         replicas = [\"postgres://bench@{server}/bench\"]\n"
    )
}

fn report(clients: usize, measured: &BTreeMap<Target, Vec<Figures>>) {
    println!(
        "{clients:>3} clients          TPS  / direct  / PgBouncer  / pipe   p50 us   p99 us  \
         CPU us/tx"
    );
    for (target, figures) in measured {
        let median = |of: fn(&Figures) -> f64| run::median(figures.iter().map(of));
        println!(
            "{:<13} {:>10.0}  {:>8}  {:>11}  {:>6}  {:>7.0}  {:>7.0}  {:>9.1}",
            format!("{target:?}"),
            median(|it| it.tps),
            ratio(figures, measured.get(&Target::Direct)),
            ratio(figures, measured.get(&Target::PgBouncer)),
            ratio(figures, measured.get(&Target::Pipe)),
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
