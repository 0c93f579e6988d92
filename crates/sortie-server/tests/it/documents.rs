//! Documents do what they say: every shell block of them is run.
//!
//! A line `cargo run --release -- serve …` or `… lab …` starts a server with these arguments, on
//! free ports; the lines after it, until the next such line, are run against that server, with the
//! default ports replaced by its own. `cargo xtask …` and `git clone …` are not run here: the first
//! runs these very tests. Rust blocks are documentation tests of the library.

use std::net::SocketAddr;
use std::process::Command;

use sortie_testkit::{Server, python, run, workspace};

use crate::support::{BINARY, among_others};

const RUN: &str = "cargo run --release -- ";

#[tokio::test]
async fn the_readme() {
    check("README.md").await;
}

#[tokio::test]
async fn the_article() {
    check("docs/article.md").await;
}

#[tokio::test]
async fn the_admin_database() {
    check("docs/admin.md").await;
}

#[tokio::test]
async fn operations() {
    check("docs/operations.md").await;
}

fn read(document: &str) -> String {
    std::fs::read_to_string(workspace().join(document)).unwrap()
}

/// Every alert asks for series that there are, and is in the runbook; every one there is an alert.
#[test]
fn alerts_ask_for_series_that_there_are_and_say_what_to_do() {
    let (alerts, metrics) = (read("docs/alerts.yml"), read("docs/metrics.md"));
    let runbook = read("docs/operations.md");
    let named = |name: &str| -> Vec<String> {
        let lines = alerts.lines().filter_map(|line| line.trim().split_once(": "));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
    };
    let [alerting, expressions] = ["- alert", "expr"].map(named);
    let [times, labels, texts] = ["for", "labels", "annotations"].map(named);
    let counts = [expressions.len(), times.len(), labels.len(), texts.len()];
    assert!(alerting.len() > 10 && counts == [alerting.len(); 4], "{counts:?}");
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    assert_eq!(headings.collect::<Vec<_>>(), alerting);
    for expression in &expressions {
        assert_eq!(expression.matches('(').count(), expression.matches(')').count());
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let series = words.filter(|it| it.starts_with("sortie_") || it.starts_with("process_"));
        let series: Vec<&str> = series.collect();
        assert!(!series.is_empty() || expression.starts_with("up{"), "{expression}");
        for name in series {
            assert!(metrics.contains(&format!("| `{name}` |")), "{name} is no series");
        }
    }
    // What is asked of `reason` is one.
    for list in expressions.iter().filter_map(|it| it.split("reason=~\"").nth(1)) {
        for reason in list.split('"').next().unwrap().split('|') {
            assert!(metrics.contains(&format!("| `{reason}` |")), "{reason} is no reason");
        }
    }
}

/// What clients are told according to the document is said somewhere in the code.
#[test]
fn messages_in_the_document_are_those_of_the_code() {
    fn sources(folder: &std::path::Path, all: &mut String) {
        for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, all);
            } else if entry.extension().is_some_and(|end| end == "rs") {
                all.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
    }
    let mut code = String::new();
    sources(&workspace().join("crates/sortie-server/src"), &mut code);
    let document = read("docs/operations.md");
    let table = document.split_once("| message begins with |").unwrap().1;
    let rows: Vec<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    for message in rows {
        assert!(code.contains(&format!("\"{message}")), "nobody says: {message}");
    }
}

async fn check(document: &str) {
    let _others = among_others().await;
    let text = std::fs::read_to_string(workspace().join(document)).unwrap();
    let blocks = shell_blocks(&text);
    assert!(!blocks.is_empty(), "{document} has no shell block");
    let mut server: Option<Server> = None;
    let mut script = String::new();
    for line in blocks.iter().flat_map(|block| commands(block)) {
        let started =
            line.strip_prefix(RUN).map(|rest| rest.split_whitespace().collect::<Vec<_>>());
        if let Some([verb @ ("serve" | "lab"), arguments @ ..]) = started.as_deref() {
            execute(document, &mut script, server.as_ref()).await;
            if let Some(old) = server.take() {
                old.stop().await;
            }
            server = Some(match *verb {
                "lab" => Server::lab(BINARY, arguments).await,
                _ => Server::start(BINARY, arguments).await,
            });
        } else if !line.starts_with("cargo xtask ") && !line.starts_with("git clone ") {
            script.push_str(&line);
            script.push('\n');
        }
    }
    execute(document, &mut script, server.as_ref()).await;
    if let Some(server) = server {
        server.stop().await;
    }
}

/// Runs the collected lines, and forgets them.
async fn execute(document: &str, script: &mut String, server: Option<&Server>) {
    let ports = server.map(|server| (server.listen(), server.admin()));
    let script = with_ports(&std::mem::take(script), ports);
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(workspace());
    bash.env("PGCONNECT_TIMEOUT", "10").env("PSQLRC", "/dev/null");
    // The Python that has clients, as those have it who run these lines.
    let mut folders = vec![python().parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    bash.env("PATH", std::env::join_paths(folders).unwrap());
    let ran = run(bash).await;
    assert!(ran.success, "{document}:\n{script}\nsaid:\n{}{}", ran.out, ran.err);
}

fn with_ports(script: &str, ports: Option<(SocketAddr, SocketAddr)>) -> String {
    let Some((listen, admin)) = ports else { return script.to_owned() };
    let script = script.replace(RUN, &format!("{BINARY} "));
    script.replace("6440", &listen.port().to_string()).replace("6441", &admin.port().to_string())
}

/// The insides of the fenced blocks marked `sh` or `console`.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let inside: Vec<&str> =
            lines.by_ref().take_while(|line| line.trim_start() != "```").collect();
        if ["sh", "console"].contains(&language.trim()) {
            blocks.push(inside.join("\n"));
        }
    }
    blocks
}

/// The commands of a block, without comments after them; in a `console` block only the lines
/// after a prompt.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let console = joined.lines().any(|line| line.starts_with("$ "));
    joined
        .lines()
        .filter_map(|line| if console { line.strip_prefix("$ ") } else { Some(line) })
        .map(|line| line.split(" # ").next().unwrap_or(line).trim_end().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn blocks_and_commands_are_found() {
    let text = "a\n```sh\ncargo run # c\n# only a comment\n\npsql \\\n -c x\n```\n\
                ```rust\nfn\n```\n```console\n$ ls\nREADME.md\n```\n";
    let blocks = shell_blocks(text);
    let commands: Vec<Vec<String>> = blocks.iter().map(|block| commands(block)).collect();
    assert_eq!(commands, [vec!["cargo run", "psql   -c x"], vec!["ls"]]);
}
