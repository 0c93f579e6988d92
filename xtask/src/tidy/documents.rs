//! Rules about the documents: short ones stay short, decisions are indexed.

use crate::step::{Outcome, read};

const README_LINES_MAX: usize = 149;
const ADR_LINES_MAX: usize = 60;
const ADR_FOLDER: &str = "docs/adr/";
const ADR_INDEX: &str = "docs/adr/README.md";

pub(super) fn check(files: &[String], complaints: &mut Vec<String>) -> Outcome {
    if files.iter().any(|path| path == "README.md") {
        length("README.md", &read("README.md")?, README_LINES_MAX, complaints);
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

/// Every decision is linked from the index, every link leads to a decision.
fn indexed(decisions: &[&str], index: &str, complaints: &mut Vec<String>) {
    let links: Vec<&str> = index
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
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
    fn the_index_and_the_folder_agree() {
        let index = "| [1](0001-a.md) | x |\n| [3](0003-c.md) | [elsewhere](../x.md) |\n";
        let mut complaints = Vec::new();
        indexed(&["docs/adr/0001-a.md", "docs/adr/0002-b.md"], index, &mut complaints);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("0002-b.md"));
        assert!(complaints[1].contains("0003-c.md"));
    }
}
