//! Rules about one text file: lengths, markers, attributes, banned calls.

use crate::step::is_kind;

const RS_LINES_MAX: usize = 400;
const COLUMNS_MAX: usize = 100;

// Spelled in two halves, so that this file obeys its own rules.
const FIX_ME: &str = concat!("FIX", "ME");
const TO_DO: &str = concat!("TO", "DO");

/// Files that take bytes and give bytes: no socket, no clock, no runtime.
const SANS_IO: &[&str] = &[
    "backend",
    "cursor",
    "dues",
    "error",
    "frame",
    "frontend",
    "scan",
    "server_error",
    "startup",
    "walk",
];

/// Appends what is wrong with `text`, the file at `path`.
pub(super) fn check(path: &str, text: &str, complaints: &mut Vec<String>) {
    let rust = is_kind(path, "rs");
    let lines = text.lines().count();
    if rust && lines > RS_LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, {RS_LINES_MAX} are the most"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let mut complain = |what: &str| complaints.push(format!("{path}:{number}: {what}"));
        if is_code(path) {
            check_markers(line, &mut complain);
            check_width(line, &mut complain);
        }
        if rust {
            check_rust(line, &mut complain);
        }
        if is_library_source(path) {
            check_calls(line, &mut complain);
        }
        if is_sans_io(path) && has_word(line, "tokio") {
            complain("tokio in a file that is sans-IO");
        }
    }
}

fn is_sans_io(path: &str) -> bool {
    let name = path.strip_prefix("crates/sortie-postgres/src/");
    name.and_then(|name| name.strip_suffix(".rs")).is_some_and(|name| SANS_IO.contains(&name))
}

fn check_markers(line: &str, complain: &mut impl FnMut(&str)) {
    if has_word(line, FIX_ME) {
        complain(&format!("{FIX_ME}: mend it, or file an issue"));
    }
    if has_word(line, TO_DO) && !names_an_issue(line) {
        complain(&format!("{TO_DO} without an issue: write {TO_DO}(#12)"));
    }
}

fn check_width(line: &str, complain: &mut impl FnMut(&str)) {
    // A link cannot be broken into lines.
    if line.chars().count() > COLUMNS_MAX && !line.contains("://") {
        complain(&format!("more than {COLUMNS_MAX} columns"));
    }
}

fn check_rust(line: &str, complain: &mut impl FnMut(&str)) {
    let line = line.trim_start();
    if !line.starts_with("#[") && !line.starts_with("#![") {
        return;
    }
    if line.starts_with("#[ignore]") {
        complain("#[ignore] without a reason: #[ignore = \"…\"]");
    }
    if line.contains("[allow(") || line.contains(" allow(") {
        complain("allow(…): use #[expect(…, reason = \"…\")], which says when it is stale");
    }
}

/// Clippy's `disallowed_methods` finds calls; this also finds them where clippy does not look,
/// behind another `cfg`.
fn check_calls(line: &str, complain: &mut impl FnMut(&str)) {
    let line = line.trim_start();
    if line.starts_with("//") {
        return;
    }
    if line.contains("tokio::spawn(") {
        complain("tokio::spawn: every task has an owner");
    }
    if line.contains("thread::sleep(") {
        complain("thread::sleep blocks a runtime's thread");
    }
}

/// Files that people write line by line; tables in Markdown and lists in TOML are wider.
fn is_code(path: &str) -> bool {
    ["rs", "py", "sh"].iter().any(|kind| is_kind(path, kind)) || path == ".ci/run"
}

/// Sources of a crate that users run, without their unit tests.
fn is_library_source(path: &str) -> bool {
    let tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    path.starts_with("crates/") && path.contains("/src/") && is_kind(path, "rs") && !tests
}

fn has_word(line: &str, word: &str) -> bool {
    let boundary = |neighbour: Option<char>| neighbour.is_none_or(|c| !c.is_alphanumeric());
    line.match_indices(word).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        boundary(before.chars().next_back()) && boundary(rest.chars().nth(word.len()))
    })
}

fn names_an_issue(line: &str) -> bool {
    let Some((_, rest)) = line.split_once(&format!("{TO_DO}(#")) else { return false };
    rest.split_once(')').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_one(path: &str, text: &str, expected: &[&str]) {
        let mut complaints = Vec::new();
        check(path, text, &mut complaints);
        assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
        for (complaint, part) in complaints.iter().zip(expected) {
            assert!(complaint.contains(part), "{complaint:?} lacks {part:?}");
        }
    }

    #[test]
    fn long_files() {
        check_one("crates/a/tests/it/b.rs", &"\n".repeat(RS_LINES_MAX), &[]);
        check_one("crates/a/tests/it/b.rs", &"\n".repeat(RS_LINES_MAX + 1), &["401 lines"]);
        check_one("docs/guide.md", &"\n".repeat(RS_LINES_MAX + 1), &[]);
    }

    #[test]
    fn long_lines() {
        check_one("a.rs", &"é".repeat(COLUMNS_MAX), &[]);
        check_one("a.rs", &format!("\n{}", "x".repeat(COLUMNS_MAX + 1)), &["a.rs:2"]);
        check_one("a.md", &"x".repeat(COLUMNS_MAX + 1), &[]);
        check_one("a.rs", &format!("// https://{}", "x".repeat(COLUMNS_MAX)), &[]);
    }

    #[test]
    fn markers() {
        check_one("a.rs", &format!("// {FIX_ME} later"), &[FIX_ME]);
        check_one("a.py", &format!("# {TO_DO}: later"), &["without an issue"]);
        check_one("a.py", &format!("# {TO_DO}(#x): later"), &["without an issue"]);
        check_one("a.py", &format!("# {TO_DO}(#12): later"), &[]);
        check_one("a.rs", &format!("struct {TO_DO}S;"), &[]);
    }

    #[test]
    fn attributes() {
        check_one("a.rs", "  #[ignore]", &["without a reason"]);
        check_one("a.rs", "#[ignore = \"needs an hour\"]", &[]);
        check_one("a.rs", "#![allow(dead_code)]", &["expect"]);
        check_one("a.rs", "#[cfg_attr(test, allow(dead_code))]", &["expect"]);
        check_one("a.rs", "fn allow(x: u8) {}", &[]);
        check_one("a.rs", "#[expect(dead_code, reason = \"later\")]", &[]);
    }

    #[test]
    fn banned_calls() {
        check_one("crates/a/src/b.rs", "    tokio::spawn(x);", &["owner"]);
        check_one("crates/a/src/b.rs", "    std::thread::sleep(x);", &["blocks"]);
        check_one("crates/a/src/b.rs", "    /// Unlike tokio::spawn(x), …", &[]);
        check_one("crates/a/src/b/tests.rs", "    tokio::spawn(x);", &[]);
        check_one("crates/a/examples/b.rs", "    tokio::spawn(x);", &[]);
    }

    #[test]
    fn the_codec_knows_no_runtime() {
        check_one("crates/sortie-postgres/src/scan.rs", "use tokio::net;", &["sans-IO"]);
        check_one("crates/sortie-postgres/src/connection/mod.rs", "use tokio::net;", &[]);
    }
}
