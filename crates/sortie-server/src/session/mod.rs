//! One client's connection, from its first byte to its last.
//!
//! A *session* speaks the PostgreSQL protocol with one client: it classifies statements, asks the
//! read path for rows, and answers itself what only concerns its own state. It runs in the task
//! of whoever calls [`Sessions::serve`], and starts none of its own.
//!
//! # Invariants
//!
//! 1. Replies come in the order of the messages: one at a time is worked on.
//! 2. After an error in the extended protocol everything up to the next Sync is skipped.
//! 3. While a read is awaited the connection is watched: a client that goes leaves its flight at
//!    once, and what it has sent ahead is kept. Only one that has sent ahead as much as is kept
//!    is seen to go later.
//! 4. Everything a client can make grow has a bound in [`Limits`].
//! 5. A session that is dropped holds nothing: no flight, no key, no gauge.

mod extended;
pub(crate) mod failure;
pub(crate) mod keys;
mod limits;
pub(crate) mod line;
mod local;
mod portal;
pub(crate) mod refusal;
mod simple;
pub(crate) mod socket;
pub(crate) mod startup;
mod state;
pub(crate) mod stats;
mod talk;

use std::sync::Arc;

use sortie_postgres::backend::Severity;
use sortie_sqlite::Replica;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::config::Tls;
use crate::read::{ReadPath, Reply, Who};
use crate::sql::{BoundRead, Catalog, Settings, SqlError};

use self::failure::Failure;
use self::keys::Keys;
pub(crate) use self::limits::Limits;
use self::refusal::Refusal;
use self::socket::Socket;
use self::startup::Wish;
pub(crate) use self::stats::ClientStats;
use self::stats::Stats;
use self::talk::Session;

/// SQLSTATE codes of the startup phase.
pub(crate) mod code {
    pub(crate) const INVALID_AUTHORIZATION: &str = "28000";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const CANNOT_CONNECT_NOW: &str = "57P03";
}

/// Where a session's reads go. The read path, or a script in tests.
pub(crate) trait Reads: Send + Sync + 'static {
    /// Reads what `bound` asks for; see [`ReadPath::read`].
    fn read(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Arc<Reply>, SqlError>> + Send;
}

/// All sessions of an endpoint. Clones share everything.
#[derive(Debug)]
pub(crate) struct Sessions<R>(Arc<Shared<R>>);

/// What sessions share.
#[derive(Debug)]
struct Shared<R> {
    reads: R,
    catalog: Catalog,
    limits: Limits,
    keys: Keys,
    stats: Stats,
    drain: watch::Receiver<bool>,
}

impl<R: Reads> Sessions<R> {
    /// Creates the sessions of an endpoint. When `drain` becomes true, or its sender is dropped,
    /// idle sessions end, and the others when their statement is done.
    pub(crate) fn new(
        reads: R,
        catalog: Catalog,
        limits: Limits,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let keys = Keys::new(limits.sessions_max);
        Self(Arc::new(Shared { reads, catalog, limits, keys, stats: Stats::default(), drain }))
    }

    /// Serves one connection to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; a read it waits for loses this waiter.
    pub(crate) async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let shared = &*self.0;
        let _running = shared.stats.connection();
        let mut socket = Socket::new(stream, &shared.limits);
        let Err(end) = shared.session(&mut socket).await else { return };
        tracing::debug!(%end, "a connection ends");
        let end = match end {
            Failure::Refused(reason, told) => {
                shared.stats.refuse(reason);
                let Some(error) = told else { return };
                Failure::Fatal(error)
            }
            other => other,
        };
        match end {
            Failure::Fatal(error) | Failure::Statement(error) => {
                shared.stats.error();
                failure::say(&mut socket.output, Severity::Fatal, &error);
                socket.close().await;
            }
            Failure::Stalled => shared.stats.stall(),
            Failure::Gone | Failure::Refused(..) => {}
        }
    }

    /// Reads the counters and gauges.
    pub(crate) fn stats(&self) -> ClientStats {
        self.0.stats.read()
    }
}

impl<R> Clone for Sessions<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Reads> Shared<R> {
    /// Ends well only where a session never began.
    async fn session<S>(&self, socket: &mut Socket<S>) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut drain = self.drain.clone();
        let greeting = startup::greet(socket, &Tls::Off, &self.keys, &mut drain);
        let Ok(wish) = timeout(self.limits.login_max, greeting).await else {
            return Err(Failure::Refused(Refusal::Slow, None));
        };
        let hello = match wish.map_err(Refusal::Protocol.because())? {
            Wish::Session(hello) => hello,
            Wish::Cancel(cancel) => {
                if cancel.is_some() {
                    self.stats.cancel();
                }
                return Ok(());
            }
        };
        hello.negotiate(socket);
        let asked = hello.read().map_err(Failure::Fatal).map_err(Refusal::Protocol.because())?;
        let settings = Settings::new(asked.user, asked.database, asked.parameters)
            .map_err(Failure::Fatal)
            .map_err(Refusal::Setting.because())?;
        let key = self.keys.register(hello.secret_len()).ok_or_else(Failure::too_many)?;
        self.stats.login();
        let span = tracing::debug_span!("session", process = key.process());
        Session::new(self, socket, settings, key, drain).talk().instrument(span).await
    }
}

impl Reads for ReadPath<Replica> {
    fn read(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Arc<Reply>, SqlError>> + Send {
        Self::read(self, who, bound, formats, deadline)
    }
}

/// Waits until the endpoint is shut down.
pub(crate) async fn drained(drain: &mut watch::Receiver<bool>) {
    // A sender that is gone has nobody left to serve for.
    let _ended = drain.wait_for(|&drain| drain).await;
}

#[cfg(test)]
mod tests;
