//! How a lab ends: in order, with a server killed by hand, early, and with its process killed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use sortie_lab::{Error, Lab, LabConfig};

/// For a keeper on a busy machine.
const ROUNDS_MAX: u32 = 1_000;
const ROUND: Duration = Duration::from_millis(20);
/// Set for a process that is to be killed.
const HOLD: &str = "SORTIE_LAB_HOLD";

fn small() -> LabConfig {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.rows) = (1, 1, 100);
    config
}

fn runs(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = (0..ROUNDS_MAX).find(|_| {
        std::thread::park_timeout(ROUND);
        holds()
    });
    assert!(end.is_some(), "{what}");
}

fn kill(id: u32, signal: &str) {
    let killed = Command::new("sh").args(["-c", &format!("kill -s {signal} {id}")]).status();
    assert!(killed.unwrap().success());
}

/// Whether there is shared memory of that number.
fn is_shared(id: &str) -> bool {
    let all = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    all.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

#[test]
fn a_lab_whose_server_was_killed_by_hand_ends_in_order() {
    let lab = Lab::start(&small(), |_step| {}).unwrap();
    let home = lab.home().to_owned();
    let standby = &lab.shards()[0].standbys()[0];
    let id = standby.process().unwrap();
    let lock = fs::read_to_string(standby.data().join("postmaster.pid")).unwrap();
    let memory = lock.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    assert!(is_shared(&memory));
    kill(id, "KILL");
    until("it is missed", || standby.process().is_none());
    lab.stop().unwrap();
    assert!(!home.exists());
    assert!(!is_shared(&memory), "its shared memory is gone");
}

#[test]
fn a_lab_whose_server_stands_still_ends_when_dropped() {
    let lab = Lab::start(&small(), |_step| {}).unwrap();
    let (home, servers) = (lab.home().to_owned(), processes(&lab));
    lab.servers().for_each(sortie_lab::Server::pause);
    drop(lab);
    assert!(!home.exists());
    assert!(!servers.into_iter().any(runs));
}

#[test]
fn a_cancelled_start_leaves_nothing() {
    let config = small();
    let home = Mutex::new(PathBuf::new());
    let made = Lab::start(&config, |step| {
        if let Some((_, folder)) = step.what.split_once("lives in ") {
            *home.lock().unwrap() = folder.into();
        } else {
            config.cancel.cancel();
        }
    });
    assert!(matches!(made, Err(Error::Cancelled)), "{made:?}");
    let home = home.into_inner().unwrap();
    assert!(home.is_absolute() && !home.exists(), "{}", home.display());
}

#[test]
fn what_can_not_be_is_refused_before_anything_is_made() {
    let mut config = small();
    config.shards = 0;
    let refused = Lab::start(&config, |step| panic!("{step}")).unwrap_err();
    assert_eq!(refused.to_string(), "shards is 1 to 16, not 0");
    config = small();
    config.pg_bin = Some("/nowhere".into());
    let refused = Lab::start(&config, |step| panic!("{step}")).unwrap_err();
    assert_eq!(refused.to_string(), "/nowhere has no program `postgres`");
}

/// The keeper's work. One server stands still then, and one has its processes but not its parent.
#[test]
fn a_killed_process_leaves_nothing() {
    let me = std::env::current_exe().unwrap();
    let mut command = Command::new(me);
    command.args(["--exact", "ends::hold_a_lab", "--ignored", "--nocapture"]).env(HOLD, "1");
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let home = lines.find_map(|line| Some(line.strip_prefix("home ")?.to_owned())).unwrap();
    let servers: Vec<u32> = lines
        .find_map(|line| Some(line.strip_prefix("servers ")?.to_owned()))
        .map(|ids| ids.split(' ').map(|id| id.parse().unwrap()).collect())
        .unwrap();
    assert!(servers.len() == 2 && servers.iter().all(|id| runs(*id)), "{servers:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the folder goes", || !Path::new(&home).exists());
    until("the servers go", || !servers.iter().any(|id| runs(*id)));
}

#[test]
#[ignore = "a process to be killed, started by another test"]
fn hold_a_lab() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let lab = Lab::start(&small(), |_step| {}).unwrap();
    let servers: Vec<String> = processes(&lab).iter().map(u32::to_string).collect();
    lab.shards()[0].standbys()[0].pause();
    println!("\nhome {}\nservers {}", lab.home().display(), servers.join(" "));
    // Until it is killed.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn processes(lab: &Lab) -> Vec<u32> {
    lab.servers().map(|server| server.process().unwrap()).collect()
}
