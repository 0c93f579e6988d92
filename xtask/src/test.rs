//! `cargo xtask test`: every test, on a machine that may have nothing but cargo.
//!
//! Everything is built with one selection of packages and features, the whole workspace: for any
//! other one cargo would build most crates again, with other features of what they share.

use std::path::Path;
use std::process::Command;

use crate::leftovers::Watch;
use crate::needs::{self, Install};
use crate::step::{Outcome, Steps, cargo, is_kind, repository_files};

/// Where the build of the tests leaves the examples.
const EXAMPLES: &str = "target/debug/examples";

pub(crate) fn run(install: Install) -> Outcome {
    let steps = Steps::new("test");
    needs::provide(&steps, install)?;
    let watch = Watch::start()?;
    let in_watch = |mut command: Command| {
        watch.mark(&mut command);
        command
    };
    let mut clients = cargo(["build", "--quiet", "--locked", "--manifest-path"]);
    clients.arg("tests/clients/rust/Cargo.toml").env("CARGO_TARGET_DIR", "target/clients-rust");
    steps.step("clients in Rust", &mut clients)?;
    steps.step("build", &mut cargo(["test", "--workspace", "--all-features", "--no-run"]))?;
    steps.step(
        "unit, property, documentation and end-to-end tests",
        &mut in_watch(cargo(["test", "--workspace", "--all-features"])),
    )?;
    let benches = cargo(["test", "--quiet", "--workspace", "--all-features", "--bench", "*"]);
    steps.step("benches, each once", &mut in_watch(benches))?;
    for example in examples_among(&repository_files()?) {
        let run = Command::new(Path::new(EXAMPLES).join(&example));
        steps.step(&format!("example {example}"), &mut in_watch(run))?;
    }
    steps.check("nothing is left behind", "cargo xtask test", || watch.finish())?;
    steps.done();
    Ok(())
}

/// The names of all examples: `crates/PACKAGE/examples/NAME.rs`, or `…/NAME/main.rs`.
fn examples_among(files: &[String]) -> Vec<String> {
    let name = |path: &String| match path.split('/').collect::<Vec<_>>()[..] {
        ["crates", _, "examples", file] if is_kind(file, "rs") => {
            Some(file.trim_end_matches(".rs").to_owned())
        }
        ["crates", _, "examples", name, "main.rs"] => Some(name.to_owned()),
        _ => None,
    };
    files.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_in_files_and_folders() {
        let files = [
            "crates/a/examples/alone.rs",
            "crates/a/examples/part/of.rs",
            "crates/b/examples/folder/main.rs",
            "crates/b/examples/notes.md",
            "crates/b/benches/bench.rs",
        ];
        assert_eq!(examples_among(&files.map(str::to_owned)), ["alone", "folder"]);
    }
}
