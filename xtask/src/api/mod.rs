//! The public API of each published library, as text that is reviewed like code.
//!
//! `unreachable_pub` is an error in `ci`, so every `pub` item in a crate's sources is public API:
//! the signatures can be read from the text. One sorted line each; moving an item between files
//! changes nothing, changing what users see does.

mod items;
mod strip;

use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{Outcome, read};

/// The crates whose users we promise something.
const PUBLISHED: &[&str] =
    &["sortie", "sortie-postgres", "sortie-redis", "sortie-sqlite", "sortie-lab"];

/// Fails with the difference when a snapshot is not what the sources say.
pub(crate) fn compare() -> Outcome {
    let mut changes = Vec::new();
    for name in PUBLISHED {
        let recorded = read(snapshot(name)).unwrap_or_default();
        let difference = difference(&recorded, &surface(name)?);
        changes.extend(difference.into_iter().map(|change| format!("  {name}: {change}")));
    }
    if changes.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public API changed:\n{}\nIf that is meant: cargo xtask api --bless, and a line \
         in CHANGELOG.md",
        changes.join("\n")
    ))
}

/// Writes the snapshots anew.
pub(crate) fn bless() -> Outcome {
    for name in PUBLISHED {
        let path = snapshot(name);
        let text = surface(name)?;
        fs::write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}: {} items", path.display(), text.lines().count());
    }
    Ok(())
}

fn snapshot(name: &str) -> PathBuf {
    Path::new("crates").join(name).join("public-api.txt")
}

/// The sorted public signatures of a crate.
fn surface(name: &str) -> Outcome<String> {
    let mut sources = Vec::new();
    collect(&Path::new("crates").join(name).join("src"), &mut sources)?;
    let mut texts = Vec::new();
    for path in sources {
        texts.push(strip::strip(&read(path)?));
    }
    let mut lines = items::signatures(&texts);
    lines.sort();
    lines.dedup();
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

/// Source files below `folder`, without unit tests.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> Outcome {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(())
}

/// Lines only in one of two sorted texts, marked `-` (gone) and `+` (new).
fn difference(old: &str, new: &str) -> Vec<String> {
    let gone = old.lines().filter(|line| !new.lines().any(|other| other == *line));
    let came = new.lines().filter(|line| !old.lines().any(|other| other == *line));
    gone.map(|line| format!("- {line}")).chain(came.map(|line| format!("+ {line}"))).collect()
}

#[cfg(test)]
mod tests;
