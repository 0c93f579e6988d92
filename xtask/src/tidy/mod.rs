//! The house rules that no compiler checks, each with a test of its own.
//!
//! Rules are pure functions from text to complaints; this module only brings them the text.

mod crates;
mod documents;
mod sources;

use crate::step::{Outcome, read, repository_files};

/// Files longer than this are hard to review, and a repository keeps them for ever.
const FILE_BYTES_MAX: u64 = 200 * 1024;
/// Written by tools, not by people.
const GENERATED: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

pub(crate) fn run() -> Outcome {
    let files = repository_files()?;
    let mut complaints = Vec::new();
    for path in &files {
        if !GENERATED.contains(&path.as_str()) {
            size(path, &mut complaints)?;
            if let Ok(text) = read(path) {
                sources::check(path, &text, &mut complaints);
            }
        }
    }
    documents::check(&files, &mut complaints)?;
    crates::check(&files, &mut complaints)?;
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("{} complaints\n  {}", complaints.len(), complaints.join("\n  ")))
}

fn size(path: &str, complaints: &mut Vec<String>) -> Outcome {
    let bytes = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.len();
    if bytes > FILE_BYTES_MAX {
        complaints.push(format!("{path}: {bytes} bytes, {FILE_BYTES_MAX} are the most"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_named() {
        let path = std::env::temp_dir().join(format!("tidy-size-{}", std::process::id()));
        let mut complaints = Vec::new();
        for (bytes, expected) in [(FILE_BYTES_MAX, 0), (FILE_BYTES_MAX + 1, 1)] {
            std::fs::write(&path, vec![b'x'; usize::try_from(bytes).unwrap()]).unwrap();
            size(path.to_str().unwrap(), &mut complaints).unwrap();
            assert_eq!(complaints.len(), expected);
        }
        std::fs::remove_file(path).unwrap();
    }
}
