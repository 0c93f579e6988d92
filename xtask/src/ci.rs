//! `cargo xtask ci`: everything that must hold besides the tests.

use crate::step::{Outcome, Steps, cargo};
use crate::{api, licences, tidy};

/// What people take by itself.
const PACKAGES: [&str; 6] =
    ["sortie", "sortie-lab", "sortie-postgres", "sortie-redis", "sortie-sqlite", "sortie-server"];

pub(crate) fn run() -> Outcome {
    let steps = Steps::new("ci");
    steps.step("format", &mut cargo(["fmt", "--all", "--check"]))?;
    steps.check("tidy", "cargo xtask tidy", tidy::run)?;
    steps.check("licences", "cargo xtask licences", licences::run)?;
    steps.check("public API", "cargo xtask api", api::compare)?;
    steps.step(
        "clippy",
        &mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // As whoever takes one of them has it: together they lend each other features.
    for package in PACKAGES {
        let mut alone = cargo(["check", "--quiet", "--all-features", "-p", package]);
        steps.step(&format!("{package} alone"), &mut alone)?;
    }
    // The binary and the library have one name, and so one page: the library's is written last.
    for (title, packages) in [
        ("documentation of the binary", ["-p", "sortie-server"].as_slice()),
        ("documentation", &["--workspace", "--exclude", "sortie-server"]),
    ] {
        let mut doc = cargo(["doc", "--no-deps", "--all-features", "--document-private-items"]);
        steps.step(title, doc.args(packages).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    steps.done();
    Ok(())
}
