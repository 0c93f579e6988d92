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
//! within the rounds. The proxies stand as long as the rounds go on, with the connections that they
//! have: a server's process that is new takes a page fault for nearly every page that it meets, for
//! as long as it does not know most of them, and nobody restarts a pooler every few seconds.
//! Whoever comes directly is new each time: its figures count from when its processes are not.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]
#![expect(clippy::print_stdout, reason = "figures are for whoever asked for them")]

mod pgbouncer;
mod plan;
mod proxy;
mod run;
mod work;

use std::collections::BTreeMap;

use sortie_testkit::Postgres;

use crate::plan::Plan;
use crate::proxy::Proxy;
use crate::run::{Figures, Pgbench, fill};
use crate::work::{Target, Work};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = Plan::from_arguments();
    let postgres = Postgres::start().await;
    fill(&postgres).await;
    println!("pgbench, {} rounds of {:?}", plan.rounds, plan.load);
    for &work in &plan.works {
        println!("\n{work}");
        for &clients in &plan.clients {
            report(clients, &compare(&plan, work, &postgres, clients).await);
        }
    }
    postgres.stop().await;
}

/// All rounds of one comparison.
async fn compare(
    plan: &Plan,
    work: Work,
    postgres: &Postgres,
    clients: usize,
) -> BTreeMap<Target, Vec<Figures>> {
    let bench = Pgbench { mode: work.mode(), script: work.script(), clients, load: plan.load };
    let mut proxies = Vec::new();
    for target in plan.targets(work) {
        let proxy = Proxy::start(target, postgres.listen(), clients).await;
        bench.run(&proxy, target.options(), plan.warm_up).await;
        proxies.push((target, proxy));
    }
    let mut measured: BTreeMap<Target, Vec<Figures>> = BTreeMap::new();
    for _round in 0..plan.rounds {
        for (target, proxy) in &proxies {
            let warm_up = if *target == Target::Direct { plan.warm_up } else { plan.new_clients };
            let figures = bench.run(proxy, target.options(), warm_up).await;
            measured.entry(*target).or_default().push(figures);
        }
        proxies.rotate_left(1);
    }
    for (_target, proxy) in proxies {
        proxy.stop().await;
    }
    measured
}

fn report(clients: usize, measured: &BTreeMap<Target, Vec<Figures>>) {
    println!(
        "{clients:>3} clients      TPS            / direct         / PgBouncer              \
         / pipe  p50 us  p99 us  CPU us/tx"
    );
    for (target, figures) in measured {
        let median = |of: fn(&Figures) -> f64| run::quantile(figures.iter().map(of), 50);
        let ratio = |to| ratio(figures, measured.get(&to));
        println!(
            "{:<10} {:>9.0}  {:>18}  {:>18}  {:>18}  {:>6.0}  {:>6.0}  {:>9.1}",
            format!("{target:?}"),
            median(|it| it.tps),
            ratio(Target::Direct),
            ratio(Target::PgBouncer),
            ratio(Target::Pipe),
            median(|it| it.p50),
            median(|it| it.p99),
            median(|it| it.cpu),
        );
    }
}

/// The median of the ratios within the rounds, and their quartiles.
fn ratio(ours: &[Figures], theirs: Option<&Vec<Figures>>) -> String {
    let Some(theirs) = theirs else { return "-".to_owned() };
    let ratio = |percent| {
        run::quantile(ours.iter().zip(theirs).map(|(ours, theirs)| ours.tps / theirs.tps), percent)
    };
    format!("{:.3} ({:.2}-{:.2})", ratio(50), ratio(25), ratio(75))
}
