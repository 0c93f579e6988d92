//! Rules about the crates: who may depend on whom, and that none escapes the lints.

use crate::step::{Outcome, cargo, output, read};

/// What a crate may use at run time. Arrows only point down; tests may use more.
struct Room {
    name: &'static str,
    /// Crates of this workspace.
    ours: &'static [&'static str],
    /// Other crates, where the list is part of the design; elsewhere any will do.
    others: Option<&'static [&'static str]>,
}

const CORE: &[&str] = &[
    "futures-util",
    "hashbrown",
    "metrics",
    "parking_lot",
    "pin-project-lite",
    "quick_cache",
    "tokio",
    "tracing",
];

/// A runtime for its sockets, and what a login takes: TLS and the hashes of passwords.
const POSTGRES: &[&str] = &[
    "base64",
    "bytes",
    "deadpool-postgres", // Behind features, for those who keep their own clients.
    "fastrand",
    "parking_lot",
    "postgres-protocol",
    "ring",
    "rustls",
    "rustls-native-certs",
    "socket2",
    "subtle",
    "tokio",
    "tokio-postgres",
    "tokio-rustls",
    "tracing",
];

const ROOMS: &[Room] = &[
    Room { name: "sortie", ours: &[], others: Some(CORE) },
    Room { name: "sortie-postgres", ours: &["sortie"], others: Some(POSTGRES) },
    Room { name: "sortie-redis", ours: &["sortie"], others: None },
    Room { name: "sortie-sqlite", ours: &["sortie"], others: None },
    // Processes and files.
    Room { name: "sortie-lab", ours: &[], others: Some(&[]) },
    Room {
        name: "sortie-server",
        ours: &["sortie", "sortie-lab", "sortie-postgres", "sortie-sqlite"],
        others: None,
    },
    Room {
        name: "sortie-testkit",
        ours: &["sortie", "sortie-lab", "sortie-postgres", "sortie-sqlite"],
        others: None,
    },
    Room { name: "xtask", ours: &[], others: Some(&[]) },
];

pub(super) fn check(files: &[String], complaints: &mut Vec<String>) -> Outcome {
    for path in files.iter().filter(|path| path.ends_with("Cargo.toml")) {
        manifest(path, &read(path)?, complaints);
    }
    let mut tree = cargo(["tree", "--workspace", "--edges", "normal,build", "--depth", "1"]);
    tree.args(["--prefix", "depth", "--no-dedupe", "--all-features", "--format", "{p}"]);
    directions(&output(&mut tree)?, complaints);
    Ok(())
}

/// Every package takes the workspace's lints.
fn manifest(path: &str, text: &str, complaints: &mut Vec<String>) {
    let section = |name: &str| {
        let (_, rest) = text.split_once(&format!("[{name}]\n"))?;
        Some(rest.split("\n[").next().unwrap_or(rest))
    };
    let lints = section("lints").is_some_and(|body| body.contains("workspace = true"));
    // The fuzz targets are a workspace of their own: they need another toolchain.
    if section("package").is_some() && !lints && !path.starts_with("fuzz/") {
        complaints.push(format!("{path}: lacks [lints] workspace = true"));
    }
}

/// Checks a `cargo tree --depth 1 --prefix depth` listing against [`ROOMS`].
fn directions(tree: &str, complaints: &mut Vec<String>) {
    let mut room: Option<&Room> = None;
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let local = words.any(|word| word.starts_with("(/"));
        if let Some(package) = first.strip_prefix('0') {
            room = ROOMS.iter().find(|room| room.name == package);
            if room.is_none() {
                complaints
                    .push(format!("{package}: a new crate; say in {} what it may use", file!()));
            }
        } else if let (Some(dependency), Some(room)) = (first.strip_prefix('1'), room) {
            let fits = if local {
                room.ours.contains(&dependency)
            } else {
                room.others.is_none_or(|others| others.contains(&dependency))
            };
            if !fits {
                complaints.push(format!("{} may not depend on {dependency}", room.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_tree(tree: &str, expected: &[&str]) {
        let mut complaints = Vec::new();
        directions(tree, &mut complaints);
        assert_eq!(complaints, expected);
    }

    #[test]
    fn arrows_only_point_down() {
        check_tree("0sortie v0.1.0 (/x/crates/sortie)\n1tokio v1.0.0\n", &[]);
        check_tree(
            "0sortie v0.1.0 (/x/crates/sortie)\n1sortie-sqlite v0.1.0 (/x/crates/sortie-sqlite)\n",
            &["sortie may not depend on sortie-sqlite"],
        );
        check_tree(
            "0sortie-server v0.1 (/x)\n1sortie v0.1 (/x)\n1sortie-testkit v0.1 (/x)\n1any v1\n",
            &["sortie-server may not depend on sortie-testkit"],
        );
    }

    #[test]
    fn the_core_takes_nothing_new() {
        check_tree(
            "0sortie v0.1.0 (/x)\n1serde v1.0.0\n\n0xtask v0.1.0 (/x)\n1bytes v1.0.0\n",
            &["sortie may not depend on serde", "xtask may not depend on bytes"],
        );
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        let mut complaints = Vec::new();
        directions("0sortie-new v0.1.0 (/x)\n1tokio v1.0.0\n", &mut complaints);
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn no_crate_escapes_the_lints() {
        let mut complaints = Vec::new();
        manifest(
            "a/Cargo.toml",
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n",
            &mut complaints,
        );
        manifest("Cargo.toml", "[workspace]\nmembers = []\n", &mut complaints);
        assert!(complaints.is_empty(), "{complaints:?}");
        let escaped = "[package]\nname = \"a\"\n\n[lints]\n\n[dependencies]\nb.workspace = true\n";
        manifest("a/Cargo.toml", escaped, &mut complaints);
        assert_eq!(complaints.len(), 1);
    }
}
