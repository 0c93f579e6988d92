//! The binary `sortie` under test.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::Metrics;
use crate::ports::free_port;
use crate::process::Process;

const READY_WITHIN: Duration = Duration::from_secs(20);
const LAB_READY_WITHIN: Duration = Duration::from_secs(120);
/// A lab removes thousands of files.
const STOPPED_WITHIN: Duration = Duration::from_secs(45);
const IDLE_WITHIN: Duration = Duration::from_secs(10);
const ADMIN_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// A running server, with its output and its temporary files in a folder of its own.
#[derive(Debug)]
pub struct Server {
    process: Process,
    listen: SocketAddr,
    admin: SocketAddr,
    home: TempDir,
}

/// A server that ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// All it printed.
    pub output: String,
    /// The temporary files it did not remove.
    pub left: Vec<String>,
    /// From the signal to the end.
    pub took: Duration,
}

impl Server {
    /// Starts `binary serve ARGUMENTS` on free ports and waits until it listens.
    pub async fn start(binary: &str, arguments: &[&str]) -> Self {
        let home = TempDir::with_prefix("server-").expect("a temporary folder");
        let log = File::create(home.path().join("log")).expect("a log file");
        let mut server = Self::spawn_in(home, log, binary, "serve", arguments, &[]);
        server.until_ready(READY_WITHIN).await;
        server
    }

    /// As [`start`](Self::start), with these variables in its environment.
    pub async fn start_within(
        binary: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let home = TempDir::with_prefix("server-").expect("a temporary folder");
        let log = File::create(home.path().join("log")).expect("a log file");
        let mut server = Self::spawn_in(home, log, binary, "serve", arguments, environment);
        server.until_ready(READY_WITHIN).await;
        server
    }

    /// As [`start`](Self::start), with an output that takes nothing: every write to it fails.
    pub async fn start_unheard(binary: &str, arguments: &[&str]) -> Self {
        let home = TempDir::with_prefix("server-").expect("a temporary folder");
        let log = File::options().write(true).open("/dev/full").expect("this is Linux");
        let mut server = Self::spawn_in(home, log, binary, "serve", arguments, &[]);
        server.until_ready(READY_WITHIN).await;
        server
    }

    /// Starts `binary lab ARGUMENTS` on free ports and waits until it listens.
    pub async fn lab(binary: &str, arguments: &[&str]) -> Self {
        let mut server = Self::unready_lab(binary, arguments);
        server.until_ready(LAB_READY_WITHIN).await;
        server
    }

    /// As [`lab`](Self::lab), without waiting.
    pub fn unready_lab(binary: &str, arguments: &[&str]) -> Self {
        let home = TempDir::with_prefix("server-").expect("a temporary folder");
        let log = File::create(home.path().join("log")).expect("a log file");
        // The account that runs PostgreSQL has to reach its files.
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(home.path(), open).expect("it is our folder");
        Self::spawn_in(home, log, binary, "lab", arguments, &[])
    }

    fn spawn_in(
        home: TempDir,
        log: File,
        binary: &str,
        verb: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let temporary = home.path().join("tmp");
        fs::create_dir(&temporary).expect("a folder inside it");
        let [listen, admin] = [free_port(), free_port()];
        let [listen, admin] =
            [listen, admin].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut command = Command::new(binary);
        command
            .args([verb, "--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .args(arguments)
            .envs(environment.iter().copied())
            .env("TMPDIR", &temporary)
            .stdout(log.try_clone().expect("a second handle to the log"))
            .stderr(log);
        Self { process: Process::spawn(&mut command), listen, admin, home }
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// The folder it was told to put temporary files into.
    pub fn temporary(&self) -> std::path::PathBuf {
        self.home.path().join("tmp")
    }

    /// Its resident memory in bytes, from `/proc`.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&path).expect("the server runs, and this is Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("VmRSS is in KiB") * 1024
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// A page of the admin address: status code and body.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let page = timeout(ADMIN_WITHIN, get(self.admin, path)).await;
        page.unwrap_or_else(|_| panic!("{path} took more than {ADMIN_WITHIN:?}"))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.output()))
    }

    /// The metrics as they are now.
    pub async fn metrics(&self) -> Metrics {
        let (status, body) = self.page("/metrics").await;
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Waits until no work is in flight, and returns the metrics then. Connections may be open.
    pub async fn idle(&self) -> Metrics {
        self.until_zero(|gauge| !gauge.contains("connections")).await
    }

    /// Waits until every gauge of what is in flight is back at zero: for when all clients left.
    pub async fn abandoned(&self) -> Metrics {
        self.until_zero(|_| true).await
    }

    async fn until_zero(&self, counts: impl Fn(&str) -> bool) -> Metrics {
        let end = Instant::now() + IDLE_WITHIN;
        loop {
            let metrics = self.metrics().await;
            let mut busy = metrics.in_flight();
            assert!(!busy.is_empty(), "no gauge has in_flight in its name");
            busy.retain(|(gauge, value)| *value != 0.0 && counts(gauge));
            if busy.is_empty() {
                return metrics;
            }
            assert!(Instant::now() < end, "never idle: {busy:?}\n{}", self.output());
            sleep(POLL).await;
        }
    }

    /// Sends a signal, and waits for nothing.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM, waits for the end, and insists on success and a clean folder.
    pub async fn stop(self) -> Stopped {
        let stopped = self.end("TERM").await;
        assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.output);
        assert!(stopped.left.is_empty(), "left behind: {:?}\n{}", stopped.left, stopped.output);
        stopped
    }

    /// Sends a signal and waits for the end, whatever it is.
    pub async fn end(mut self, signal: &str) -> Stopped {
        let started = Instant::now();
        self.process.signal(signal);
        let status = self.process.wait(STOPPED_WITHIN).await;
        let output = self.output();
        let status = status.unwrap_or_else(|| {
            panic!("still running {STOPPED_WITHIN:?} after SIG{signal}:\n{output}")
        });
        let left = names(&self.temporary());
        Stopped { status, output, left, took: started.elapsed() }
    }

    async fn until_ready(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.ended() {
                panic!("the server ended before it was ready ({status}):\n{}", self.output());
            }
            // Not `/readyz`: a server that was told to fail a shard listens, and never is ready.
            if matches!(timeout(POLL * 50, get(self.admin, "/healthz")).await, Ok(Ok((200, _)))) {
                return;
            }
            assert!(Instant::now() < end, "not ready after {limit:?}:\n{}", self.output());
            sleep(POLL).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server said:\n{}---", self.output());
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().display().to_string()).collect()
}
