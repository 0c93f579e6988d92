//! Queries of `tokio_postgres` clients that are called back, on a real server.

mod foreign_kills;
mod quarantine;

use std::time::Duration;

use sortie_postgres::clients::{Recall, RecallStats};
use sortie_testkit::Postgres;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};

/// A server, its recall, and the tasks that drive its clients' connections.
struct Bench {
    server: Postgres,
    config: Config,
    recall: Recall,
    connections: JoinSet<()>,
}

impl Bench {
    async fn new() -> Self {
        let server = Postgres::start().await;
        let mut config = Config::new();
        config.host("127.0.0.1").port(server.listen().port()).user("postgres").dbname("postgres");
        let recall = Recall::new(&config).unwrap();
        Self { server, config, recall, connections: JoinSet::new() }
    }

    async fn client(&mut self) -> Client {
        let (client, connection) = self.config.connect(NoTls).await.unwrap();
        self.connections.spawn(async move { connection.await.unwrap_or(()) });
        client
    }

    /// How many statements of ours the server runs, apart from this question.
    async fn active(&mut self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                     AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.client().await.query_one(count, &[]).await.unwrap().get(0)
    }

    /// Waits until nobody is in quarantine.
    async fn settled(&self) -> RecallStats {
        let end = Instant::now() + Duration::from_secs(20);
        while self.recall.stats().in_flight > 0 {
            assert!(Instant::now() < end, "still in quarantine: {:?}", self.recall);
            sleep(Duration::from_millis(1)).await;
        }
        self.recall.stats()
    }
}

/// Starts `sql` on a client, and calls it back after `age`.
async fn called_back<C: sortie_postgres::clients::Lend>(
    recall: &Recall,
    client: C,
    sql: &str,
    age: Duration,
) {
    let query = recall.run(client, |client| async move { client.batch_execute(sql).await });
    let ended = timeout(age, query).await;
    assert!(ended.is_err(), "the query had to be running still");
}
