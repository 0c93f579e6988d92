//! One server of a cluster, as tests move it: every call waits on a blocking thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sortie_lab::{Error, Lab, Server};
use tokio::task::spawn_blocking;

/// One PostgreSQL server; keeps its cluster alive.
#[derive(Clone, Debug)]
pub struct Node {
    lab: Arc<Lab>,
    shard: usize,
    server: usize,
}

impl Node {
    pub(crate) fn new(lab: &Arc<Lab>, shard: usize, server: usize) -> Self {
        Self { lab: Arc::clone(lab), shard, server }
    }

    fn server(&self) -> &Server {
        let server = self.lab.shards()[self.shard].servers().nth(self.server);
        server.expect("a node is one of the lab's servers")
    }

    /// Its name, e.g. `shard 0 standby 1` (the first: names count standbys from 1).
    pub fn name(&self) -> &str {
        self.server().name()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> PathBuf {
        self.server().socket_folder().expect("the temporary folder's path is short")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.server().data()
    }

    /// A URL for database `sortie`.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@{}/sortie", self.address())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.server().log()
    }

    /// The postmaster's process; `None` when it does not run.
    pub fn process(&self) -> Option<u32> {
        self.server().process()
    }

    /// Runs a script in database `sortie` as superuser, fails the test at its first error, and
    /// returns its rows: columns separated by `|`.
    pub async fn script(&self, sql: &str) -> String {
        self.script_in("sortie", sql).await
    }

    /// As [`script`](Self::script), in another database.
    pub async fn script_in(&self, database: &str, sql: &str) -> String {
        let (database, sql) = (database.to_owned(), sql.to_owned());
        self.with(move |server| server.script(&database, &sql)).await
    }

    /// Starts it and waits until it takes statements.
    pub async fn start(&self) {
        self.with(Server::start).await;
    }

    /// Stops it in order.
    pub async fn stop(&self) {
        self.with(Server::stop).await;
    }

    /// Ends it as a crash would.
    pub async fn kill(&self) {
        self.with(Server::kill).await;
    }

    /// Stops and starts it.
    pub async fn restart(&self) {
        self.with(Server::restart).await;
    }

    /// Halts every process of it: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.with(|server| {
            server.pause();
            Ok(())
        })
        .await;
    }

    /// Lets it go on.
    pub async fn resume(&self) {
        self.with(|server| {
            server.resume();
            Ok(())
        })
        .await;
    }

    /// Stops a standby from replaying what it receives.
    pub async fn pause_replay(&self) {
        self.with(Server::pause_replay).await;
    }

    /// Lets a standby replay again.
    pub async fn resume_replay(&self) {
        self.with(Server::resume_replay).await;
    }

    /// Makes a standby a primary that waits for no standby.
    pub async fn promote(&self) {
        self.with(Server::promote).await;
    }

    /// Makes a standby follow another primary.
    pub async fn follow(&self, primary: &Self) {
        let primary = primary.clone();
        self.with(move |server| server.follow(primary.server())).await;
    }

    /// Makes it, whatever it was, a running standby of that primary, from a fresh copy.
    pub async fn rebuild_from(&self, primary: &Self) {
        let primary = primary.clone();
        let rebuild = move |server: &Server| {
            server.rebuild_from(primary.server())?;
            server.start()
        };
        self.with(rebuild).await;
    }

    /// Makes its commits wait for all of these.
    pub async fn require(&self, standbys: &[Self]) {
        let standbys = standbys.to_vec();
        let require = move |server: &Server| {
            let standbys: Vec<&Server> = standbys.iter().map(Self::server).collect();
            server.require(&standbys)
        };
        self.with(require).await;
    }

    /// Changes a setting of a running server; one that needs a start holds from the next one on.
    pub async fn set(&self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.with(move |server| server.set(&[(&name, &value)])).await;
    }

    /// Replaces the lines of `pg_hba.conf`.
    pub async fn set_hba(&self, lines: &str) {
        let lines = lines.to_owned();
        self.with(move |server| server.set_hba(&lines)).await;
    }

    async fn with<T, F>(&self, run: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Server) -> Result<T, Error> + Send + 'static,
    {
        let node = self.clone();
        // The blocking pool owns it; the caller waits for it here.
        let ran = spawn_blocking(move || run(node.server())).await;
        let ran = ran.expect("moving a server does not panic");
        ran.unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie_lab::LabConfig;
    use tokio::time::timeout;

    use crate::Cluster;
    use crate::wire::Wire;

    async fn small(standbys: u32) -> Cluster {
        let mut config = LabConfig::default();
        (config.shards, config.replicas, config.rows) = (1, standbys, 100);
        Cluster::private(config).await
    }

    #[tokio::test]
    async fn a_paused_server_says_nothing_and_goes_on_where_it_stood() {
        let cluster = small(1).await;
        let standby = cluster.standby(0, 0);
        standby.script_in("postgres", "SELECT 1").await;
        cluster.primary(0).script("CREATE ROLE tester LOGIN").await;
        let mut wire = Wire::connect(standby.address()).await;
        assert_eq!(wire.rows("SELECT 7").await.len(), 1);
        standby.pause().await;
        let asked = timeout(Duration::from_millis(500), wire.rows("SELECT 8")).await;
        assert!(asked.is_err(), "{asked:?}");
        standby.resume().await;
        wire.until_ready().await;
        assert_eq!(wire.rows("SELECT 9").await, [[Some("9".to_owned())]]);
    }

    #[tokio::test]
    async fn replay_stands_still_until_it_is_resumed() {
        let cluster = small(1).await;
        let (primary, standby) = (cluster.primary(0), cluster.standby(0, 0));
        standby.pause_replay().await;
        // Nobody waits for the standby then.
        primary.script("SET synchronous_commit = local; UPDATE users SET balance = 1").await;
        let ones = "SELECT count(*) FROM users WHERE balance = 1";
        assert_eq!(standby.script(ones).await.trim(), "0");
        standby.resume_replay().await;
        primary.script("SELECT pg_logical_emit_message(true, '', '')").await;
        assert_eq!(standby.script(ones).await.trim(), "100");
    }

    #[tokio::test]
    async fn a_shard_survives_its_primary() {
        let cluster = small(2).await;
        let (old, new, other) = (cluster.primary(0), cluster.standby(0, 0), cluster.standby(0, 1));
        old.kill().await;
        assert_eq!(old.process(), None);
        new.promote().await;
        other.follow(&new).await;
        new.require(std::slice::from_ref(&other)).await;
        new.script("UPDATE users SET balance = 77 WHERE user_id = 1").await;
        let balance = "SELECT balance FROM users WHERE user_id = 1";
        assert_eq!(other.script(balance).await.trim(), "77");
        old.rebuild_from(&new).await;
        assert_eq!(old.script("SELECT pg_is_in_recovery()").await.trim(), "t");
        assert_eq!(old.script(balance).await.trim(), "77");
        other.kill().await;
        other.restart().await;
        assert_eq!(other.script(balance).await.trim(), "77");
    }
}
