//! A real PostgreSQL server: the oracle for what an answer should look like.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::ports::free_port;
use crate::process::Process;
use crate::tools::{Ran, program, run};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A throw-away server on a loopback port, without passwords and without durability.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    listen: SocketAddr,
    home: TempDir,
}

impl Postgres {
    /// Creates a cluster, starts its server and waits until it takes statements.
    pub async fn start() -> Self {
        let home = TempDir::with_prefix("postgres-").expect("a temporary folder");
        let account = account();
        give_to(home.path(), account);
        let data = home.path().join("data");
        let mut initdb = as_account(Command::new(program("initdb")), account, home.path());
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        let made = run({
            initdb.arg("--locale=C").arg(&data);
            initdb
        })
        .await;
        assert!(made.success, "initdb: {}{}", made.out, made.err);

        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log = File::create(home.path().join("log")).expect("a log file");
        let mut server = as_account(Command::new(program("postgres")), account, home.path());
        server.arg("-D").arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", listen.port()),
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "max_connections=50",
            "shared_buffers=64MB",
        ] {
            server.args(["-c", setting]);
        }
        server.stdout(log.try_clone().expect("a second handle to the log")).stderr(log);
        let mut postgres = Self { process: Process::spawn(&mut server), listen, home };
        postgres.until_ready().await;
        postgres
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Runs a script in psql, stops at its first error, and fails the test with it.
    pub async fn script(&self, sql: &str) {
        let file = self.home.path().join("script.sql");
        fs::write(&file, sql).expect("room for a script");
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.listen.port().to_string(), "-d", "postgres", "-f"]).arg(file);
        let Ran { out, err, success, .. } = run(psql).await;
        assert!(success, "{out}{err}");
    }

    /// Stops it the fast way and waits for its end.
    pub async fn stop(mut self) {
        self.process.signal("INT");
        let status = self.process.wait(STOPPED_WITHIN).await;
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.output());
    }

    fn output(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    async fn until_ready(&mut self) {
        let end = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.process.ended() {
                panic!("PostgreSQL ended before it was ready ({status}):\n{}", self.output());
            }
            // It says so in its log before it can be connected to, and afterwards both hold.
            let ready = self.output().contains("ready to accept connections");
            if ready && TcpStream::connect(self.listen).await.is_ok() {
                return;
            }
            assert!(Instant::now() < end, "not ready after {READY_WITHIN:?}:\n{}", self.output());
            sleep(POLL).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown, which also ends the server's own children; its files go anyway.
        self.process.signal("QUIT");
        for _ in 0..100 {
            if self.process.ended().is_some() {
                return;
            }
            std::thread::park_timeout(POLL);
        }
    }
}

/// The unprivileged account to run as, when we are root: PostgreSQL refuses to run as root.
fn account() -> Option<(u32, u32)> {
    let me = fs::metadata("/proc/self").expect("this is Linux").uid();
    if me != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("accounts are listed");
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("an unprivileged account"))
}

/// Makes a folder usable for that account, and readable for us.
fn give_to(folder: &Path, account: Option<(u32, u32)>) {
    if let Some((user, group)) = account {
        chown(folder, Some(user), Some(group)).expect("root may give away its folder");
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("and open it");
    }
}

fn as_account(mut command: Command, account: Option<(u32, u32)>, home: &Path) -> Command {
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command.current_dir(home).env("HOME", home).env_remove("PGDATA");
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[tokio::test]
    async fn a_real_server_starts_answers_and_goes() {
        let postgres = Postgres::start().await;
        postgres.script("CREATE ROLE tester LOGIN; CREATE TABLE t AS SELECT 7 AS x;\n").await;
        let mut wire = Wire::connect(postgres.listen()).await;
        assert_eq!(wire.rows("SHOW server_encoding").await, [[Some("UTF8".to_owned())]]);
        assert_eq!(wire.refusal("SELECT x FROM t").await.sqlstate, "42501");
        let home = postgres.home.path().to_owned();
        drop(wire);
        postgres.stop().await;
        assert!(!home.exists(), "its files are gone");
    }
}
