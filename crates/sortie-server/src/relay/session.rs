//! One client's session in front of PostgreSQL.
//!
//! Between two batches it holds no connection, unless it is dirty. [`Session::run`] turns between
//! two states: it rests, and looks at what the client wants next ([`decide`]); or it
//! holds a connection and moves bytes in both directions ([`pump`](super::pump)) until the server
//! has answered everything and stands outside of a transaction.
//!
//! # Invariants
//!
//! 1. Replies come in the order of the messages: what is shared or answered here is only looked at
//!    when nothing is awaited from a server.
//! 2. A connection is given back only when it is idle, and says what is left on it.
//! 3. What a client can make grow has a bound.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use sortie_postgres::backend::{self, Severity};
use sortie_postgres::{ConnId, Event, Login, Parameters};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::futures::Notified;
use tokio::time::Sleep;

use super::client::Client;
use super::cluster::Cluster;
use super::course::Course;
use super::decide::{self, Batch};
use super::failure::{cancelled, shutting_down};
use super::health::Present;
use super::hold::{Held, Unready};
use super::homes::Homes;
use super::insight::{Cause, Lately, Noticed};
use super::lazy::Lazy;
use super::leased::{Place, Rested};
use super::ledger::Ledger;
use super::lone::Lone;
use super::plain::Plain;
use super::pump::EGRESS_MAX;
use super::quiet::Quiet;
use super::roster::Meter;
use super::seen::Seen;
use super::shared::{PipeReason, Shared, Who};
use super::stats::{Gauge, Lanes};
use super::switches::{Shards, Switches};
use super::world::World;
use super::{Inner, frames};
use crate::auth::Proof;
use crate::budget::{REQUEST_MAX, evicted, spent};
use crate::config::{Mode, PipeTarget};
use crate::session::failure::{self, Failure};
use crate::session::keys::Key;
use crate::sql::{SqlError, state};

/// One client's session.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Session<'a, S, L: Shared> {
    pub(super) inner: &'a Inner<L>,
    /// Those of its cluster.
    pub(super) lanes: &'a Lanes,
    /// What it goes by.
    pub(super) world: Arc<World<L>>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) client: Client<S>,
    pub(super) key: &'a Key,
    pub(super) account: Account,
    pub(super) ledger: Ledger<L::Plan>,
    pub(super) homes: Homes<ConnId>,
    pub(super) switches: Switches,
    /// Its transaction, if no server knows of it.
    pub(super) lazy: Option<Lazy>,
    /// What it must not read behind.
    pub(super) seen: Seen,
    pub(super) course: Course<L::Plan>,
    pub(super) held: Option<Held<'a>>,
    /// Why the connection that it holds could not be made the session's own.
    pub(super) unready: Option<Unready>,
    /// The client wants cancelled what it has asked for, and that is not under way yet.
    pub(super) cancel_due: bool,
    /// Connections in a row that could not be cleaned of what strangers had left.
    pub(super) unclean: u32,
    /// What goes to the server.
    pub(super) out: BytesMut,
    pub(super) events: Vec<Event>,
    /// Bytes of the client's frame that are still to be passed on unread.
    pub(super) passing: usize,
    /// They are refused, and go nowhere.
    pub(super) dropping: bool,
    /// Why it ends once the server has ended: it was told so behind what is not answered.
    pub(super) leaving: Option<Failure>,
    /// The batch failed here: everything up to its Sync is skipped.
    pub(super) skipping: bool,
    /// What is passed over is that Sync.
    pub(super) ending: bool,
    /// What the client was told of the server's parameters.
    pub(super) known: Arc<Parameters>,
    /// The connection that it had last, while nobody else has it; and where it was, whoever has it.
    pub(super) rested: Option<Rested>,
    pub(super) last: Option<(Place, Option<ConnId>)>,
    /// The session, as the shared lane sees it, at this change of its parameters.
    pub(super) who: Option<(u64, Option<usize>, Arc<Who>)>,
    pub(super) dirty: Option<Gauge<'a>>,
    pub(super) present: &'a Present,
    /// The world that it was looked up in last, while it keeps its connection.
    pub(super) looked_at: u64,
    pub(super) meter: Meter,
    /// What is known of the statement in front that takes the pipe, and of the one under way.
    pub(super) noticed: Noticed,
    /// What it has read alone by last.
    pub(super) lone: Option<Lone>,
    pub(super) timed: Option<Arc<Cause>>,
    /// What it has sent, and who it is, as far as statements are told apart.
    pub(super) lately: Lately,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) login: Arc<Login>,
    pub(super) mode: Mode,
    /// What holds for its switches if nobody says otherwise.
    pub(super) defaults: Switches,
    pub(super) target: PipeTarget,
    /// What it has proved itself with.
    pub(super) proof: Proof,
    /// The shard that the database name binds the session to.
    pub(super) shard: Option<usize>,
}

/// What may happen at any time.
pub(super) struct Signals<'s, 'k, D> {
    pub(super) cancelled: Pin<&'s mut Notified<'k>>,
    pub(super) drained: Pin<&'s mut D>,
    /// Runs since the endpoint drains.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    pub(super) quiet: Quiet,
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Serves the client until the session ends.
    pub(super) async fn run<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Infallible, Failure> {
        loop {
            // However much a client has sent ahead, the others of this core get their turn.
            tokio::task::coop::consume_budget().await;
            if self.held.is_some() && !self.is_at_rest() {
                self.pump(signals).await?;
            } else {
                self.next(signals).await?;
            }
        }
    }

    /// Does what the client wants next, or waits for it.
    async fn next<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        if self.is_behind() {
            Box::pin(self.keep_up()).await?;
        }
        if self.client.output.len() >= EGRESS_MAX {
            // Who asks on and on, and reads nothing, is answered no more. A cancel finds nothing.
            self.taken(signals).await?;
        }
        if self.skip() {
            return self.rest(signals).await;
        }
        if let Some(plain) = Plain::of(&self.client.input)
            && let Some(reason) = self.piped_plain(&plain)
        {
            return self.pipe_plain(&plain, reason, signals).await;
        }
        if self.read_lone(signals).await? {
            return Ok(());
        }
        if self.close_here() {
            return Ok(());
        }
        if self.observe_close() {
            return self.pipe(PipeReason::Observe, signals).await;
        }
        let batch = decide::batch(&self.client.input);
        if !matches!(batch, Batch::Partial { .. }) {
            self.client.owes(false);
        }
        match batch {
            Batch::Partial { wanted } => {
                self.client.room_for(wanted);
                self.rest(signals).await
            }
            Batch::Terminate => Err(Failure::Gone),
            Batch::Sync(len) => {
                self.client.input.advance(len);
                self.ready();
                Ok(())
            }
            Batch::Flush(len) => {
                self.client.input.advance(len);
                Ok(())
            }
            Batch::Simple(range) if range.len() > REQUEST_MAX && self.client.holding.is_spent() => {
                self.client.input.advance(range.end);
                self.fail(&spent(), true);
                Ok(())
            }
            Batch::Simple(range) => self.simple(range.end, signals).await,
            Batch::Single(single) => self.single(single, signals).await,
            Batch::Other(reason) if self.begin_ahead(reason) => Ok(()),
            Batch::Other(reason) => {
                let reason = self.observe_ahead(reason);
                self.pipe(reason, signals).await
            }
            Batch::Lost(tag) => Err(lost(tag)),
        }
    }

    /// Skips what belongs to a batch that failed here. Returns whether more must come for that.
    fn skip(&mut self) -> bool {
        loop {
            let input = &mut self.client.input;
            let passed = self.passing.min(input.len());
            input.advance(passed);
            self.passing -= passed;
            if self.passing > 0 {
                return true;
            }
            self.dropping = false;
            if std::mem::take(&mut self.ending) {
                self.skipping = false;
                self.ready();
            }
            if !self.skipping {
                return false;
            }
            match frames::head(&self.client.input) {
                Ok(Some(head)) if head.tag != b'X' => {
                    self.passing = head.len;
                    self.ending = head.tag == b'S';
                }
                Ok(None) => return true,
                // Whoever looks next knows what to do about it.
                Ok(Some(_)) | Err(_) => self.skipping = false,
            }
        }
    }

    /// Waits until the client has sent more; writes what was said meanwhile.
    async fn rest<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        self.release();
        self.forget_cancel();
        self.client.rest();
        self.meter.traffic(self.client.traffic());
        super::buffers::give_back(&mut self.out);
        poll_fn(|cx| {
            self.present.register(cx.waker());
            if self.is_behind() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
                flushed?;
                self.client.rest();
            }
            if self.client.has_room()
                && let Poll::Ready(filled) = self.client.poll_fill(cx)
            {
                return Poll::Ready(filled.map_err(Failure::from));
            }
            if self.client.has_closed() {
                // Nothing is under way.
                return Poll::Ready(Err(Failure::Gone));
            }
            // Nothing is under way: what is there is a part of what the client wants.
            if !self.client.input.is_empty() {
                self.client.owes(true);
            }
            if signals.quiet.holds(self.key, cx) {
                return Poll::Pending;
            }
            let (came, is_draining) = self.poll_both(cx, signals);
            if came {
                // It finds nothing running, and is forgotten.
                self.key.settle();
            }
            if is_draining && (self.lazy.is_none() || signals.is_over(cx)) {
                return Poll::Ready(Err(Failure::Fatal(shutting_down())));
            }
            Poll::Pending
        })
        .await
    }

    /// Does `work` for the client, unless it leaves or asks to cancel first; writes what was said
    /// meanwhile.
    pub(super) async fn attend<T, D: Future<Output = ()>>(
        &mut self,
        work: impl Future<Output = Result<T, SqlError>>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Result<T, SqlError>, Failure> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if let Poll::Ready(Err(error)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(Failure::from(error)));
            }
            if let Poll::Ready(gone) = self.client.poll_gone(cx) {
                return Poll::Ready(Err(Failure::from(gone)));
            }
            if self.hear_cancel(cx, signals) {
                self.key.settle();
                return Poll::Ready(Ok(Err(cancelled())));
            }
            Poll::Pending
        })
        .await
    }

    /// Returns whether a cancel has come.
    pub(super) fn hear_cancel<D>(
        &self,
        cx: &mut Context<'_>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> bool {
        let came = signals.cancelled.as_mut().poll(cx).is_ready();
        if came {
            signals.cancelled.set(self.key.cancelled());
            signals.cancelled.as_mut().enable();
            // It does not wake anybody before it is polled.
            signals.quiet.end();
        }
        came
    }

    /// Says that the next batch is awaited.
    pub(super) fn ready(&mut self) {
        let status = self.status();
        backend::ready_for_query(&mut self.client.output, status);
    }

    /// Says an error of a batch that no server has seen; `simple` if a Query asked for it.
    pub(super) fn fail(&mut self, error: &SqlError, simple: bool) {
        self.inner.stats.error();
        self.fail_lazy();
        failure::say(&mut self.client.output, Severity::Error, error);
        if simple {
            self.ready();
        } else {
            self.skipping = true;
        }
    }

    /// The shard that the session is bound to.
    pub(super) fn shard(&self) -> Option<usize> {
        self.switches.shard.map_or(self.account.shard, Shards::one)
    }

    /// Why it ends when it has been told to.
    pub(super) fn killed(&self) -> Failure {
        match (self.meter.entry().is_evicted(), self.client.is_stalled()) {
            (false, _) => {
                let how = "It was ended with KILL, in the admin database.";
                Failure::Fatal(shutting_down().detail(how))
            }
            (true, false) => Failure::Fatal(evicted()),
            // It takes nothing: neither would it take a last word.
            (true, true) => Failure::Stalled,
        }
    }

    /// Whether statements are judged wherever they go: one server is not the cluster.
    pub(super) fn is_unbound(&self) -> bool {
        self.cluster.shards() > 1 && self.shard().is_none()
    }
}

/// The end of a session whose stream has lost its frames.
pub(super) fn lost(tag: u8) -> Failure {
    if decide::is_known(tag) {
        // A length that can't be: PostgreSQL says so to its log alone.
        return Failure::Gone;
    }
    let message = format!("invalid frontend message type {tag}");
    Failure::Fatal(SqlError::new(state::PROTOCOL_VIOLATION, message))
}
