//! Rules about the documents: short ones stay short, decisions are indexed, links and the names
//! of tests lead somewhere.

use std::path::Path;

use crate::step::{Outcome, is_kind, read};

const README_LINES_MAX: usize = 149;
const ADR_LINES_MAX: usize = 60;
const ADR_FOLDER: &str = "docs/adr/";
const ADR_INDEX: &str = "docs/adr/README.md";
/// It names the tests that prove what it says.
const ARTICLE: &str = "docs/article.md";

pub(super) fn check(files: &[String], complaints: &mut Vec<String>) -> Outcome {
    if files.iter().any(|path| path == "README.md") {
        length("README.md", &read("README.md")?, README_LINES_MAX, complaints);
    }
    for path in files.iter().filter(|path| is_kind(path, "md")) {
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        broken_links(path, &read(path)?, |link| folder.join(link).exists(), complaints);
    }
    if files.iter().any(|path| path == ARTICLE) {
        let mut tests = String::new();
        for path in files.iter().filter(|path| path.contains("/tests/") && is_kind(path, "rs")) {
            tests.push_str(&read(path)?);
        }
        lost_tests(ARTICLE, &read(ARTICLE)?, &tests, complaints);
    }
    let decisions: Vec<&str> = files
        .iter()
        .filter(|path| path.starts_with(ADR_FOLDER) && *path != ADR_INDEX)
        .map(String::as_str)
        .collect();
    if decisions.is_empty() {
        return Ok(());
    }
    indexed(&decisions, &read(ADR_INDEX)?, complaints);
    for path in decisions {
        length(path, &read(path)?, ADR_LINES_MAX, complaints);
    }
    Ok(())
}

fn length(path: &str, text: &str, lines_max: usize, complaints: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > lines_max {
        complaints.push(format!("{path}: {lines} lines, {lines_max} are the most"));
    }
}

/// Every link to a file of this repository leads to one.
fn broken_links(
    path: &str,
    text: &str,
    exists: impl Fn(&str) -> bool,
    complaints: &mut Vec<String>,
) {
    for link in links(text) {
        let file = link.split('#').next().unwrap_or_default();
        if !link.contains("://") && !file.is_empty() && !exists(file) {
            complaints.push(format!("{path}: {link} is not there"));
        }
    }
}

/// Every test that is named as `file::name` exists.
fn lost_tests(path: &str, text: &str, tests: &str, complaints: &mut Vec<String>) {
    let word =
        |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
    let quoted = text.split('`').skip(1).step_by(2);
    for (file, name) in quoted.filter_map(|name| name.split_once("::")) {
        if word(file) && word(name) && !tests.contains(&format!("fn {name}(")) {
            complaints.push(format!("{path}: no test is called {file}::{name}"));
        }
    }
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    let rests = text.split("](").skip(1);
    rests.filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
}

/// Every decision is linked from the index, every link leads to a decision.
fn indexed(decisions: &[&str], index: &str, complaints: &mut Vec<String>) {
    let links: Vec<&str> = links(index)
        .filter(|link| link.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    let names: Vec<&str> =
        decisions.iter().map(|path| path.strip_prefix(ADR_FOLDER).unwrap_or(path)).collect();
    for name in names.iter().filter(|name| !links.contains(name)) {
        complaints.push(format!("{ADR_FOLDER}{name}: not in {ADR_INDEX}"));
    }
    for link in links.iter().filter(|link| !names.contains(link)) {
        complaints.push(format!("{ADR_INDEX}: {link} is not there"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_documents() {
        let mut complaints = Vec::new();
        length("README.md", &"x\n".repeat(149), README_LINES_MAX, &mut complaints);
        assert!(complaints.is_empty());
        length("README.md", &"x\n".repeat(150), README_LINES_MAX, &mut complaints);
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn links_lead_somewhere() {
        let text = "[a](there.md) [b](gone.md#x) [c](https://example.org) [d](#below)";
        let mut complaints = Vec::new();
        broken_links("a.md", text, |file| file == "there.md", &mut complaints);
        assert_eq!(complaints, ["a.md: gone.md#x is not there"]);
    }

    #[test]
    fn named_tests_exist() {
        let text = "`cache::here` and `cache::gone`, `Hedge::run`, `a` or::b `c`";
        let mut complaints = Vec::new();
        lost_tests("a.md", text, "#[test]\nfn here() {}", &mut complaints);
        assert_eq!(complaints, ["a.md: no test is called cache::gone"]);
    }

    #[test]
    fn the_index_and_the_folder_agree() {
        let index = "| [1](0001-a.md) | x |\n| [3](0003-c.md) | [elsewhere](../x.md) |\n";
        let mut complaints = Vec::new();
        indexed(&["docs/adr/0001-a.md", "docs/adr/0002-b.md"], index, &mut complaints);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("0002-b.md"));
        assert!(complaints[1].contains("0003-c.md"));
    }
}
