//! `cargo xtask test`: every test, on a machine that may have nothing but cargo.

use crate::leftovers::Watch;
use crate::needs::{self, Install};
use crate::step::{Outcome, Steps, cargo, is_kind, repository_files};

pub(crate) fn run(install: Install) -> Outcome {
    let steps = Steps::new("test");
    needs::provide(&steps, install)?;
    let watch = Watch::start()?;
    let in_watch = |mut command: std::process::Command| {
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
    for (package, _) in folders_with("benches")? {
        let title = format!("benches of {package}, each once");
        let bench = cargo(["test", "--quiet", "-p", &package, "--all-features", "--bench", "*"]);
        steps.step(&title, &mut in_watch(bench))?;
    }
    for (package, examples) in folders_with("examples")? {
        for example in examples {
            let run =
                cargo(["run", "--quiet", "-p", &package, "--all-features", "--example", &example]);
            steps.step(&format!("example {example}"), &mut in_watch(run))?;
        }
    }
    steps.check("nothing is left behind", "cargo xtask test", || watch.finish())?;
    steps.done();
    Ok(())
}

/// The packages with targets in `crates/PACKAGE/FOLDER/`, and the names of those targets.
fn folders_with(folder: &str) -> Outcome<Vec<(String, Vec<String>)>> {
    let mut packages: Vec<(String, Vec<String>)> = Vec::new();
    for path in repository_files()? {
        let parts: Vec<&str> = path.split('/').collect();
        let (package, inside, name) = match parts[..] {
            ["crates", package, inside, file] if is_kind(file, "rs") => (package, inside, file),
            ["crates", package, inside, name, "main.rs"] => (package, inside, name),
            _ => continue,
        };
        if inside != folder {
            continue;
        }
        let name = name.trim_end_matches(".rs");
        match packages.last_mut() {
            Some((last, names)) if last == package => names.push(name.to_owned()),
            _ => packages.push((package.to_owned(), vec![name.to_owned()])),
        }
    }
    Ok(packages)
}
