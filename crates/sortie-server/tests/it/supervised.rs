//! What the service manager is told: in which order, when it is true, and that nobody else minds.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sortie_testkit::{Server, Wire};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixDatagram};
use tokio::time::timeout;

use crate::support::{BINARY, among_others};

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// A server that does not answer: nobody listens there.
const FILE: &str = "auth = \"trust\"\n[[clusters.bank.shards]]\n\
                    primary = \"postgres://reader@127.0.0.1:1/bank\"\n";

/// A service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = net::UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(UnixDatagram::from_std(socket).unwrap())
    }

    fn in_folder(folder: &Path) -> (Self, String) {
        let path = folder.join("notify");
        let manager = Self::at(&SocketAddr::from_pathname(&path).unwrap());
        (manager, path.to_str().unwrap().to_owned())
    }

    /// The next message.
    async fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let received = timeout(WITHIN, self.0.recv(&mut buffer)).await;
        let length = received.expect("a message comes").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next message that is no sign of life.
    async fn next(&self) -> String {
        loop {
            let message = self.any().await;
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

/// The value of a line of a message.
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let lines = message.lines().filter_map(|line| line.split_once('='));
    let found = lines.clone().find(|(key, _)| *key == name);
    found.map_or_else(|| panic!("{name} is not in {message:?}"), |(_, value)| value)
}

fn monotonic_micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[tokio::test]
async fn a_life_is_told_in_its_order() {
    let _others = among_others().await;
    let folder = tempfile::tempdir().unwrap();
    let (manager, socket) = Manager::in_folder(folder.path());
    let file = folder.path().join("sortie.toml");
    fs::write(&file, FILE).unwrap();
    let arguments = ["-c", file.to_str().unwrap()];
    let environment = [("NOTIFY_SOCKET", &*socket), ("WATCHDOG_USEC", "300000")];
    let server = Server::start_within(BINARY, &arguments, &environment).await;
    let ready = manager.next().await;
    assert_eq!(value(&ready, "READY"), "1");
    assert_eq!(value(&ready, "STATUS"), format!("serving clients on {}", server.listen()));
    TcpStream::connect(server.listen()).await.expect("clients are answered");
    // As often as it likes.
    while manager.any().await != "WATCHDOG=1\n" {}

    for (text, expected) in [
        (format!("{FILE}pool = 7\n"), "nothing has changed: "),
        (format!("connections_max = 7\n{FILE}"), "the configuration was read: connections_max"),
        (format!("connections_max = 7\n{FILE}"), "the configuration was read: the same as before"),
    ] {
        fs::write(&file, &text).unwrap();
        let before = monotonic_micros();
        server.signal("HUP");
        let reloading = manager.next().await;
        assert_eq!(value(&reloading, "RELOADING"), "1");
        let said: i64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&said), "{before}: {reloading}");
        let ready = manager.next().await;
        assert_eq!(value(&ready, "READY"), "1");
        let status = value(&ready, "STATUS");
        assert!(status.starts_with(expected), "{expected}: {status}");
    }

    let client = TcpStream::connect(server.listen()).await.unwrap();
    let told = async {
        let stopping = manager.next().await;
        drop(client);
        stopping
    };
    let (stopped, stopping) = tokio::join!(server.stop(), told);
    assert_eq!(value(&stopping, "STOPPING"), "1");
    assert!(!stopped.output.contains("can't be told"), "{}", stopped.output);
    let mut rest = [0; 4096];
    while let Ok(length) = manager.0.try_recv(&mut rest) {
        assert_eq!(&rest[..length], b"WATCHDOG=1\n");
    }
}

#[tokio::test]
async fn an_abstract_socket_is_found_and_others_watchdogs_are_left_alone() {
    let _others = among_others().await;
    let name = format!("sortie-test-{}", std::process::id());
    let manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let name = format!("@{name}");
    let environment =
        [("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "30000"), ("WATCHDOG_PID", "1")];
    let server = Server::start_within(BINARY, &["--embedded"], &environment).await;
    assert_eq!(value(&manager.any().await, "READY"), "1");
    let (_stopped, next) = tokio::join!(server.stop(), manager.any());
    assert_eq!(value(&next, "STOPPING"), "1");
}

#[tokio::test]
async fn a_manager_that_is_not_there_or_takes_nothing_holds_nobody_up() {
    let _others = among_others().await;
    let folder = TempDir::new().unwrap();
    // Nobody reads here: after some messages there is no room for more.
    let (_deaf, socket) = Manager::in_folder(folder.path());
    for socket in [&*socket, "/nowhere/notify", "vsock:2:1"] {
        let environment = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "3000")];
        let server = Server::start_within(BINARY, &["--embedded"], &environment).await;
        assert_eq!(Wire::connect(server.listen()).await.rows("SELECT 1").await.len(), 1);
        let stopped = server.stop().await;
        // Of the deaf one, it depends on the machine how soon it is found out.
        let said = ["can't be told", "can't be used"].map(|it| stopped.output.contains(it));
        match socket {
            "/nowhere/notify" => assert_eq!(said, [true, false], "{}", stopped.output),
            "vsock:2:1" => assert_eq!(said, [false, true], "{}", stopped.output),
            _ => assert!(!said[1], "{}", stopped.output),
        }
    }
}
