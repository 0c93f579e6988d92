//! Which lane a statement takes.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memchr_iter;
use tokio::io::{AsyncRead, AsyncWrite};

use super::decide::{self, Single};
use super::effect::{Effect, Effects, Reason};
use super::frames;
use super::ledger::{Statement, View};
use super::local::Own;
use super::session::{Session, Signals};
use super::share::Share;
use super::shared::{Asked, PipeReason, Shared, Verdict, Who};
use super::switches::Switches;
use crate::config::Mode;
use crate::session::failure::Failure;
use crate::sql::utf8;

/// A statement's name, and the statement, if the batch prepares it.
type Subject<P> = (Bytes, Option<Box<Statement<P>>>);

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// A simple query of an idle session.
    pub(super) async fn simple<D: Future<Output = ()>>(
        &mut self,
        len: usize,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        if let Some(reason) = self.observe_simple(len) {
            return self.pipe(reason, signals).await;
        }
        let frame = &self.client.input[..len];
        let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |(text, _)| text);
        let hint = Switches::hint(text);
        let may_share = self.may_share(hint);
        if let Err(reason) = may_share
            && !mentions_own(text)
        {
            return self.pipe(reason, signals).await;
        }
        let effects = Effects::of(text);
        let control = effects.control().map(|_| text.to_owned());
        let own = match control {
            Some(text) => self.control(&effects, &text, false),
            None if self.has_failed() => None,
            None => decide::own(&effects),
        };
        if let Some(own) = own {
            self.answer_simple(&own, len);
            return Ok(());
        }
        if self.has_failed() {
            return self.pipe(PipeReason::Transaction, signals).await;
        }
        let planned = may_share.and_then(|()| {
            let who = self.who().ok_or(PipeReason::Parameters)?;
            let frame = &self.client.input[..len];
            let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |it| it.0);
            let verdict = self.judge(&who, text, &[], &effects);
            Ok((who, self.plan(&verdict)?))
        });
        match planned {
            Ok((who, plan)) => self.share(&who, &plan, (Share::Simple(len), hint), signals).await,
            Err(reason) => self.pipe(reason, signals).await,
        }
    }

    /// A batch of an idle session that is about one statement.
    pub(super) async fn single<D: Future<Output = ()>>(
        &mut self,
        single: Single,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        if let Some(reason) = self.observe_single(&single) {
            return self.pipe(reason, signals).await;
        }
        if let Some(reason) = self.piped(&single) {
            return self.pipe(reason, signals).await;
        }
        let Some((name, mut new)) = self.subject(&single) else {
            return self.pipe(PipeReason::Shape, signals).await;
        };
        let Some(statement) = new.as_deref().or_else(|| self.ledger.known(&name)) else {
            return self.pipe(PipeReason::Shape, signals).await;
        };
        let hint = statement.hint;
        let own = match statement.effects.control() {
            Some(_) if single.is_plain => {
                let (effects, text) = (statement.effects.clone(), statement.text().to_owned());
                self.control(&effects, &text, !single.closes)
            }
            Some(_) => None,
            None if self.has_failed() => None,
            None => decide::own(&statement.effects),
        };
        if let Some(own) = own {
            self.answer_single(&own, &single, &name, new);
            return Ok(());
        }
        let planned = match self.may_share(hint) {
            _ if self.has_failed() => Err(PipeReason::Transaction),
            Err(reason) => Err(reason),
            // Nobody else has the snapshot of which the rest would be.
            Ok(()) if self.lazy.is_some() && single.leaves_rest() => Err(PipeReason::Portions),
            Ok(()) if !single.is_plain && !single.is_preparing() => Err(PipeReason::Shape),
            Ok(()) => self.planned(&name, new.as_deref_mut()),
        };
        match planned {
            Ok((who, plan)) if single.is_preparing() => {
                self.prepare((&who, &plan), single, (name, new), signals).await
            }
            Ok((who, plan)) => {
                let asked = (Share::Single(single, name, new), hint);
                self.share(&who, &plan, asked, signals).await
            }
            Err(reason) => self.pipe(reason, signals).await,
        }
    }

    /// Why a batch takes the pipe, where that can be told at a glance and nothing must be kept.
    fn piped(&self, single: &Single) -> Option<PipeReason> {
        let input = &self.client.input;
        if let Some(parse) = &single.parse {
            let text = frames::parse(&input[parse.clone()])?.text;
            return if mentions_own(text) {
                None
            } else {
                self.may_share(Switches::hint(text)).err()
            };
        }
        let name = match &single.bind {
            Some(bind) => frames::bind(&input[bind.clone()])?.1,
            None => frames::target(&input[single.described.clone()?])?.1,
        };
        let Some(statement) = self.ledger.known(name) else { return Some(PipeReason::Shape) };
        if !statement.effects.left.is_empty() {
            return None;
        }
        self.may_share(statement.hint).err()
    }

    /// The name of the statement that a batch is about, and the statement, if the batch prepares
    /// it. `None` if it is about several, or one that can't be prepared.
    pub(super) fn subject(&self, single: &Single) -> Option<Subject<L::Plan>> {
        let input = &self.client.input;
        let bound = match &single.bind {
            Some(bind) => Some(frames::bind(&input[bind.clone()])?.1),
            None => None,
        };
        let described = match &single.described {
            Some(described) => Some(frames::target(&input[described.clone()])?.1),
            None => None,
        };
        if bound.zip(described).is_some_and(|(bound, described)| bound != described) {
            return None;
        }
        let bound = bound.or(described);
        let Some(parse) = &single.parse else {
            return Some((Bytes::copy_from_slice(bound?), None));
        };
        let frame = &input[parse.clone()];
        let parse = frames::parse(frame)?;
        let is_other = bound.is_some_and(|bound| bound != parse.name);
        let is_there = !parse.name.is_empty() && self.ledger.known(parse.name).is_some();
        if is_other || is_there {
            return None;
        }
        let statement = Statement::of(frame, parse.text);
        Some((Bytes::copy_from_slice(parse.name), Some(Box::new(statement))))
    }

    /// The session, and what verdicts on its statements depend on.
    pub(super) fn view(&mut self) -> Option<(Arc<Who>, View)> {
        let who = self.who()?;
        // Asked first: if it changes now, the verdict is given again next time.
        let known_at = self.world.lane.known_at(self.cluster.index);
        let view = (self.world.number(), self.ledger.at(), self.shard(), known_at);
        Some((who, view))
    }

    /// The plan of a prepared statement, judged once for all times that it is run.
    pub(super) fn planned(
        &mut self,
        name: &[u8],
        new: Option<&mut Statement<L::Plan>>,
    ) -> Result<(Arc<Who>, Arc<L::Plan>), PipeReason> {
        let (who, view) = self.view().ok_or(PipeReason::Parameters)?;
        let statement = match new {
            Some(new) => new,
            None => self.ledger.statement(name).ok_or(PipeReason::Shape)?,
        };
        if statement.verdict.as_ref().is_none_or(|(known, _)| *known != view) {
            let (text, oids) = (statement.text(), statement.oids());
            let verdict = judge(&self.world.lane, &who, text, &oids, &statement.effects);
            if let Verdict::Share(plan) = &verdict {
                // Who prepares for one read wants what runs all the same.
                if statement.known_at.is_none() && !name.is_empty() {
                    self.seen.prepare();
                }
                self.world.lane.prepared(plan, statement.judged());
            }
            statement.verdict = Some((view, verdict));
        }
        let mode = self.cluster.mode(self.account.mode);
        let Some((_, verdict)) = &statement.verdict else { return Err(PipeReason::Grammar) };
        plan(verdict, mode).map(|plan| (who, plan))
    }

    /// Whether a statement with this hint may be shared, as far as it does not depend on what it
    /// says.
    pub(super) fn may_share(&self, hint: Switches) -> Result<(), PipeReason> {
        let switches = self.switches(hint);
        let mode = self.cluster.mode(self.account.mode);
        if switches.pipe.unwrap_or(mode == Mode::Pipe) {
            Err(PipeReason::Lane)
        } else if switches.share == Some(false) {
            Err(PipeReason::Share)
        } else if self.ledger.dirty().is_some() {
            Err(PipeReason::Dirty)
        } else if self.shard().is_some() && self.cluster.shards() > 1 {
            Err(PipeReason::Bound)
        } else {
            Ok(())
        }
    }

    /// The session as the shared lane sees it; nobody if it can't be told what its parameters are.
    pub(super) fn who(&mut self) -> Option<Arc<Who>> {
        let (at, shard) = (self.ledger.at(), self.shard());
        if let Some((known_at, known_shard, who)) = &self.who
            && (*known_at, *known_shard) == (at, shard)
        {
            return Some(Arc::clone(who));
        }
        let login = &self.account.login;
        let mut parameters: Vec<(Box<str>, Box<str>)> = Vec::new();
        let given = login.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in given.chain(self.ledger.values()?) {
            let name = name.to_ascii_lowercase();
            parameters.retain(|(known, _)| **known != *name);
            parameters.push((name.into(), value.into()));
        }
        parameters.sort();
        let user = login.user.as_str().into();
        let credential = login.credential.clone().map(Arc::new);
        let cluster = self.cluster.index;
        let who = Arc::new(Who { cluster, shard, user, credential, parameters });
        self.who = Some((at, shard, Arc::clone(&who)));
        Some(who)
    }

    fn judge(&self, who: &Who, text: &[u8], oids: &[u32], effects: &Effects) -> Verdict<L::Plan> {
        judge(&self.world.lane, who, text, oids, effects)
    }

    fn plan(&self, verdict: &Verdict<L::Plan>) -> Result<Arc<L::Plan>, PipeReason> {
        plan(verdict, self.cluster.mode(self.account.mode))
    }

    fn answer_simple(&mut self, own: &Own, len: usize) {
        self.client.input.advance(len);
        self.ledger.forget(b"");
        let (mut dials, output) = self.dials();
        match own.answer(&mut dials, output) {
            Ok(()) => self.ready(),
            Err(error) => self.fail(&error, true),
        }
    }

    pub(super) fn answer_single(
        &mut self,
        own: &Own,
        single: &Single,
        name: &[u8],
        new: Option<Box<Statement<L::Plan>>>,
    ) {
        if let Some(new) = new {
            self.remember(name, new);
        }
        let batch = self.client.input.split_to(single.len);
        let mut rest = &batch[..];
        while let Ok(Some(head)) = frames::head(rest) {
            let (frame, behind) = rest.split_at(head.len);
            rest = behind;
            if head.tag == b'S' {
                self.ready();
                continue;
            }
            let (mut dials, output) = self.dials();
            if let Err(error) = own.answer_frame(frame, &mut dials, output) {
                self.fail(&error, true);
                return;
            }
        }
    }

    /// A statement was prepared without a server.
    pub(super) fn remember(&mut self, name: &[u8], statement: Box<Statement<L::Plan>>) {
        if !self.ledger.prepared(name, statement) {
            self.lanes.soiled(Reason::Bound);
            self.ledger.soil(Reason::Bound);
        }
    }
}

pub(super) fn judge<L: Shared>(
    lane: &L,
    who: &Who,
    text: &[u8],
    oids: &[u32],
    effects: &Effects,
) -> Verdict<L::Plan> {
    if effects.statements != 1 {
        return Verdict::Pipe(PipeReason::Shape);
    }
    // Of somebody's function the text does not say what it leaves; what is proven leaves nothing.
    let calls = matches!(&*effects.left, [Effect::Dirty(Reason::Function)]);
    if !effects.left.is_empty() && !calls {
        return Verdict::Pipe(PipeReason::Command);
    }
    let verdict = match utf8(text) {
        Ok(text) => lane.judge(who, &Asked { text, oids }),
        Err(_unreadable) => Verdict::Pipe(PipeReason::Grammar),
    };
    match verdict {
        Verdict::Pipe(_) | Verdict::Refuse(_) if calls => Verdict::Pipe(PipeReason::Command),
        verdict => verdict,
    }
}

fn plan<P>(verdict: &Verdict<P>, mode: Mode) -> Result<Arc<P>, PipeReason> {
    match verdict {
        Verdict::Share(_) if mode == Mode::Observe => Err(PipeReason::Observe),
        Verdict::Share(plan) => Ok(Arc::clone(plan)),
        Verdict::Pipe(reason) => Err(*reason),
        // Whoever passes it on asks again, and refuses it there.
        Verdict::Refuse(_) => Err(PipeReason::Relation),
    }
}

/// Whether a text may be about a switch of sortie's own.
pub(super) fn mentions_own(text: &[u8]) -> bool {
    // Short ones only: nobody hides a SET in a long text.
    let name = b"sortie";
    // There are few points in a text, and letters everywhere.
    let is_behind = |at: usize| {
        at.checked_sub(name.len()).is_some_and(|from| text[from..at].eq_ignore_ascii_case(name))
    };
    text.len() < 256 && memchr_iter(b'.', text).any(is_behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_seen_wherever_they_are_named() {
        for text in ["SET sortie.lane = pipe", "sortie.", "a.b Sortie.x", "show SORTIE.share"] {
            assert!(mentions_own(text.as_bytes()), "{text}");
        }
        for text in ["", ".", "sortie", "ortie.x", "SELECT a.b FROM sortie", "sortie .x"] {
            assert!(!mentions_own(text.as_bytes()), "{text}");
        }
        assert!(!mentions_own(format!("{}sortie.x", " ".repeat(256)).as_bytes()));
    }
}
