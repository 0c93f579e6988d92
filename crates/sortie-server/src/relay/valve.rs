//! What holds the statements of a cluster back while somebody has paused it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::roster::{Entry, Meter, Work};
use super::session::{Session, Signals};
use super::shared::Shared;
use crate::session::failure::Failure;
use crate::sql::{SqlError, state};

/// How long a statement is held back: as long as one waits for a server in `PgBouncer`.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(120);

/// Open, or closed for everything that would need a server.
#[derive(Debug, Default)]
pub(crate) struct Valve {
    closed: AtomicBool,
    opened: Notify,
}

impl Valve {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Holds back what comes from now on. Returns whether it was open.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, SeqCst)
    }

    /// Lets everything go on. Returns whether it was closed.
    pub(crate) fn open(&self) -> bool {
        let was_closed = self.closed.swap(false, SeqCst);
        self.opened.notify_waiters();
        was_closed
    }

    /// Waits until it is open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    pub(crate) async fn opened(&self) {
        loop {
            let opened = self.opened.notified();
            if !self.is_closed() {
                return;
            }
            opened.await;
        }
    }
}

impl Cluster {
    /// Begins what a session that is not there yet needs a server for, as soon as the cluster is
    /// not paused.
    ///
    /// # Errors
    ///
    /// It has been for too long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    pub(super) async fn admits(&self, entry: &Arc<Entry>) -> Result<Work, SqlError> {
        let mut meter = Meter::new(entry);
        loop {
            let work = meter.works();
            if !self.valve.is_closed() {
                return Ok(work);
            }
            drop(work);
            let since = meter.waits(true);
            let open = self.opened().await;
            meter.waited(since);
            if let Err(error) = open {
                drop(meter.works());
                return Err(error);
            }
        }
    }

    /// Waits until it is paused no more.
    async fn opened(&self) -> Result<(), SqlError> {
        let open = timeout(HELD_MAX, self.valve.opened()).await;
        open.map_err(|_late| still_paused(&self.config.name))
    }
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Begins what needs a server, as soon as the cluster is not paused.
    pub(super) async fn admitted<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Result<Work, SqlError>, Failure> {
        loop {
            let work = self.meter.works();
            if !self.cluster.valve.is_closed() {
                return Ok(Ok(work));
            }
            drop(work);
            let since = self.meter.waits(true);
            let cluster = Arc::clone(&self.cluster);
            let open = self.attend(async move { cluster.opened().await }, signals).await?;
            self.meter.waited(since);
            if let Err(error) = open {
                drop(self.meter.works());
                return Ok(Err(error));
            }
        }
    }
}

fn still_paused(database: &str) -> SqlError {
    let message = format!("database \"{database}\" is paused");
    SqlError::new(state::CANNOT_CONNECT_NOW, message)
        .detail(format!("It has been for {HELD_MAX:?}, since this statement came."))
        .hint("An administrator ends that with RESUME, in the admin database.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_it_is_opened() {
        let valve = Valve::default();
        valve.opened().await;
        assert!(valve.close() && !valve.close());
        let waiting = timeout(Duration::from_secs(1), valve.opened());
        assert!(waiting.await.is_err());
        let (opened, ()) = tokio::join!(timeout(Duration::from_secs(9), valve.opened()), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(valve.open() && !valve.open());
        });
        assert!(opened.is_ok());
    }
}
