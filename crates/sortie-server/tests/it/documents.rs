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
