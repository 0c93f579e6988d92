//! The batch that a session sends over and over: Bind, Execute, Sync, of a statement that is
//! prepared already and leaves nothing.
//!
//! It takes the same way as every other one, with the questions left out whose answers are known:
//! what is looked at here is exactly what the long way would have found to be of no consequence.
//!
//! # Invariants
//!
//! 1. What is passed on here changes neither the ledger nor what is on the connection.
//! 2. Only the end of the batch is expected then, and what answers it is nobody's but the
//!    client's.

use std::ops::Range;

use bytes::Buf;
use sortie_postgres::Event;
use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffers;
use super::course::Course;
use super::decide::BATCH_MAX;
use super::frames;
use super::hold::Unready;
use super::insight::Noticed;
use super::session::{Session, Signals};
use super::shared::{PipeReason, Shared};
use crate::session::failure::Failure;

/// A whole batch in front of the input that binds and runs one statement.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Plain {
    pub(super) len: usize,
    /// How long the Bind is, that it begins with.
    pub(super) bind: usize,
    /// Where the statement's name is.
    pub(super) name: Range<usize>,
    /// How many rows are wanted at most; 0 means all.
    pub(super) rows_max: u32,
    /// It asks for no more than what a shared statement is answered with
    /// ([`Single::is_plain`](super::decide::Single::is_plain)).
    pub(super) is_single: bool,
}

/// What a server has said.
#[derive(Clone, Copy, Debug)]
enum Heard {
    /// Something else than the answer of such a batch: the long way must look at it.
    Otherwise,
    /// A part of it.
    Part,
    /// All that was left of it; whether the server stands outside of a transaction.
    Whole { is_idle: bool },
}

impl Plain {
    /// The batch in front of the input, if it is of this kind and all of it is there.
    pub(super) fn of(input: &[u8]) -> Option<Self> {
        if *input.first()? != b'B' {
            return None;
        }
        let mut at = frames::head(input).ok()??.len;
        let (portal, name) = frames::bind(input.get(..at)?)?;
        let begin = frames::HEADER_LEN + portal.len() + 1;
        let mut plain = Self {
            len: 0,
            bind: at,
            name: begin..begin + name.len(),
            rows_max: 0,
            is_single: portal.is_empty(),
        };
        let (mut describes, mut executes) = (0, 0);
        loop {
            let head = frames::head(&input[at..]).ok()??;
            let frame = input.get(at..at + head.len)?;
            at += head.len;
            if at > BATCH_MAX {
                return None;
            }
            match head.tag {
                b'D' => {
                    let (b'P', portal) = frames::target(frame)? else { return None };
                    plain.is_single &= portal.is_empty() && describes + executes == 0;
                    describes += 1;
                }
                b'E' if executes == 0 => {
                    let (portal, rows) = frames::execute(frame)?;
                    plain.is_single &= portal.is_empty();
                    plain.rows_max = u32::try_from(rows).unwrap_or(0);
                    executes += 1;
                }
                b'S' if head.len == frames::HEADER_LEN && executes == 1 => {
                    plain.len = at;
                    return Some(plain);
                }
                _ => return None,
            }
        }
    }
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Why this batch takes the pipe, if that is known without a look at its statement's text.
    pub(super) fn piped_plain(&mut self, plain: &Plain) -> Option<PipeReason> {
        let statement = self.ledger.known(&self.client.input[plain.name.clone()])?;
        if !statement.effects.left.is_empty() {
            return None;
        }
        self.may_share(statement.hint).err().or_else(|| self.observe_plain(plain))
    }

    /// As [`Session::pipe`], for such a batch.
    pub(super) async fn pipe_plain<D: Future<Output = ()>>(
        &mut self,
        plain: &Plain,
        reason: PipeReason,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        let shard = self.shard().unwrap_or(0);
        if !(self.held.is_none() && self.resume(shard, reason) && self.is_forthright(plain)) {
            return self.pipe(reason, signals).await;
        }
        let groove = self.groove(plain, reason);
        self.begin_plain(plain);
        self.forward_plain(plain);
        if !self.client.input.is_empty() {
            self.accept()?;
        }
        let pumped = self.pump(signals).await;
        // It is of no statement that comes next.
        self.noticed = Noticed::default();
        pumped?;
        if self.held.is_some() && self.is_at_rest() && self.client.is_even() {
            self.release();
            if self.rested.is_some() {
                self.client.rest();
                buffers::give_back(&mut self.out);
                return self.keep_to(groove, signals).await;
            }
        }
        Ok(())
    }

    /// Whether the batch can be passed on, and nothing has to be thought of.
    fn is_forthright(&self, plain: &Plain) -> bool {
        let name = &self.client.input[plain.name.clone()];
        let number = self.ledger.number(name);
        self.cluster.shards() == 1
            && self.lazy.is_none()
            && self.out.is_empty()
            && self.passing == 0
            && self.course.is_open()
            && number.is_some()
            // It is there, and the same one.
            && self.course.here.number(name) == number
    }

    /// The batch in front goes to the connection that the session holds.
    pub(super) fn begin_plain(&mut self, plain: &Plain) {
        let sighting = self.sight();
        if let Some(held) = &mut self.held {
            held.observed = sighting;
            held.foreseen = self.noticed.foreseen();
            self.seen.pipe(held.leased.place);
        }
        self.count(b'E');
        self.course.mend.begin(&self.client.input[..plain.len], true);
        self.course.send_plain();
        self.pass_foreseen(plain.len);
    }

    /// Passes it on.
    fn forward_plain(&mut self, plain: &Plain) {
        buffers::borrow(&mut self.out);
        self.out.extend_from_slice(&self.client.input[..plain.len]);
        if plain.len == self.client.input.len() {
            self.client.input.clear();
        } else {
            self.client.input.advance(plain.len);
        }
    }

    /// Takes in what the server has sent, if it all answers such a batch. Returns whether it does.
    pub(super) fn hear_plain(&mut self) -> bool {
        if self.lazy.is_some()
            || self.course.mend.has_failed()
            || matches!(self.unready, Some(Unready::Unclean(_) | Unready::Unset(_)))
        {
            return false;
        }
        match self.course.hear_plain(&self.events, &self.client.output) {
            Heard::Otherwise => return false,
            Heard::Part => {}
            Heard::Whole { is_idle } => self.hear_answered(is_idle),
        }
        self.events.clear();
        true
    }
}

impl<P> Course<P> {
    /// Takes in what answers a batch of which only the end is expected. Nothing is changed if that
    /// is not so, or if anything in it means more than that.
    fn hear_plain(&mut self, events: &[Event], output: &[u8]) -> Heard {
        if !self.is_end_expected() {
            return Heard::Otherwise;
        }
        let (mut answered, mut completed, mut ready) = (0, 0, None);
        for event in events {
            match event.tag {
                b'D' => {}
                b'2' | b'T' | b'n' | b'I' | b's' if event.ends() => answered += 1,
                b'C' if event.ends() => {
                    answered += 1;
                    completed += 1;
                }
                b'Z' if event.ends() && event.end == output.len() => {
                    ready = Some(event.status(output) == Some(Status::Idle));
                }
                _ => return Heard::Otherwise,
            }
        }
        if let Some(is_idle) = ready {
            self.end_plain(is_idle);
            Heard::Whole { is_idle }
        } else {
            self.answer_plain(answered, completed);
            Heard::Part
        }
    }
}

#[cfg(test)]
mod tests {
    use sortie_testkit::Batch as Frames;

    use super::*;

    #[test]
    fn only_a_whole_batch_of_one_statement_is_plain() {
        let bind = || Frames::new().bind("p", "named", (0, &[Some(b"7")]), 0);
        let whole = bind().describe(b'P', "p").execute("p").sync();
        let bytes = whole.bytes();
        let plain = Plain::of(bytes).unwrap();
        assert_eq!((plain.len, &bytes[plain.name]), (bytes.len(), &b"named"[..]));
        for end in 0..bytes.len() {
            assert_eq!(Plain::of(&bytes[..end]), None, "{end}");
        }
        let mut more = bytes.to_vec();
        more.extend_from_slice(bytes);
        assert_eq!(Plain::of(&more).map(|plain| plain.len), Some(bytes.len()));
        let others = [
            bind().sync(),
            bind().execute("p").execute("p").sync(),
            bind().bind("q", "other", (0, &[]), 0).execute("p").sync(),
            bind().describe(b'S', "named").execute("p").sync(),
            bind().execute("p").close(b'P', "p").sync(),
            bind().execute("p").flush().sync(),
            Frames::new().parse("named", "select 1", &[]).sync(),
            Frames::new().query("select 1"),
        ];
        for other in others {
            assert_eq!(Plain::of(other.bytes()), None, "{other:?}");
        }
    }
}
