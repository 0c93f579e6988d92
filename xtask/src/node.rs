//! The clients in JavaScript: packages from npm, at the versions that are written down, into a
//! folder under `target/` where the tests look for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Outcome, Steps};

/// What names the packages, and their exact versions.
pub(crate) const PACKAGES: &str = "tests/clients/node/package.json";
const LOCK: &str = "tests/clients/node/package-lock.json";
const FOLDER: &str = "target/clients-node";

/// Installs them, if another lock or none stands beside what is there.
pub(crate) fn provide(steps: &Steps) -> Outcome {
    if is_current() {
        return Ok(());
    }
    let failed = |error| format!("{FOLDER}: {error}");
    fs::create_dir_all(FOLDER).map_err(failed)?;
    for file in [PACKAGES, LOCK] {
        let name = Path::new(file).file_name().ok_or_else(|| format!("{file} has no name"))?;
        fs::copy(file, Path::new(FOLDER).join(name)).map_err(failed)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", FOLDER]);
    steps.step("JavaScript clients", &mut npm)?;
    fs::copy(LOCK, stamp()).map(drop).map_err(failed)
}

/// Whether what is installed is what is written down.
pub(crate) fn is_current() -> bool {
    fs::read(stamp()).is_ok_and(|installed| fs::read(LOCK).ok() == Some(installed))
}

/// The copy of the lock that they were installed from.
fn stamp() -> PathBuf {
    Path::new(FOLDER).join("node_modules/installed.json")
}
