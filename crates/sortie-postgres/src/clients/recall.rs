//! Queries that can be called back.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Error, NoTls};

use super::address::{Address, CancelSocket};
use super::lent::{Lend, Lent};
use super::quarantine::{Quarantine, SendCancel, sender};

/// Calls queries of one server's clients back when their futures are dropped.
///
/// A handle, cheap to clone; keep one for each server, beside its pool.
///
/// # Examples
///
/// A hedged read over two pools. The loser is cancelled on its server, and its client is back in
/// its pool when that is over:
///
/// ```no_run
/// use std::time::Duration;
///
/// use sortie::{Hedge, ReplicaSet};
/// use sortie_postgres::clients::{Recall, SqlStates};
/// use tokio_postgres::{Client, Config, NoTls};
///
/// #[derive(Clone)]
/// struct Replica {
///     config: Config,
///     recall: Recall,
/// }
///
/// impl Replica {
///     fn new(url: &str) -> Result<Self, Box<dyn std::error::Error>> {
///         let config: Config = url.parse()?;
///         Ok(Self { recall: Recall::new(&config)?, config })
///     }
///
///     // A pool would do this.
///     async fn client(&self) -> Result<Client, tokio_postgres::Error> {
///         let (client, connection) = self.config.connect(NoTls).await?;
///         tokio::spawn(connection);
///         Ok(client)
///     }
///
///     async fn balance(self, user: i64) -> Result<i64, tokio_postgres::Error> {
///         let query = "SELECT balance FROM users WHERE user_id = $1";
///         let row = self.recall.run(self.client().await?, move |client| async move {
///             client.query_one(query, &[&user]).await
///         });
///         row.await?.try_get(0)
///     }
/// }
///
/// # async fn read() -> Result<(), Box<dyn std::error::Error>> {
/// let urls = ["postgres://reader@one/bank", "postgres://reader@two/bank"];
/// let replicas = ReplicaSet::new([Replica::new(urls[0])?, Replica::new(urls[1])?]);
/// let hedge = Hedge::after(Duration::from_millis(70)).classify(SqlStates);
/// let balance = hedge.run(&replicas, |replica| replica.balance(42)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recall {
    quarantine: Arc<Quarantine>,
}

/// Options of a [`Recall`].
pub struct RecallBuilder {
    pub(super) address: Address,
    pub(super) send: Arc<SendCancel>,
    pub(super) quarantined_max: usize,
    pub(super) cancels_max: usize,
    pub(super) quarantine_max: Duration,
}

/// Why a [`Recall`] can't be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RecallError {
    /// The configuration names no server, or several: a cancel must go where its query runs.
    Servers,
}

/// What became of queries that were called back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RecallStats {
    /// Queries whose futures were dropped before they had an answer.
    pub called_back: u64,
    /// Those that ended by themselves before a cancel was worth its cost.
    pub drained: u64,
    /// Those that a cancel was sent for.
    pub cancelled: u64,
    /// Clients that were closed: not idle in time, or more in quarantine than may be.
    pub closed: u64,
    /// Clients in quarantine now.
    pub in_flight: usize,
}

impl Recall {
    /// Creates the recall of the server that `config` names, for cancels without TLS.
    ///
    /// # Errors
    ///
    /// [`RecallError::Servers`] unless `config` names one server.
    pub fn new(config: &Config) -> Result<Self, RecallError> {
        Ok(Self::builder(config)?.build())
    }

    /// Starts a recall with other than the default options.
    ///
    /// # Errors
    ///
    /// As [`Recall::new`].
    pub fn builder(config: &Config) -> Result<RecallBuilder, RecallError> {
        let address = Address::of(config).ok_or(RecallError::Servers)?;
        Ok(RecallBuilder {
            address,
            send: sender(NoTls),
            quarantined_max: 64,
            cancels_max: 4,
            quarantine_max: Duration::from_secs(10),
        })
    }

    /// Runs `query` on `client`, and calls it back if the future is dropped before its answer.
    ///
    /// The client is given back by dropping it: at once after an answer or an error, after its
    /// quarantine when the query was called back. Only statements outside of transactions that
    /// the caller goes on with are worth calling back: a quarantine ends an open transaction.
    ///
    /// # Errors
    ///
    /// Those of `query`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future calls the query back: nothing waits for it, and another query on the
    /// same client can't be hit. Outside of a Tokio runtime the client is closed instead, and the
    /// query runs on to its end unless the server notices (`client_connection_check_interval`).
    pub async fn run<C, V, F, Fut>(&self, client: C, query: F) -> Result<V, Error>
    where
        C: Lend,
        F: FnOnce(Lent<C>) -> Fut,
        Fut: Future<Output = Result<V, Error>>,
    {
        let client = Arc::new(client);
        let callback = Callback { client: Some(Arc::clone(&client)), recall: self };
        let answer = query(Lent(client)).await;
        callback.disarm();
        answer
    }

    /// Reads what became of the queries that were called back.
    pub fn stats(&self) -> RecallStats {
        self.quarantine.stats()
    }
}

impl RecallBuilder {
    /// Makes cancels speak TLS as the clients do, with the same connector.
    #[must_use]
    pub fn tls<T>(self, tls: T) -> Self
    where
        T: MakeTlsConnect<CancelSocket> + Clone + Send + Sync + 'static,
        T::TlsConnect: Send,
        T::Stream: Send,
        <T::TlsConnect as TlsConnect<CancelSocket>>::Future: Send,
    {
        Self { send: sender(tls), ..self }
    }

    /// Clients in quarantine at a time; one more is closed. The default is 64.
    #[must_use]
    pub fn quarantined_max(self, quarantined_max: usize) -> Self {
        Self { quarantined_max, ..self }
    }

    /// Cancels under way at a time; each makes the server fork. The default is 4.
    #[must_use]
    pub fn cancels_max(self, cancels_max: usize) -> Self {
        Self { cancels_max: cancels_max.max(1), ..self }
    }

    /// How long a quarantine may last before the client is closed. The default is 10 s.
    #[must_use]
    pub fn quarantine_max(self, quarantine_max: Duration) -> Self {
        Self { quarantine_max, ..self }
    }

    /// Creates the recall.
    pub fn build(self) -> Recall {
        Recall { quarantine: Arc::new(Quarantine::new(self)) }
    }
}

/// Calls a query back when it is dropped armed.
struct Callback<'a, C: Lend> {
    client: Option<Arc<C>>,
    recall: &'a Recall,
}

impl<C: Lend> Callback<'_, C> {
    fn disarm(mut self) {
        self.client = None;
    }
}

impl<C: Lend> Drop for Callback<'_, C> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.recall.quarantine.admit(client);
        }
    }
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").field("stats", &self.quarantine.stats()).finish()
    }
}

impl fmt::Debug for RecallBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecallBuilder").field("address", &self.address).finish_non_exhaustive()
    }
}

impl StdError for RecallError {}

impl fmt::Display for RecallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Servers => f.write_str(
                "the configuration must name exactly one host and port: a cancel has to go to \
                 the server where its query runs",
            ),
        }
    }
}
