//! What happens to the client of a query that was called back.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{CancelToken, Client, Error};

use super::address::{Address, CancelSocket};
use super::lent::Lend;
use super::recall::{RecallBuilder, RecallStats};

/// What a cancel is taken to cost before one was measured: a connection, a fork, a signal.
const CANCEL_COST: Duration = Duration::from_millis(5);

/// Sends one cancel on a socket to a host, and resolves when the server has ended the connection.
pub(super) type SendCancel = dyn Fn(CancelToken, CancelSocket, String) -> Sent + Send + Sync;
type Sent = Pin<Box<dyn Future<Output = Option<()>> + Send>>;

/// Returns what sends cancels through a TLS connector.
pub(super) fn sender<T>(tls: T) -> Arc<SendCancel>
where
    T: MakeTlsConnect<CancelSocket> + Clone + Send + Sync + 'static,
    T::TlsConnect: Send,
    T::Stream: Send,
    <T::TlsConnect as TlsConnect<CancelSocket>>::Future: Send,
{
    Arc::new(move |token, socket, host| {
        let mut tls = tls.clone();
        Box::pin(async move {
            let tls = tls.make_tls_connect(&host).ok()?;
            token.cancel_query_raw(socket.clone(), tls).await.ok()?;
            // The request has gone out; the end of its connection says that it has been done.
            socket.end().await.ok()
        })
    })
}

/// The clients of one server whose queries were called back, and who sees to them.
pub(super) struct Quarantine {
    address: Address,
    send: Arc<SendCancel>,
    clients_max: usize,
    time_max: Duration,
    cancels: Semaphore,
    tasks: Mutex<JoinSet<()>>,
    /// Moving average of what a cancel costs, in nanoseconds; 0 before the first.
    cost: AtomicU64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    called_back: AtomicU64,
    drained: AtomicU64,
    cancelled: AtomicU64,
    closed: AtomicU64,
}

/// How a quarantine ended well.
#[derive(Clone, Copy)]
enum Ended {
    Drained,
    Cancelled,
}

impl Quarantine {
    pub(super) fn new(options: RecallBuilder) -> Self {
        Self {
            address: options.address,
            send: options.send,
            clients_max: options.quarantined_max,
            time_max: options.quarantine_max,
            cancels: Semaphore::new(options.cancels_max),
            tasks: Mutex::default(),
            cost: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    pub(super) fn stats(&self) -> RecallStats {
        let Counts { called_back, drained, cancelled, closed } = &self.counts;
        RecallStats {
            called_back: called_back.load(Relaxed),
            drained: drained.load(Relaxed),
            cancelled: cancelled.load(Relaxed),
            closed: closed.load(Relaxed),
            in_flight: self.running().len(),
        }
    }

    /// The tasks that have not ended; those that have are forgotten.
    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks
    }

    fn cost(&self) -> Duration {
        match self.cost.load(Relaxed) {
            0 => CANCEL_COST,
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// Moves the average by an eighth: a slow cancel counts, one alone does not decide.
    fn learn(&self, cost: Duration) {
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX).max(1);
        let known = self.cost.load(Relaxed);
        let average = if known == 0 { cost } else { known - known / 8 + cost / 8 };
        // Whoever writes at the same time wins or loses: it is an average either way.
        self.cost.store(average, Relaxed);
    }

    /// Takes a client whose query was called back. Never blocks: it runs inside a `drop`.
    pub(super) fn admit<C: Lend>(self: &Arc<Self>, client: Arc<C>) {
        self.counts.called_back.fetch_add(1, Relaxed);
        let mut tasks = self.running();
        match Handle::try_current() {
            Ok(runtime) if tasks.len() < self.clients_max => {
                let quarantine = Arc::clone(self);
                let end = Instant::now() + self.time_max;
                tasks.spawn_on(
                    async move {
                        let ended = quarantine.ended(client.client(), end).await;
                        quarantine.release(client, ended);
                    },
                    &runtime,
                );
            }
            _ => {
                drop(tasks);
                self.release(client, None);
            }
        }
    }

    /// Waits until the client's connection is idle and no cancel is under way; `None` when that
    /// could not be had.
    async fn ended(&self, client: &Client, end: Instant) -> Option<Ended> {
        let token = client.cancel_token();
        let mut idle = std::pin::pin!(idle(client));
        match timeout(self.cost(), &mut idle).await {
            Ok(settled) => return settled.ok().map(|()| Ended::Drained),
            Err(_worth_a_cancel) => {}
        }
        let permit = timeout_at(end, self.cancels.acquire()).await.ok()?.ok()?;
        self.counts.cancelled.fetch_add(1, Relaxed);
        let began = Instant::now();
        let sent = async {
            let socket = self.address.connect().await.ok()?;
            (self.send)(token, socket, self.address.host.clone()).await
        };
        timeout_at(end, sent).await.ok()??;
        self.learn(began.elapsed());
        drop(permit);
        // The cancel may have hit these two statements instead; then they are said again.
        let settled = timeout_at(end, idle).await.ok()?;
        if settled.is_err() {
            timeout_at(end, self::idle(client)).await.ok()?.ok()?;
        }
        Some(Ended::Cancelled)
    }

    /// Gives the client back, or closes it.
    fn release<C: Lend>(&self, client: Arc<C>, ended: Option<Ended>) {
        match ended {
            Some(Ended::Drained) => {
                self.counts.drained.fetch_add(1, Relaxed);
            }
            Some(Ended::Cancelled) => {}
            None => {
                self.counts.closed.fetch_add(1, Relaxed);
                close(client);
            }
        }
    }
}

/// Resolves when everything the client was asked before is over, in no transaction.
///
/// Both statements are sent at once, behind the query. `BEGIN` before `ROLLBACK` only spares the
/// server's log a warning where no transaction is open, which is nearly always.
async fn idle(client: &Client) -> Result<(), Error> {
    let begin = client.batch_execute("BEGIN");
    let rollback = client.batch_execute("ROLLBACK");
    let (_begun_or_failed, ended) = tokio::join!(biased; begin, rollback);
    ended
}

fn close<C: Lend>(client: Arc<C>) {
    // A query that kept its loan closes it when it lets go.
    if let Ok(client) = Arc::try_unwrap(client) {
        client.close();
    }
}
