//! Herds through drivers as they are by default: one question of many is a few statements.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{FaultProxy, Flow, Metrics, Server, Way, cluster, python, run, workspace};
use tempfile::{NamedTempFile, TempDir};
use tokio::time::sleep;

use crate::clients::rust_clients;
use crate::lazy::{attempts, before, pins};
use crate::relay::count;
use crate::support::{ROUNDS_MAX, alone};

/// Statements that a herd of 200 may cost.
const STATEMENTS_MAX: i64 = 5;

/// What a statement takes.
const LATE: Duration = Duration::from_secs(1);

/// A server whose answers are late, and an endpoint before it.
struct Slow {
    proxy: FaultProxy,
    server: Server,
    _config: NamedTempFile,
}

impl Slow {
    async fn start() -> Self {
        let cluster = cluster().await;
        let proxy = FaultProxy::start(cluster.primary(0).address()).await;
        proxy.spare("sortie watch");
        let url = format!("postgres://reader@{}/sortie", proxy.listen());
        let (server, config) = before(url, "reader").await;
        Self { proxy, server, _config: config }
    }

    /// Statements that one herd costs, and connections that its sessions take.
    async fn herd(&self, client: &impl Fn(SocketAddr, &Path) -> Command) -> (i64, i64) {
        let folder = TempDir::new().unwrap();
        let herd = run(client(self.server.listen(), folder.path()));
        let begun = async {
            while !folder.path().join("ready").exists() {
                sleep(Duration::from_millis(20)).await;
            }
            let begun = self.server.metrics().await;
            self.proxy.flow(Way::Down, Flow::Delay(LATE));
            fs::write(folder.path().join("go"), "").unwrap();
            begun
        };
        let begun = async {
            tokio::select! {
                begun = begun => Some(begun),
                () = sleep(Duration::from_secs(120)) => None,
            }
        };
        let (ran, begun) = tokio::join!(herd, begun);
        self.proxy.flow(Way::Down, Flow::Free);
        assert!(ran.success, "{}{}", ran.out, ran.err);
        assert_eq!(ran.out.trim(), "200 answers, 1 different");
        let ended = self.server.abandoned().await;
        let begun = begun.unwrap();
        (statements(&ended) - statements(&begun), pins(&ended) - pins(&begun))
    }

    /// Insists on few statements for a herd: other programs can only make it more of them, so the
    /// best of some rounds counts.
    async fn check(&self, name: &str, client: impl Fn(SocketAddr, &Path) -> Command) {
        let mut fewest = i64::MAX;
        for _ in 0..ROUNDS_MAX {
            let (statements, pins) = self.herd(&client).await;
            println!("{name}: 200 callers, {statements} statements, {pins} connections taken");
            assert_eq!(pins, 0, "{name}");
            fewest = fewest.min(statements);
            if fewest <= STATEMENTS_MAX {
                break;
            }
        }
        assert!((1..=STATEMENTS_MAX).contains(&fewest), "{name}: {fewest}");
    }
}

/// What servers were asked to run, and not only to describe.
fn statements(said: &Metrics) -> i64 {
    attempts(said) - count(said, "sortie_descriptions_asked_total", &[])
}

#[tokio::test]
async fn a_herd_through_python_s_drivers_is_a_few_statements() {
    let _alone = alone().await;
    let slow = Slow::start().await;
    let script = workspace().join("tests/clients/herd.py");
    for driver in ["psycopg", "sqlalchemy", "asyncpg.fetch", "asyncpg.fetchrow"] {
        slow.check(driver, |server, folder| {
            let mut command = Command::new(python());
            command.arg(&script).arg(server.port().to_string()).arg(driver).arg(folder);
            command
        })
        .await;
    }
    slow.server.stop().await;
}

#[tokio::test]
async fn a_herd_through_rust_s_drivers_is_a_few_statements() {
    let _alone = alone().await;
    let clients = rust_clients().await;
    let slow = Slow::start().await;
    for driver in ["tokio-postgres", "sqlx"] {
        slow.check(driver, |server, folder| {
            let mut command = Command::new(&clients);
            command.arg(server.port().to_string()).arg("herd").arg(driver).arg(folder);
            command
        })
        .await;
    }
    slow.server.stop().await;
}
