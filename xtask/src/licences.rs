//! Every dependency's licence against the allow-list.

use crate::spdx;
use crate::step::{Outcome, cargo, output};

/// Licences that ask for no more than attribution. A new one is a decision: say why in an ADR.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn run() -> Outcome {
    let mut tree = cargo(["tree", "--workspace", "--edges", "normal,build,dev"]);
    let tree = output(tree.args(["--prefix", "none", "--format", "{p} | {l}"]))?;
    let refused = refused(&tree);
    if refused.is_empty() {
        return Ok(());
    }
    Err(format!(
        "licences that are not on the list in {}:\n  {}\n`cargo tree -i PACKAGE` says who needs it",
        file!(),
        refused.join("\n  ")
    ))
}

/// The packages of a `cargo tree` listing whose licence is not allowed, each once.
fn refused(tree: &str) -> Vec<String> {
    let mut refused = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let Some((package, licence)) = line.split_once(" | ") else {
            refused.push(format!("{line}: no licence found"));
            continue;
        };
        let licence = licence.trim_end_matches("(*)").trim();
        if !spdx::satisfied(licence, |name| ALLOWED.contains(&name)) {
            let licence = if licence.is_empty() { "no licence given" } else { licence };
            refused.push(format!("{package}: {licence}"));
        }
    }
    refused.sort();
    refused.dedup();
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_on_the_list_is_named() {
        let tree = "a v1.0.0 | MIT OR Apache-2.0\n\nb v1.0.0 (proc-macro) | GPL-3.0\n\
                    c v2.0.0 | MIT (*)\nb v1.0.0 (proc-macro) | GPL-3.0 (*)\nd v1.0.0 | \n";
        assert_eq!(refused(tree), ["b v1.0.0 (proc-macro): GPL-3.0", "d v1.0.0: no licence given"]);
    }
}
