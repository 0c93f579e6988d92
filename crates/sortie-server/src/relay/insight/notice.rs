//! A session's statements, as far as they are looked at only to be counted.

use std::ops::Range;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::scan::{Scan, mix};
use super::{Cause, Foreseen, Glance, Sighting};
use crate::config::Mode;
use crate::relay::decide::{self, Single};
use crate::relay::effect::{Control, Effects};
use crate::relay::frames;
use crate::relay::lanes::{judge, mentions_own};
use crate::relay::ledger::Statement;
use crate::relay::session::Session;
use crate::relay::shared::{PipeReason, Shared, Verdict, Who};
use crate::relay::switches::Switches;
use bytes::Bytes;

/// What was found out about the statement in front.
#[derive(Debug, Default)]
pub(in crate::relay) struct Noticed {
    /// Why it is not shared.
    cause: Option<Arc<Cause>>,
    /// It would have been, and has this key.
    key: Option<u64>,
    /// That holds although a server has begun its transaction.
    within: bool,
    /// What is known by it of what comes behind it.
    foreseen: Option<Foreseen>,
}

/// A statement's text.
enum Text {
    /// In what the client has sent, in a Parse that begins there if it is in one.
    Sent(Range<usize>, Option<usize>),
    /// In a Parse of before.
    Kept(Bytes),
}

impl Text {
    fn text<'t>(&'t self, input: &'t [u8]) -> &'t [u8] {
        match self {
            Self::Sent(range, _) => input.get(range.clone()).unwrap_or_default(),
            Self::Kept(frame) => frames::parse(frame).map_or(&[], |parse| parse.text),
        }
    }
}

impl Noticed {
    /// Whether the statement was not looked at.
    pub(in crate::relay) fn is_nothing(&self) -> bool {
        self.cause.is_none() && self.key.is_none() && self.foreseen.is_none()
    }

    /// The statement goes out. Returns its cause, and whether that holds although a server has
    /// begun its transaction.
    pub(in crate::relay) fn take(&mut self) -> (Option<Arc<Cause>>, bool) {
        (self.cause.take(), std::mem::take(&mut self.within))
    }

    /// It is known to hold although a server has begun its transaction.
    pub(super) fn holds_within(&mut self) {
        self.within = true;
    }

    /// This was found out of a statement outside of transactions, and of what comes behind it.
    pub(super) fn outside(cause: Arc<Cause>, key: Option<u64>, foreseen: Option<Foreseen>) -> Self {
        Self { cause: Some(cause), key, within: false, foreseen }
    }

    /// Nothing was found out but what is known of what comes behind it.
    pub(super) fn only(foreseen: Option<Foreseen>) -> Self {
        Self { foreseen, ..Self::default() }
    }

    /// What is known by it of what comes behind it.
    pub(in crate::relay) fn foreseen(&self) -> Option<Foreseen> {
        self.foreseen
    }
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// What tells the session from others whose answers may differ.
    pub(in crate::relay) fn likeness(&mut self) -> Option<u64> {
        let state = (self.ledger.at(), self.shard());
        if let Some((known, likeness)) = self.lately.likeness
            && known == state
        {
            return Some(likeness);
        }
        let who = self.who()?;
        let likeness = self.world.lane.likeness(&who);
        self.lately.likeness = Some((state, likeness));
        Some(likeness)
    }

    /// Whether statements are only observed: nothing of them is answered here.
    pub(super) fn observes(&self) -> bool {
        self.lazy.is_none()
            && self.cluster.mode(self.account.mode) == Mode::Observe
            && !self.is_unbound()
    }

    /// Why a simple query takes the pipe, where statements are only observed; `None` where it is
    /// to be looked at as ever.
    pub(in crate::relay) fn observe_simple(&mut self, len: usize) -> Option<PipeReason> {
        if !self.observes() {
            return None;
        }
        let reason = self.regard_simple(len, false)?;
        self.noticed.foreseen = Foreseen::behind(reason, len, false);
        Some(reason)
    }

    /// As [`Session::observe_simple`], of a batch that is about one statement.
    pub(in crate::relay) fn observe_single(&mut self, single: &Single) -> Option<PipeReason> {
        if !self.observes() {
            return None;
        }
        let reason = self.regard_single(single, false)?;
        let foreseen = Foreseen::behind(reason, single.len, false);
        if reason == PipeReason::Observe && single.executes == 0 {
            self.noticed = Noticed::only(foreseen);
        } else {
            self.noticed.foreseen = foreseen;
        }
        Some(reason)
    }

    /// Looks at a simple query, `within` a transaction that no server would have known of, or
    /// outside of any. `None` if it is about the session's own switches.
    pub(super) fn regard_simple(&mut self, len: usize, within: bool) -> Option<PipeReason> {
        let frame = &self.client.input[..len];
        let text = frames::text(&frame[frames::HEADER_LEN..])?.0;
        let scan = match self.regard_text(text)? {
            Ok(scan) => scan,
            Err(reason) => return Some(reason),
        };
        let text = frames::HEADER_LEN..frames::HEADER_LEN + text.len();
        Some(self.look(&Text::Sent(text, None), scan, None, within))
    }

    /// As [`Session::regard_simple`], of a batch that is about one statement.
    pub(super) fn regard_single(&mut self, single: &Single, within: bool) -> Option<PipeReason> {
        let Some(parse) = single.parse.clone() else { return self.regard_known(single, within) };
        let frame = &self.client.input[parse.clone()];
        let text = frames::parse(frame)?.text;
        let scan = match self.regard_text(text)? {
            Ok(scan) => scan,
            Err(reason) => return Some(reason),
        };
        if !single.is_plain && !single.is_preparing() {
            return Some(PipeReason::Shape);
        }
        // A Parse: its name, and then the text.
        let from = parse.start + frames::HEADER_LEN + frames::parse(frame)?.name.len() + 1;
        let text = Text::Sent(from..from + text.len(), Some(parse.start));
        Some(self.look(&text, scan, bound(single), within))
    }

    /// Looks at a text alone: what it is, if it came before, or why it is not shared. `None` if it
    /// is about the session's own switches.
    fn regard_text(&self, text: &[u8]) -> Option<Result<Option<Scan>, PipeReason>> {
        let scan = self.lately.again(text);
        if scan.is_none() && mentions_own(text) && decide::own(&Effects::of(text)).is_some() {
            return None;
        }
        // One that came before says nothing to us.
        let hint = if scan.is_some() { Switches::default() } else { Switches::hint(text) };
        Some(self.may_share(hint).map(|()| scan))
    }

    /// As [`Session::regard_single`], of a statement that was prepared before.
    fn regard_known(&mut self, single: &Single, within: bool) -> Option<PipeReason> {
        let view = self.view()?.1;
        let input = &self.client.input;
        let name = match &single.bind {
            Some(bind) => frames::bind(&input[bind.clone()])?.1,
            None => frames::target(&input[single.described.clone()?])?.1,
        };
        let Some(statement) = self.ledger.known(name) else {
            // It is on its way.
            let frame = self.course.frame_of(&self.ledger, name)?;
            return Some(self.look(&Text::Kept(frame), None, bound(single), within));
        };
        let effects = &statement.effects;
        if decide::own(effects).is_some() {
            return None;
        }
        if let Err(reason) = self.may_share(statement.hint) {
            return Some(reason);
        }
        if !single.is_plain && !single.is_preparing() {
            return Some(PipeReason::Shape);
        }
        if effects.control().is_some() {
            let frame = statement.frame.clone();
            return Some(self.look(&Text::Kept(frame), None, bound(single), within));
        }
        let glance = match &statement.glance {
            Some((known, glance)) if *known == view => Some(glance.clone()),
            _ => None,
        };
        let glance = if let Some(glance) = glance {
            glance
        } else {
            let name = Bytes::copy_from_slice(name);
            self.glance(&name)?
        };
        let reason = glance.cause.reason;
        let key = (reason == PipeReason::Observe).then(|| self.key(glance.key, bound(single)));
        self.noticed = Noticed { cause: Some(glance.cause), key, within, foreseen: None };
        Some(reason)
    }

    /// Looks at a prepared statement, for all times that it is run.
    fn glance(&mut self, name: &[u8]) -> Option<Glance> {
        let view = self.view()?.1;
        let likeness = self.likeness()?;
        let reason = self.planned(name, None).err().unwrap_or(PipeReason::Observe);
        let statement = self.ledger.statement(name)?;
        let text = statement.text();
        let cause = self.cluster.insight.cause(text, reason);
        let glance = Glance { cause, key: mix(&[self.lately.scan(text).exact, likeness], &[]) };
        statement.glance = Some((view, glance.clone()));
        Some(glance)
    }

    /// Remembers a statement in front: why it is not shared, and its key if it would have been.
    fn look(
        &mut self,
        at: &Text,
        scan: Option<Scan>,
        bind: Option<Bound>,
        within: bool,
    ) -> PipeReason {
        let Some((who, likeness)) = self.who().zip(self.likeness()) else {
            return PipeReason::Parameters;
        };
        let known_at = self.world.lane.known_at(self.cluster.index);
        let scan = scan.unwrap_or_else(|| {
            let text = at.text(&self.client.input);
            self.lately.scan(text)
        });
        let number = mix(&[scan.shape, likeness, known_at, within.into()], &[]);
        let cause = self.cluster.insight.find(number).unwrap_or_else(|| {
            let text = at.text(&self.client.input);
            let cause = self.cluster.insight.cause(text, self.judged(&who, at, within));
            self.cluster.insight.keep(number, &cause);
            cause
        });
        let reason = cause.reason;
        let key = mix(&[scan.exact, likeness], &[]);
        let key = (reason == PipeReason::Observe).then(|| self.key(key, bind));
        self.noticed = Noticed { cause: Some(cause), key, within, foreseen: None };
        reason
    }

    /// What tells a statement that begins with this key from others, if it is bound like this.
    pub(in crate::relay) fn key(&self, key: u64, bind: Option<Bound>) -> u64 {
        let Some((bind, rows_max)) = bind else { return key };
        let bind = self.client.input.get(bind).unwrap_or_default();
        mix(&[key, rows_max.into()], values(bind))
    }

    /// What is judged of a text.
    fn judged(&self, who: &Who, at: &Text, within: bool) -> PipeReason {
        let text = at.text(&self.client.input);
        let effects = Effects::of(text);
        let is_spared = match effects.control() {
            Some(Control::Begin(_)) => !within && self.world.lane.reads_committed(who),
            Some(Control::Commit | Control::Rollback) => within,
            Some(Control::Other) | None => false,
        };
        if is_spared {
            return PipeReason::Spared;
        }
        let frame = match at {
            Text::Sent(_, parse) => parse.and_then(|at| self.client.input.get(at..)),
            Text::Kept(frame) => Some(&frame[..]),
        };
        let oids = frame.and_then(frames::parse).map_or_else(Vec::new, |parse| parse.oids());
        match judge(&self.world.lane, who, text, &oids, &effects) {
            Verdict::Share(_) => PipeReason::Observe,
            Verdict::Pipe(reason) => reason,
            Verdict::Refuse(_) => PipeReason::Relation,
        }
    }

    /// Finds out why the statement in front is not shared, if that was not found out before.
    pub(in crate::relay) fn notice(&mut self, reason: PipeReason) {
        self.noticed.within |= self.lazy.is_some();
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
        let number = mix(&[self.lately.scan(text).shape, reason as u64], &[]);
        let cause = insight.find(number).unwrap_or_else(|| {
            let cause = insight.cause(text, reason);
            insight.keep(number, &cause);
            cause
        });
        self.noticed.cause = Some(cause);
    }

    /// The statement in front is about to be run; what would have been shared is followed.
    pub(in crate::relay) fn sight(&self) -> Option<Sighting> {
        let (cause, key) = (self.noticed.cause.as_ref()?, self.noticed.key?);
        Some(Sighting::new(&self.cluster.insight, cause, key))
    }
}

/// Where a Bind is, and how many rows are wanted.
pub(in crate::relay) type Bound = (Range<usize>, u32);

fn bound(single: &Single) -> Option<Bound> {
    Some((single.bind.clone()?, single.rows_max))
}

/// A Bind's values and formats: what follows its names.
fn values(bind: &[u8]) -> &[u8] {
    let names = frames::bind(bind).map_or(0, |(portal, name)| portal.len() + name.len() + 2);
    bind.get(frames::HEADER_LEN + names..).unwrap_or_default()
}
