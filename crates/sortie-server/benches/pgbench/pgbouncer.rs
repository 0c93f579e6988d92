//! PgBouncer, with nothing set but what the comparison needs.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sortie_testkit::free_port;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running PgBouncer; killed when dropped.
pub(crate) struct PgBouncer {
    child: Child,
    listen: SocketAddr,
    _home: TempDir,
}

/// Whether there is one on this machine.
pub(crate) fn is_installed() -> bool {
    Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).status().is_ok()
}

impl PgBouncer {
    /// One with session pooling.
    pub(crate) async fn start(server: SocketAddr, clients: usize) -> Self {
        Self::pooling("session", server, clients).await
    }

    /// One that pools so, with so many connections to the server.
    pub(crate) async fn pooling(mode: &str, server: SocketAddr, clients: usize) -> Self {
        assert!(is_installed(), "there is no pgbouncer to compare with: apt-get install pgbouncer");
        let home = TempDir::with_prefix("pgbouncer-").unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let path = home.path().join("pgbouncer.ini");
        std::fs::write(&path, settings((mode, server), listen, clients)).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg("-q").arg(&path).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + READY_WITHIN;
        while TcpStream::connect(listen).await.is_err() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(Instant::now() < end, "{command:?} does not listen");
            sleep(Duration::from_millis(10)).await;
        }
        Self { child, listen, _home: home }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn settings((mode, server): (&str, SocketAddr), listen: SocketAddr, clients: usize) -> String {
    let (host, port) = (server.ip(), server.port());
    let mut text = format!(
        "[databases]\n\
         bench = host={host} port={port} dbname=bench user=bench\n\
         [pgbouncer]\n\
         listen_addr = {}\n\
         listen_port = {}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = {mode}\n\
         default_pool_size = {clients}\n\
         max_client_conn = 1000\n\
         log_connections = 0\n\
         log_disconnections = 0\n",
        listen.ip(),
        listen.port(),
    );
    // It refuses to run as root.
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        writeln!(text, "user = nobody").unwrap();
    }
    text
}
