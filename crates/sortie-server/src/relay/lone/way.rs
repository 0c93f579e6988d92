//! How a session reads alone: the batch that it sends over and over ([`Plain`]) is asked under the
//! name that its statement is kept by, and the answer is passed on as it comes.
//!
//! # Invariants
//!
//! 1. Of an answer nothing is said before all of it is here, and what was asked stays in front of
//!    the input until then: whatever else happens, the read is made by a flight, as if it had not
//!    been asked before. So answers are small, and are neither errors nor notices.
//! 2. A connection is given back with what is kept there only if its server has said all that it
//!    had to say; else it is cleaned.
//! 3. A turn in which it waits has looked at both sides, so that each has this task's waker.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_postgres::backend::Status;
use sortie_postgres::{Event, Kept, Pooled, Resting};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Light;
use crate::read::kept;
use crate::relay::health::Pulse;
use crate::relay::ledger::View;
use crate::relay::plain::Plain;
use crate::relay::roster::Work;
use crate::relay::session::{Session, Signals};
use crate::relay::shared::Shared;
use crate::relay::{buffers, describe, frames};
use crate::session::failure::Failure;

/// Bytes of an answer that are waited for as a whole.
const ANSWER_MAX: usize = 64 << 10;

/// The connection that a session has read alone by, and by what it was looked at then.
#[derive(Debug)]
pub(in crate::relay) struct Lone {
    view: View,
    resting: Resting,
    called: Called,
}

/// The name of a statement that is kept, and of which one it is: number, and when it was prepared.
type Called = (u64, u64, Bytes);

/// A read that is under way.
struct Asked<'a> {
    pooled: Pooled,
    kept: Kept,
    pulse: Pulse,
    view: View,
    called: Called,
    /// How long the batch is that asks for it.
    len: usize,
    since: Instant,
    _light: Light<'a>,
    _work: Work,
}

/// How it goes on.
enum Step {
    On,
    /// By a flight, or with what comes next.
    Out,
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Reads alone what the client asks for in front, and goes on so for as long as it asks for
    /// nothing else. Returns false if that is not to be read so.
    pub(in crate::relay) async fn read_lone<D: Future<Output = ()>>(
        &mut self,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<bool, Failure> {
        let Some(plain) = Plain::of(&self.client.input) else { return Ok(false) };
        if !self.is_lone(&plain) {
            return Ok(false);
        }
        self.release();
        let (mut asked, mut has_read) = (None, false);
        let read = poll_fn(|cx| self.poll_lone(&mut asked, &mut has_read, cx, signals)).await;
        if asked.take().is_some() {
            // What has come of its answer is not for the client, nor is what was not sent.
            self.client.output.clear();
            self.out.clear();
            self.events.clear();
        }
        read?;
        Ok(has_read)
    }

    fn is_lone(&self, plain: &Plain) -> bool {
        let statement = self.ledger.known(&self.client.input[plain.name.clone()]);
        plain.is_single
            && statement.is_some_and(|it| it.solitude.as_ref().is_some_and(|it| it.is_long()))
    }

    fn poll_lone<D: Future<Output = ()>>(
        &mut self,
        asked: &mut Option<Asked<'a>>,
        has_read: &mut bool,
        cx: &mut Context<'_>,
        signals: &Signals<'_, 'a, D>,
    ) -> Poll<Result<(), Failure>> {
        if self.is_behind() || self.cancel_due || !signals.quiet.holds(self.key, cx) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let step = if asked.is_some() {
                self.poll_lone_answer(asked, has_read, cx)
            } else {
                self.poll_lone_batch(asked, cx)
            };
            match step? {
                Poll::Ready(Step::On) => {}
                Poll::Ready(Step::Out) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        self.present.register(cx.waker());
        let is_given_up = asked.as_ref().is_some_and(|asked| asked.pulse.is_given_up());
        if is_given_up || self.is_behind() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Asks when the batch is here.
    fn poll_lone_batch(
        &mut self,
        asked: &mut Option<Asked<'a>>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<Step>, Failure> {
        let out = Ok(Poll::Ready(Step::Out));
        if self.held.is_some() || !self.client.output.is_empty() || !self.out.is_empty() {
            return out;
        }
        if self.client.input.is_empty() {
            let Poll::Ready(filled) = self.client.poll_fill(cx) else {
                return if self.client.has_closed() { out } else { Ok(Poll::Pending) };
            };
            filled?;
        }
        let Some(plain) = Plain::of(&self.client.input) else { return out };
        let Some(taken) = self.take_lone(&plain) else { return out };
        let taken = asked.insert(taken);
        buffers::borrow(&mut self.out);
        write(&mut self.out, &self.client.input[..plain.len], &plain, &taken.called.2);
        match taken.pooled.poll_send(cx, &mut self.out) {
            Poll::Ready(Err(_lost)) => out,
            Poll::Ready(Ok(())) | Poll::Pending => Ok(Poll::Ready(Step::On)),
        }
    }

    /// What it takes to read the statement of this batch alone, now.
    fn take_lone(&mut self, plain: &Plain) -> Option<Asked<'a>> {
        let name = &self.client.input[plain.name.clone()];
        let statement = self.ledger.known(name)?;
        let solitude = statement.solitude.as_deref()?;
        if !plain.is_single
            || !solitude.is_long()
            || !self.may_be_alone()
            || !self.is_seen(&solitude.view)
            || self.may_share(statement.hint).is_err()
        {
            return None;
        }
        let key = self.key(solitude.key, Some((0..plain.bind, plain.rows_max)));
        let (view, number) = (solitude.view, solitude.kept);
        let light = self.inner.lights.show(key);
        let work = self.meter.works();
        if !light.is_alone() || self.cluster.valve.is_closed() {
            return None;
        }
        let (servers, pulses) = self.cluster.targets(0, self.account.target);
        let (server, pulse) = (servers.first()?, pulses.first()?.clone());
        if pulse.is_silent() {
            return None;
        }
        let lone = self.lone.take().filter(|lone| lone.view == view);
        let (resting, called) = lone.map(|lone| (lone.resting, lone.called)).unzip();
        let again = resting.and_then(Resting::again);
        let mut pooled = again.or_else(|| server.try_checkout_clean(&solitude.login))?;
        if !kept::is_kept(pooled.residue()) {
            return None;
        }
        let mut kept = pooled.take_kept(kept::ANYTHING);
        let found = statement.known_at.and_then(|after| kept.find(number, after));
        let is_told = |head| statement.told.as_ref().is_some_and(|it| describe::is_same(it, head));
        let Some(at) = found.and_then(|(at, head)| is_told(head).then_some(at)) else {
            pooled.keep(kept, kept::KEPT);
            return None;
        };
        let called = called.filter(|it| (it.0, it.1) == (number, at));
        let called = called.unwrap_or_else(|| (number, at, kept::name(number, at).into()));
        self.meter.has(pooled.cancel_key().process());
        let (len, since) = (plain.len, self.meter.shares());
        Some(Asked { pooled, kept, pulse, view, called, len, since, _light: light, _work: work })
    }

    /// Passes the answer on when all of it has come, and gives the connection back.
    fn poll_lone_answer(
        &mut self,
        asked: &mut Option<Asked<'a>>,
        has_read: &mut bool,
        cx: &mut Context<'_>,
    ) -> Result<Poll<Step>, Failure> {
        let out = Ok(Poll::Ready(Step::Out));
        let Some(way) = asked.as_mut() else { return out };
        if !self.out.is_empty()
            && let Poll::Ready(Err(_lost)) = way.pooled.poll_send(cx, &mut self.out)
        {
            return out;
        }
        let output = &mut self.client.output;
        buffers::borrow(output);
        let Poll::Ready(received) = way.pooled.poll_receive(cx, output, &mut self.events) else {
            return self.poll_beside_lone(cx);
        };
        way.pulse.heard();
        let whole = is_whole(&self.events, output);
        self.events.clear();
        if received.is_err() || whole.is_none() || output.len() > ANSWER_MAX {
            if let Some(Asked { mut pooled, kept, .. }) = asked.take_if(|it| it.pooled.is_idle()) {
                // An error, most likely: nothing that is kept goes with it.
                pooled.keep(kept, kept::KEPT);
                self.client.output.clear();
                self.out.clear();
            }
            self.end_solitude();
            return out;
        }
        if whole == Some(false) {
            return Ok(Poll::Ready(Step::On));
        }
        let Some(Asked { mut pooled, kept, view, called, len, since, .. }) = asked.take() else {
            return out;
        };
        pooled.keep(kept, kept::KEPT);
        self.lone = pooled.rest().map(|resting| Lone { view, resting, called });
        *has_read = true;
        self.client.input.advance(len);
        self.seen.read_lone();
        drop(self.inner.stats.statement());
        self.lanes.shared();
        self.lanes.lone();
        self.meter.shared(since, true);
        let Poll::Ready(flushed) = self.client.poll_flush(cx) else { return out };
        flushed?;
        self.client.rest();
        buffers::give_back(&mut self.out);
        self.meter.traffic(self.client.traffic());
        Ok(Poll::Ready(Step::On))
    }

    /// Takes in what the client says while the server works.
    fn poll_beside_lone(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, Failure> {
        if !self.client.has_room() {
            return Ok(Poll::Pending);
        }
        let filled = self.client.poll_fill(cx);
        if self.client.has_closed() {
            return Ok(Poll::Ready(Step::Out));
        }
        match filled {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(filled) => {
                filled?;
                Ok(Poll::Ready(Step::On))
            }
        }
    }

    /// What is asked for in front is read by flights from now on.
    fn end_solitude(&mut self) {
        if let Some(plain) = Plain::of(&self.client.input) {
            let name = Bytes::copy_from_slice(&self.client.input[plain.name]);
            if let Some(solitude) = self.solitude(&name) {
                solitude.ends();
            }
        }
    }
}

/// Writes a batch that binds its statement under another name.
fn write(into: &mut BytesMut, batch: &[u8], plain: &Plain, name: &[u8]) {
    let length = plain.bind - 1 - plain.name.len() + name.len();
    into.put_u8(b'B');
    into.put_u32(u32::try_from(length).expect("a batch is short"));
    into.put_slice(&batch[frames::HEADER_LEN..plain.name.start]);
    into.put_slice(name);
    into.put_slice(&batch[plain.name.end..]);
}

/// Whether this is all of an answer, or a part of one; `None` if it is anything else.
fn is_whole(events: &[Event], output: &[u8]) -> Option<bool> {
    for event in events {
        match event.tag {
            b'2' | b'T' | b'n' | b'D' | b'C' | b'I' | b's' => {}
            b'Z' if event.ends() && event.end == output.len() => {
                return (event.status(output) == Some(Status::Idle)).then_some(true);
            }
            _ => return None,
        }
    }
    Some(false)
}
