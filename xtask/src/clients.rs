//! `cargo xtask clients`: the tests that drivers ship, against PostgreSQL and through sortie.
//!
//! They take minutes, and come from source packages that nobody else here needs: so they are no
//! part of `cargo xtask test`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::leftovers::Watch;
use crate::needs::{self, Install};
use crate::step::{Outcome, Steps, cargo, read};

const FOLDER: &str = "target/clients-suites";
const SOURCES: &str = "tests/clients/suites.txt";
const PYTHON: &str = "target/clients/bin/python";
/// What runs the tests, and what they import.
const RUNNERS: [&str; 3] = ["pytest==8.4.2", "pytz==2026.6", "distro==1.9.0"];

pub(crate) fn run() -> Outcome {
    let steps = Steps::new("clients");
    needs::provide(&steps, Install::Allowed)?;
    provide(&steps)?;
    let watch = Watch::start()?;
    let mut tests = cargo(["test", "-p", "sortie-server", "--all-features", "--test", "it"]);
    tests.args(["clients::suites::", "--", "--ignored", "--nocapture", "--test-threads=1"]);
    watch.mark(&mut tests);
    steps.step("drivers' own tests", &mut tests)?;
    steps.check("nothing is left behind", "cargo xtask clients", || watch.finish())?;
    steps.done();
    Ok(())
}

fn provide(steps: &Steps) -> Outcome {
    fs::create_dir_all(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    if !Path::new(FOLDER).join("site/pytest").is_dir() {
        let mut pip = pip("install");
        pip.args(["--only-binary", ":all:", "--target"]).arg(format!("{FOLDER}/site"));
        steps.step("pytest", pip.args(RUNNERS))?;
    }
    let sources = read(SOURCES)?;
    for source in sources.lines().filter(|line| !line.starts_with('#')) {
        let (name, version) = source.split_once("==").ok_or(format!("{source}: no version"))?;
        let archive = format!("{FOLDER}/{name}-{version}.tar.gz");
        if Path::new(&archive).is_file() {
            continue;
        }
        let mut pip = pip("download");
        pip.args(["--no-deps", "--no-binary", name, "--dest", FOLDER, source]);
        steps.step(&format!("source of {name}"), &mut pip)?;
        let mut tar = Command::new("tar");
        steps.step("unpacked", tar.args(["-xzf", &archive, "-C", FOLDER]))?;
    }
    Ok(())
}

fn pip(verb: &str) -> Command {
    let mut pip = Command::new(PYTHON);
    pip.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check"]);
    pip
}
