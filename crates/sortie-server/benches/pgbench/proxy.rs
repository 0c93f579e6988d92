//! What pgbench talks to.

use std::fs;
use std::net::SocketAddr;

use sortie_testkit::Server;
use tempfile::TempDir;

use crate::pgbouncer::PgBouncer;
use crate::work::Target;

const SORTIE: &str = env!("CARGO_BIN_EXE_sortie");

/// A target that stands.
pub(crate) enum Proxy {
    /// The server itself.
    None(SocketAddr),
    PgBouncer(PgBouncer),
    /// With the folder that its file is in.
    Sortie(Server, TempDir),
}

impl Proxy {
    /// Starts one with as many connections to the server as there are clients.
    pub(crate) async fn start(target: Target, server: SocketAddr, clients: usize) -> Self {
        match target {
            Target::Direct => Self::None(server),
            Target::PgBouncer => Self::PgBouncer(PgBouncer::start(server, clients).await),
            Target::Pipe | Target::Observe | Target::Running | Target::Fresh => {
                let home = TempDir::with_prefix("pgbench-").unwrap();
                let file = home.path().join("sortie.toml");
                fs::write(&file, configuration(server, clients, target.mode())).unwrap();
                let server = Server::start(SORTIE, &["-c", file.to_str().unwrap()]).await;
                Self::Sortie(server, home)
            }
        }
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        match self {
            Self::None(server) => *server,
            Self::PgBouncer(it) => it.listen(),
            Self::Sortie(it, _home) => it.listen(),
        }
    }

    /// CPU seconds that it has taken so far, over all its threads.
    pub(crate) fn cpu_time(&self) -> f64 {
        let process = match self {
            Self::None(_) => return 0.0,
            Self::PgBouncer(it) => it.id(),
            Self::Sortie(it, _home) => it.id(),
        };
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        let spent =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
        let nanoseconds = spent.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok());
        nanoseconds.sum::<f64>() / 1e9
    }

    pub(crate) async fn stop(self) {
        if let Self::Sortie(server, _home) = self {
            server.stop().await;
        }
    }
}

fn configuration(server: SocketAddr, clients: usize, mode: &str) -> String {
    format!(
        "auth = \"trust\"\n\
         [clusters.bench]\n\
         mode = \"{mode}\"\n\
         [clusters.bench.pool]\n\
         connections_max = {clients}\n\
         [[clusters.bench.shards]]\n\
         replicas = [\"postgres://bench@{server}/bench\"]\n"
    )
}
