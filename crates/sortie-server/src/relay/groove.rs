//! A session that does nothing but to send one and the same [`Plain`] batch again.
//!
//! Each step is the one that the long way would take, in its order and with what it leaves; what is
//! left out are the looks at what can't have changed, and the turns of the loops in between. So the
//! long way can go on from wherever this stops.
//!
//! # Invariants
//!
//! 1. Whatever is not the batch, or not its whole answer, ends it; so does whatever comes from
//!    elsewhere: a cancel, the endpoint's end, another configuration, a silent server.
//! 2. A turn in which it waits has looked at both sides, so that each has this task's waker.
//! 3. While it waits it holds no buffer.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffers;
use super::insight::Noticed;
use super::plain::Plain;
use super::session::{Session, Signals};
use super::shared::{PipeReason, Shared};
use crate::config::Mode;
use crate::session::failure::Failure;

/// The batch, and what was found out about it.
#[derive(Debug)]
pub(super) struct Groove {
    /// Its statement's name.
    name: Bytes,
    shard: usize,
    reason: PipeReason,
    /// What is done with statements that could be shared, which an operator may change.
    mode: Mode,
    /// It is noticed what sharing it would save.
    is_observed: bool,
}

/// How it goes on.
enum Step {
    /// Here.
    On,
    /// By the long way.
    Out,
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// What would follow if this batch came again, which takes the pipe for this reason.
    pub(super) fn groove(&self, plain: &Plain, reason: PipeReason) -> Groove {
        Groove {
            name: Bytes::copy_from_slice(&self.client.input[plain.name.clone()]),
            shard: self.shard().unwrap_or(0),
            reason,
            mode: self.cluster.mode(self.account.mode),
            is_observed: !self.noticed.is_nothing(),
        }
    }

    /// Serves the client until it wants something else.
    pub(super) async fn keep_to<D: Future<Output = ()>>(
        &mut self,
        groove: Groove,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        poll_fn(|cx| self.poll_groove(&groove, cx, signals)).await?;
        if self.held.is_none() {
            return Ok(());
        }
        let pumped = self.pump(signals).await;
        // It is of no statement that comes next.
        self.noticed = Noticed::default();
        pumped
    }

    fn poll_groove<D: Future<Output = ()>>(
        &mut self,
        groove: &Groove,
        cx: &mut Context<'_>,
        signals: &Signals<'_, 'a, D>,
    ) -> Poll<Result<(), Failure>> {
        if self.is_behind() || self.cancel_due || !signals.quiet.holds(self.key, cx) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let step = if self.held.is_some() {
                self.poll_answer(cx)
            } else {
                self.poll_batch(groove, cx)
            };
            match step? {
                Poll::Ready(Step::On) => {}
                Poll::Ready(Step::Out) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        self.present.register(cx.waker());
        let silent = self.held.as_ref().and_then(|held| held.leased.silence(&self.cluster));
        if silent.is_some() || self.is_behind() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Passes the batch on when it comes.
    fn poll_batch(&mut self, groove: &Groove, cx: &mut Context<'_>) -> Result<Poll<Step>, Failure> {
        let out = Ok(Poll::Ready(Step::Out));
        if !self.client.is_even() || !self.out.is_empty() {
            return out;
        }
        let Poll::Ready(filled) = self.client.poll_fill(cx) else {
            return if self.client.has_closed() { out } else { Ok(Poll::Pending) };
        };
        filled?;
        let input = &self.client.input;
        let Some(plain) = Plain::of(input) else { return out };
        if plain.len != input.len()
            || input[plain.name.clone()] != *groove.name
            || self.cluster.mode(self.account.mode) != groove.mode
            || (groove.is_observed && self.observe_plain(&plain) != Some(groove.reason))
            || !self.resume(groove.shard, groove.reason)
            || !self.course.is_open()
        {
            return out;
        }
        self.begin_plain(&plain);
        self.noticed = Noticed::default();
        let Some(held) = &mut self.held else { return out };
        let mut left = &self.client.input[..];
        let sent = held.leased.server.poll_send(cx, &mut left);
        if !left.is_empty() {
            buffers::borrow(&mut self.out);
            self.out.extend_from_slice(left);
        }
        self.client.input.clear();
        buffers::give_back(&mut self.client.input);
        match sent {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(Step::On)),
            Poll::Ready(Err(error)) => self.lose(&error).map(|()| Poll::Ready(Step::Out)),
            Poll::Pending => out,
        }
    }

    /// Passes the answer on when it comes, and gives the connection back.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, Failure> {
        let out = Ok(Poll::Ready(Step::Out));
        let Some(held) = &mut self.held else { return out };
        let output = &mut self.client.output;
        buffers::borrow(output);
        let Poll::Ready(received) = held.leased.server.poll_receive(cx, output, &mut self.events)
        else {
            buffers::give_back(output);
            return self.poll_beside(cx);
        };
        held.leased.pulse.heard();
        let is_plain = self.hear_plain();
        if is_plain {
            self.recount();
        } else {
            self.hear();
        }
        if let Err(error) = received {
            self.lose(&error)?;
            return out;
        }
        if !is_plain {
            // Anything may be otherwise now: what is prepared here, to begin with.
            return out;
        }
        let Poll::Ready(flushed) = self.client.poll_flush(cx) else { return out };
        flushed?;
        if !self.is_at_rest() {
            return out;
        }
        self.release();
        self.client.rest();
        self.meter.traffic(self.client.traffic());
        Ok(Poll::Ready(Step::On))
    }

    /// Whether the client says something while the server works.
    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, Failure> {
        let filled = self.client.poll_fill(cx);
        if self.client.has_closed() {
            return Ok(Poll::Ready(Step::Out));
        }
        Ok(match filled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(filled) => {
                filled?;
                self.accept()?;
                Poll::Ready(Step::Out)
            }
        })
    }
}
