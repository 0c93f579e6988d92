//! `sortie lab`: what it makes, what its lines say, and how it ends.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{Server, run};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{BINARY, ROUNDS_MAX, alone, among_others};

const WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_lab_is_what_its_lines_say_and_ends_in_order_without_a_server() {
    let _others = among_others().await;
    let lab = Server::lab(BINARY, &["--rows", "1000"]).await;
    let said = lab.output();
    let steps = said.lines().filter(|line| line.contains(" s  ")).count();
    assert!(steps > 8, "{said}");

    let mut rows = Vec::new();
    for server in ["shard 0 primary", "shard 0 standby 1", "shard 1 primary", "shard 1 standby 1"] {
        let count = ask(line(&said, server), "SELECT count(*) FROM users").await;
        rows.push(count.trim().parse::<u32>().unwrap());
    }
    assert_eq!((rows[0], rows[2]), (rows[1], rows[3]));
    assert_eq!(rows[0] + rows[2], 1000);
    let sortie = line(&said, "sortie");
    assert_eq!(ask(sortie, "SELECT count(*) FROM users").await.trim(), "1000");

    // The lines that show something are scripts: what they stop is a standby and its children.
    let stop = said.lines().find(|line| line.contains("kill -STOP")).unwrap();
    let family = stop.split("kill -STOP ").nth(1).unwrap().split(';').next().unwrap();
    let names = shell(&format!("ps -o comm= -p \"$(echo {family} | tr ' ' ,)\"")).await;
    assert!(names.lines().count() > 3 && names.contains("postgres"), "{names}");

    let id = family.split(' ').next().unwrap();
    shell(&format!("kill -s KILL {id}")).await;
    let missed = async {
        while !lab.output().contains("a server has ended by itself") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WITHIN, missed).await.expect("it is said that a server has ended");
    let stopped = lab.end("INT").await;
    assert!(stopped.status.success(), "{}", stopped.output);
    assert!(stopped.left.is_empty(), "{:?}", stopped.left);
    assert!(stopped.output.contains("stopped; nothing is left"), "{}", stopped.output);
}

/// All of it: two shards, each a primary and two standbys, and 100,000 rows.
#[tokio::test]
async fn a_lab_is_ready_soon() {
    let _alone = alone().await;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS_MAX {
        let began = Instant::now();
        let lab = Server::lab(BINARY, &[]).await;
        best = best.min(began.elapsed());
        let said = lab.output();
        line(&said, "shard 1 standby 2");
        let count = ask(line(&said, "sortie"), "SELECT count(*) FROM users").await;
        assert_eq!(count.trim(), "100000");
        lab.stop().await;
        if best < READY_WITHIN {
            break;
        }
    }
    println!("ready after {best:?}");
    assert!(best < READY_WITHIN, "ready after {best:?}");
}

#[tokio::test]
async fn the_lines_show_what_they_say() {
    let _others = among_others().await;
    let lab = Server::lab(BINARY, &["--shards", "1", "--rows", "100"]).await;
    let said = lab.output();
    let fresh = said.lines().find(|line| line.contains("UPDATE users")).unwrap();
    let ran = shell(&fresh.replace("psql ", "psql -XqAt ")).await;
    let balances: Vec<&str> = ran.lines().collect();
    assert_eq!(balances.len(), 6, "{ran}");
    assert!(balances.chunks(2).all(|pair| pair[0] == pair[1]), "{ran}");

    let stopped = said.lines().find(|line| line.contains("kill -STOP")).unwrap();
    let ran = timeout(WITHIN, shell(&stopped.replace("psql ", "psql -XqAt "))).await.unwrap();
    let row = format!("42|Leslie Carter|{}", balances[5]);
    assert_eq!(ran.lines().filter(|line| **line == row).count(), 4, "{ran}");

    let herd = said.lines().find(|line| line.contains("pgbench")).unwrap();
    let ran = timeout(WITHIN, shell(herd)).await.unwrap();
    assert!(ran.contains("processed: 1000/1000"), "{ran}");
    let of = |name: &str| {
        let lines = ran.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    assert!(of("sortie_client_statements_total") >= 1000, "{ran}");
    assert!(of("sortie_attempts_total") < 500, "{ran}");
    lab.stop().await;
}

#[tokio::test]
async fn a_lab_that_is_stopped_while_it_is_made_leaves_nothing() {
    let _others = among_others().await;
    let lab = Server::unready_lab(BINARY, &["--rows", "100"]);
    let begun = async {
        while !lab.output().contains("files made") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WITHIN, begun).await.expect("it begins");
    let stopped = lab.end("INT").await;
    assert!(stopped.status.success(), "{}", stopped.output);
    assert!(stopped.left.is_empty(), "{:?}", stopped.left);
    assert!(stopped.output.contains("stopped before it was ready"), "{}", stopped.output);
}

#[tokio::test]
async fn what_can_not_be_is_said_before_anything_is_made() {
    let _others = among_others().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (arguments, reason) in [
        (["--listen", &taken, "--admin", free], "another port with --listen"),
        (["--listen", free, "--pg-bin", "/nowhere"], "/nowhere has no program `postgres`"),
        (["--listen", free, "--replicas", "0"], "0 is not in 1..=8"),
    ] {
        let mut command = Command::new(BINARY);
        command.arg("lab").args(arguments).args(["--shards", "1"]);
        if arguments[2] != "--admin" {
            command.args(["--admin", free]);
        }
        let ran = run(command).await;
        assert!(!ran.success && ran.err.contains(reason), "{}{}", ran.out, ran.err);
        assert_eq!(ran.out, "");
    }
}

/// The psql command line after a server's name.
fn line<'s>(said: &'s str, server: &str) -> &'s str {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(server)?.trim().into());
    line.filter(|line| line.starts_with("psql ")).unwrap_or_else(|| panic!("{server}: {said}"))
}

async fn ask(psql: &str, sql: &str) -> String {
    shell(&format!("{psql} -XqAt -c '{sql}'")).await
}

async fn shell(script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let ran = run(command).await;
    assert!(ran.success, "{script}\n{}{}", ran.out, ran.err);
    ran.out
}
