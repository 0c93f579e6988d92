//! The connection to Redis: there, or away. Nobody waits for it longer than one timeout.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, RedisError, RedisResult,
    ScriptInvocation,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Failures in a row after which a connection is made anew, whatever they were.
const FAILURES_MAX: u32 = 8;
/// A connection takes more round trips than a step.
const CONNECT_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Node(ConnectionInfo),
    Cluster(Vec<ConnectionInfo>),
}

/// Redis did not answer, or refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Away;

pub(crate) struct Link {
    pub(crate) target: Target,
    timeout: Duration,
    state: Mutex<State>,
    /// Calls the keeper: the connection was lost, or something is owed.
    pub(crate) call: Notify,
}

#[derive(Default)]
struct State {
    conn: Option<Conn>,
    /// Counts connections: a failure of an older one says nothing about this one.
    serial: u64,
    failures: u32,
}

#[derive(Clone)]
enum Conn {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout, state: Mutex::default(), call: Notify::new() }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.state.lock().conn.is_some()
    }

    /// Runs one step. When it fails it may still have been done, or be done later: every step is
    /// made so that this harms nobody.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        step: &ScriptInvocation<'_>,
    ) -> Result<T, Away> {
        let (mut conn, serial) = {
            let state = self.state.lock();
            (state.conn.clone().ok_or(Away)?, state.serial)
        };
        let answer = timeout(self.timeout, async {
            match &mut conn {
                Conn::Node(conn) => step.invoke_async(conn).await,
                Conn::Cluster(conn) => step.invoke_async(conn).await,
            }
        });
        match answer.await {
            Ok(Ok(answer)) => {
                self.worked(serial);
                Ok(answer)
            }
            Ok(Err(error)) => {
                debug!(%error, "a step failed");
                self.failed(serial, &conn, Some(&error));
                Err(Away)
            }
            Err(_elapsed) => {
                debug!("a step got no answer in time");
                self.failed(serial, &conn, None);
                Err(Away)
            }
        }
    }

    fn worked(&self, serial: u64) {
        let mut state = self.state.lock();
        if state.serial == serial {
            state.failures = 0;
        }
    }

    fn failed(&self, serial: u64, conn: &Conn, error: Option<&RedisError>) {
        // A cluster's connection finds its servers again by itself.
        let lost = matches!(conn, Conn::Node(_)) && error.is_some_and(RedisError::is_io_error);
        let mut state = self.state.lock();
        if state.serial != serial || state.conn.is_none() {
            return;
        }
        state.failures += 1;
        if lost || state.failures >= FAILURES_MAX {
            state.conn = None;
            drop(state);
            warn!("the shared cache is away: reads go on from their source");
            self.call.notify_one();
        }
    }

    /// Connects if there is no connection; says whether there is one then.
    pub(crate) async fn connect(&self) -> bool {
        if self.is_there() {
            return true;
        }
        match timeout(CONNECT_MAX, self.open()).await {
            Ok(Ok(conn)) => {
                let mut state = self.state.lock();
                *state = State { conn: Some(conn), serial: state.serial + 1, failures: 0 };
                true
            }
            Ok(Err(error)) => {
                debug!(%error, "no connection to the shared cache");
                false
            }
            Err(_elapsed) => false,
        }
    }

    async fn open(&self) -> RedisResult<Conn> {
        match &self.target {
            Target::Node(info) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_MAX))
                    .set_response_timeout(None); // Every step has its own.
                let client = Client::open(info.clone())?;
                let conn = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Conn::Node(conn))
            }
            Target::Cluster(nodes) => {
                let client = ClusterClient::builder(nodes.clone())
                    .connection_timeout(CONNECT_MAX)
                    .response_timeout(self.timeout)
                    .retries(2)
                    .build()?;
                Ok(Conn::Cluster(client.get_async_connection().await?))
            }
        }
    }
}
