//! A session's statements, as far as they are looked at only to be counted.

use std::ops::Range;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::scan::{mix, scan};
use super::{Cause, Sighting};
use crate::config::Mode;
use crate::relay::decide::Single;
use crate::relay::effect::Effects;
use crate::relay::frames;
use crate::relay::lanes::{judge, mentions_own};
use crate::relay::ledger::Statement;
use crate::relay::session::Session;
use crate::relay::shared::{PipeReason, Shared, Verdict};
use crate::relay::switches::Switches;

/// What was found out about the statement in front.
#[derive(Debug, Default)]
pub(in crate::relay) struct Noticed {
    /// Why it is not shared.
    pub(in crate::relay) cause: Option<Arc<Cause>>,
    /// It would have been, and has this key.
    key: Option<u64>,
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// What tells the session from others whose answers may differ.
    fn likeness(&mut self) -> Option<u64> {
        let state = (self.ledger.at(), self.shard());
        if let Some((known, likeness)) = self.likeness
            && known == state
        {
            return Some(likeness);
        }
        let who = self.who()?;
        let likeness = self.world.lane.likeness(&who);
        self.likeness = Some((state, likeness));
        Some(likeness)
    }

    /// Whether statements are only observed: nothing of them is answered here.
    fn observes(&self) -> bool {
        self.lazy.is_none() && self.cluster.mode(self.account.mode) == Mode::Observe
    }

    /// Why a simple query takes the pipe, where statements are only observed; `None` where it is
    /// to be looked at as ever.
    pub(in crate::relay) fn observe_simple(&mut self, len: usize) -> Option<PipeReason> {
        if !self.observes() || self.is_unbound() {
            return None;
        }
        let frame = &self.client.input[..len];
        let text = frames::text(&frame[frames::HEADER_LEN..])?.0;
        if mentions_own(text) {
            return None;
        }
        let hint = Switches::hint(text);
        if let Err(reason) = self.may_share(hint) {
            return Some(reason);
        }
        self.observe(frames::HEADER_LEN..frames::HEADER_LEN + text.len(), None, 0)
    }

    /// As [`Session::observe_simple`], of a batch that is about one statement.
    pub(in crate::relay) fn observe_single(&mut self, single: &Single) -> Option<PipeReason> {
        if !self.observes() || self.is_unbound() {
            return None;
        }
        let parse = single.parse.clone()?;
        let frame = &self.client.input[parse.clone()];
        let text = frames::parse(frame)?.text;
        if mentions_own(text) {
            return None;
        }
        if let Err(reason) = self.may_share(Switches::hint(text)) {
            return Some(reason);
        }
        if !single.is_plain {
            return Some(PipeReason::Shape);
        }
        // A Parse: its name, and then the text.
        let from = parse.start + frames::HEADER_LEN + frames::parse(frame)?.name.len() + 1;
        let text = from..from + text.len();
        self.observe(text, bound(single), parse.start)
    }

    /// A prepared statement is run that would have been shared.
    pub(in crate::relay) fn observe_prepared(&mut self, name: &[u8], single: &Single) {
        let Some(text) = self.ledger.known(name).map(|it| it.text().to_owned()) else { return };
        self.look(&text, bound(single), |_| PipeReason::Observe);
    }

    fn observe(
        &mut self,
        text: Range<usize>,
        bind: Option<Bound>,
        parse: usize,
    ) -> Option<PipeReason> {
        let text = self.client.input.get(text)?.to_vec();
        let is_parsed = bind.is_some();
        Some(self.look(&text, bind, |session| session.judged(&text, is_parsed.then_some(parse))))
    }

    /// What is judged of a text, whose Parse, if there is one, begins there.
    fn judged(&mut self, text: &[u8], parse: Option<usize>) -> PipeReason {
        let Some(who) = self.who() else { return PipeReason::Parameters };
        let frame = parse.and_then(|at| {
            let head = frames::head(&self.client.input[at..]).ok()??;
            self.client.input.get(at..at + head.len)
        });
        let oids =
            frame.map_or_else(Vec::new, |frame| Statement::<L::Plan>::of(frame, text).oids());
        match judge(&self.world.lane, &who, text, &oids, &Effects::of(text)) {
            Verdict::Share(_) => PipeReason::Observe,
            Verdict::Pipe(reason) => reason,
            Verdict::Refuse(_) => PipeReason::Relation,
        }
    }

    /// Remembers a statement in front: why it is not shared, and its key if it would have been.
    fn look(
        &mut self,
        text: &[u8],
        bind: Option<Bound>,
        reason: impl FnOnce(&mut Self) -> PipeReason,
    ) -> PipeReason {
        let Some(likeness) = self.likeness() else { return PipeReason::Parameters };
        let known_at = self.who().map_or(0, |who| self.world.lane.known_at(&who));
        let scan = scan(text);
        let insight = Arc::clone(&self.cluster.insight);
        let number = mix(&[scan.shape, likeness, known_at], &[]);
        let cause = insight.find(number).unwrap_or_else(|| {
            let cause = insight.cause(text, reason(self));
            insight.keep(number, &cause);
            cause
        });
        let reason = cause.reason;
        let key = (reason == PipeReason::Observe).then(|| {
            let Some((bind, rows_max)) = bind else { return mix(&[scan.exact, likeness], &[]) };
            let bind = self.client.input.get(bind).unwrap_or_default();
            mix(&[scan.exact, likeness, rows_max.into()], values(bind))
        });
        self.noticed = Noticed { cause: Some(cause), key };
        reason
    }

    /// Finds out why the statement in front is not shared, if that was not found out before.
    pub(in crate::relay) fn notice(&mut self, reason: PipeReason) {
        if self.noticed.cause.is_some() || !reason.is_of_text() {
            return;
        }
        let input = &self.client.input;
        let text = match (input.first(), frames::head(input)) {
            (Some(b'Q'), Ok(Some(head))) => {
                let body = input.get(frames::HEADER_LEN..head.len.min(input.len()));
                body.map(|body| frames::text(body).map_or(body, |it| it.0))
            }
            (Some(b'P'), Ok(Some(head))) => {
                input.get(..head.len).and_then(frames::parse).map(|it| it.text)
            }
            (Some(b'B'), Ok(Some(head))) => {
                let name = input.get(..head.len).and_then(frames::bind).map(|it| it.1);
                name.and_then(|name| self.ledger.known(name)).map(Statement::text)
            }
            _ => None,
        };
        let Some(text) = text else { return };
        let insight = &self.cluster.insight;
        let number = mix(&[scan(text).shape, reason as u64], &[]);
        let cause = insight.find(number).unwrap_or_else(|| {
            let cause = insight.cause(text, reason);
            insight.keep(number, &cause);
            cause
        });
        self.noticed = Noticed { cause: Some(cause), key: None };
    }

    /// The statement in front is about to be run; what would have been shared is followed.
    pub(in crate::relay) fn sight(&self) -> Option<Sighting> {
        let (cause, key) = (self.noticed.cause.as_ref()?, self.noticed.key?);
        Some(Sighting::new(&self.cluster.insight, cause, key))
    }
}

/// Where a Bind is, and how many rows are wanted.
type Bound = (Range<usize>, u32);

fn bound(single: &Single) -> Option<Bound> {
    Some((single.bind.clone()?, single.rows_max))
}

/// A Bind's values and formats: what follows its names.
fn values(bind: &[u8]) -> &[u8] {
    let names = frames::bind(bind).map_or(0, |(portal, name)| portal.len() + name.len() + 2);
    bind.get(frames::HEADER_LEN + names..).unwrap_or_default()
}
