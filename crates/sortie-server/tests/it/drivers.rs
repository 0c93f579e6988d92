//! Herds through drivers as they are by default: one question of many is a few statements.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_testkit::{
    FaultProxy, Flow, Metrics, Server, Way, cluster, node, python, run, workspace,
};
use tempfile::{NamedTempFile, TempDir};
use tokio::time::sleep;

use crate::clients::{java_client, rust_clients};
use crate::lazy::{attempts, before_with, pins};
use crate::lone::lone;
use crate::relay::count;
use crate::support::{ROUNDS_MAX, alone};

/// Statements that a herd of 200 may cost.
const STATEMENTS_MAX: i64 = 5;

/// What a statement takes.
const LATE: Duration = Duration::from_secs(1);

/// A herd: how many there are, and what a statement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Herd {
    pub(crate) callers: u32,
    pub(crate) late: Duration,
}

const HERD: Herd = Herd { callers: 200, late: LATE };

/// A server whose answers are late, and an endpoint before it.
pub(crate) struct Slow {
    proxy: FaultProxy,
    pub(crate) server: Server,
    _config: NamedTempFile,
}

impl Slow {
    /// With so many connections to the server.
    pub(crate) async fn with(connections_max: u32) -> Self {
        let cluster = cluster().await;
        let proxy = FaultProxy::start(cluster.primary(0).address()).await;
        proxy.spare("sortie watch");
        let url = format!("postgres://reader@{}/sortie", proxy.listen());
        let (server, config) = before_with(url, "reader", connections_max).await;
        Self { proxy, server, _config: config }
    }

    /// What is counted when a herd begins, and when it has ended.
    pub(crate) async fn herd(
        &self,
        herd: Herd,
        client: &impl Fn(SocketAddr, &Path) -> Command,
    ) -> (Metrics, Metrics) {
        let Herd { callers, late } = herd;
        let folder = TempDir::new().unwrap();
        let mut command = client(self.server.listen(), folder.path());
        command.env("HERD_CALLERS", callers.to_string());
        let herd = run(command);
        let begun = async {
            while !folder.path().join("ready").exists() {
                sleep(Duration::from_millis(20)).await;
            }
            let begun = self.server.metrics().await;
            self.proxy.flow(Way::Down, Flow::Delay(late));
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
        let all = format!("{callers} answers, 1 different");
        assert_eq!(ran.out.trim(), all, "{}", ran.err);
        (begun.unwrap(), self.server.abandoned().await)
    }

    /// Insists on few statements for a herd: other programs can only make it more of them, so the
    /// best of some rounds counts.
    async fn check(&self, name: &str, client: impl Fn(SocketAddr, &Path) -> Command) {
        let mut fewest = i64::MAX;
        for _ in 0..ROUNDS_MAX {
            let before = calls().await;
            let (begun, ended) = self.herd(HERD, &client).await;
            let statements = statements(&ended) - statements(&begun);
            assert_eq!(calls().await - before, statements, "{name}: what the server counts");
            let pins = pins(&ended) - pins(&begun);
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

/// What the server has counted of a herd's statement.
async fn calls() -> i64 {
    let count = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements \
        WHERE query LIKE 'SELECT user_id, name FROM users WHERE user_id %'";
    let said = cluster().await.primary(0).script_in("postgres", count).await;
    said.trim().parse().unwrap_or_else(|_| panic!("{said}"))
}

/// What servers were asked to run, and not only to describe.
pub(crate) fn statements(said: &Metrics) -> i64 {
    attempts(said) + lone(said) - count(said, "sortie_descriptions_asked_total", &[])
}

#[tokio::test]
async fn a_herd_through_python_s_drivers_is_a_few_statements() {
    let _alone = alone().await;
    let slow = Slow::with(5).await;
    let script = workspace().join("tests/clients/herd.py");
    for driver in ["psycopg", "psycopg2", "sqlalchemy", "asyncpg.fetch", "asyncpg.fetchrow"] {
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
    let slow = Slow::with(5).await;
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

#[tokio::test]
async fn a_herd_through_jdbc_and_node_postgres_is_a_few_statements() {
    let _alone = alone().await;
    let java = java_client("Herd").await;
    let slow = Slow::with(5).await;
    for driver in ["jdbc", "jdbc.transactions"] {
        slow.check(driver, |server, folder| java.with(driver, folder).at(server)).await;
    }
    let script = workspace().join("tests/clients/node/herd.js");
    slow.check("node-postgres", |server, folder| {
        let mut command = node();
        command.arg(&script).arg(server.port().to_string()).arg(folder);
        command
    })
    .await;
    slow.server.stop().await;
}
