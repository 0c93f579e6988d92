//! The plan of a run, from the command line.

use crate::pgbouncer;
use crate::run::Load;
use crate::work::{Target, Work};

/// How often, how long, and with how many clients.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) works: Vec<Work>,
    pub(crate) rounds: usize,
    pub(crate) load: Load,
    pub(crate) clients: Vec<usize>,
    /// What does not count of the run before the first round: seconds or transactions, as the load.
    pub(crate) warm_up: u32,
    /// What does not count of each run: clients connect and prepare.
    pub(crate) new_clients: u32,
    /// PgBouncer can be measured.
    has_peer: bool,
}

impl Plan {
    /// Reads the arguments; cargo adds `--bench` when figures are asked for. Without it, one short
    /// round with few clients shows that every path works, without figures that would mean
    /// anything; there PgBouncer may be missing.
    pub(crate) fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let mut plan = if arguments.iter().any(|argument| argument == "--bench") {
            Self {
                works: vec![Work::Hop],
                rounds: 7,
                load: Load::Seconds(3),
                clients: vec![1, 64],
                warm_up: 15,
                new_clients: 1,
                has_peer: true,
            }
        } else {
            Self {
                works: [&[Work::Hop, Work::Observed], &Work::HOT[..]].concat(),
                rounds: 1,
                load: Load::Transactions(30),
                clients: vec![1, 4],
                warm_up: 10,
                new_clients: 0,
                has_peer: pgbouncer::is_installed(),
            }
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "hop" => continue,
                "observe" => {
                    plan.works = vec![Work::Observed];
                    continue;
                }
                "hot" => {
                    (plan.works, plan.clients) = (Work::HOT.to_vec(), vec![64]);
                    continue;
                }
                _ => {}
            }
            let value = arguments.next().unwrap_or_else(|| panic!("{option} needs a value"));
            match option.as_str() {
                "--rounds" => plan.rounds = value.parse().unwrap(),
                "--seconds" => plan.load = Load::Seconds(value.parse().unwrap()),
                "--clients" => {
                    plan.clients = value.split(',').map(|count| count.parse().unwrap()).collect();
                }
                other => {
                    panic!("{other} is none of hop, observe, hot, --rounds, --seconds, --clients")
                }
            }
        }
        plan
    }

    pub(crate) fn targets(&self, work: Work) -> Vec<Target> {
        let mut targets = work.targets();
        targets.retain(|target| self.has_peer || *target != Target::PgBouncer);
        targets
    }
}
