//! Statements about sortie's own switches, of a session that holds a connection: they are answered
//! here, as they are where no server is needed, as soon as nothing is awaited from that one.
//!
//! It knows nothing of the switches, and `join` is a reserved word to it.
//!
//! # Limits
//!
//! What is sent among other statements, in one string or up to one Sync, goes to the server. So
//! does what sets `sortie.shard`, what comes behind a batch that waits for its Sync, and, but for
//! `join`, what comes in a transaction that has failed.

use sortie_postgres::backend::{self, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use super::decide::{self, Batch};
use super::effect::Effects;
use super::frames;
use super::lanes::mentions_own;
use super::local::{Dials, Own};
use super::session::Session;
use super::shared::Shared;
use super::switches::Switches;
use crate::sql::SqlError;

/// What becomes of the frame in front.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Amid {
    /// It is passed on.
    Passes,
    /// Something must come first.
    Waits,
    /// It was answered, with the batch that it begins.
    Answered,
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Answers the batch in front, which begins with a whole frame, if it is about a switch alone.
    pub(super) fn answer_amid(&mut self, tag: u8, len: usize) -> Amid {
        if !self.names_own(tag, len) {
            return Amid::Passes;
        }
        let (_, _, is_open) = self.course.outstanding();
        if is_open || self.course.is_skipping() {
            return Amid::Passes;
        }
        if tag == b'Q' {
            let frame = &self.client.input[..len];
            let text = frames::text(&frame[frames::HEADER_LEN..]).map_or(&[][..], |it| it.0);
            let Some(own) = decide::own(&Effects::of(text)) else { return Amid::Passes };
            let becomes = self.becomes(&own);
            if becomes == Amid::Answered {
                self.ledger.forget(b"");
                self.answer_frames(&own, len);
            }
            return becomes;
        }
        let single = match decide::batch(&self.client.input) {
            Batch::Single(single) => single,
            Batch::Partial { wanted } => {
                self.client.room_for(wanted);
                return Amid::Waits;
            }
            _ => return Amid::Passes,
        };
        let Some((name, new)) = self.subject(&single) else { return Amid::Passes };
        let statement = new.as_deref().or_else(|| self.ledger.known(&name));
        let own = statement.and_then(|statement| decide::own(&statement.effects));
        let Some(own) = own else { return Amid::Passes };
        let becomes = self.becomes(&own);
        if becomes == Amid::Answered {
            if let Some(new) = new {
                self.remember(&name, new);
            }
            self.answer_frames(&own, single.len);
        }
        becomes
    }

    /// What becomes of this statement.
    fn becomes(&self, own: &Own) -> Amid {
        let name = match own {
            Own::Set(name, _) | Own::SetLocal(name, _) | Own::Show(name) => &**name,
            Own::Done(_) => return Amid::Passes,
        };
        let has_failed =
            self.held.as_ref().is_some_and(|it| it.leased.server.status() == Status::Failed);
        match own {
            // Which shard a session asks is not changed while it holds a connection.
            Own::Set(..) if name == "sortie.shard" => Amid::Passes,
            _ if !self.course.is_clear() => Amid::Waits,
            // What the server can read, it refuses in words of its own.
            _ if has_failed && name != "sortie.join" => Amid::Passes,
            _ => Amid::Answered,
        }
    }

    /// Whether a frame may begin such a batch, at a glance.
    fn names_own(&self, tag: u8, len: usize) -> bool {
        let frame = &self.client.input[..len];
        let name = match tag {
            b'Q' => {
                let text = frames::text(&frame[frames::HEADER_LEN..]);
                return text.is_some_and(|(text, _)| mentions_own(text));
            }
            b'P' => {
                let text = frames::parse(frame).map(|parse| parse.text);
                let text = text.filter(|text| mentions_own(text));
                return text.is_some_and(|text| decide::own(&Effects::of(text)).is_some());
            }
            b'B' => frames::bind(frame).map(|(_, name)| name),
            b'D' => frames::target(frame).filter(|it| it.0 == b'S').map(|it| it.1),
            _ => None,
        };
        let known = name.and_then(|name| self.ledger.known(name));
        known.is_some_and(|known| decide::own(&known.effects).is_some())
    }

    /// Answers the frames of a batch, so long, as its transaction stands. What is wrong there fails
    /// on the server, too, with what stands behind it.
    fn answer_frames(&mut self, own: &Own, len: usize) {
        let Some(held) = &self.held else { return };
        let status = held.leased.server.status();
        let mut left = len;
        while left > 0
            && let Ok(Some(head)) = frames::head(&self.client.input)
        {
            let frame = self.client.input.split_to(head.len);
            self.pass_foreseen(head.len);
            left -= head.len;
            if let Err(error) = self.answer_frame(own, &frame, status) {
                match head.tag {
                    b'Q' => self.course.fail(error, &mut self.out),
                    _ => self.course.fail_extended(error, &mut self.out),
                }
                return;
            }
            if matches!(head.tag, b'Q' | b'S') {
                backend::ready_for_query(&mut self.client.output, status);
            }
        }
    }

    fn answer_frame(&mut self, own: &Own, frame: &[u8], status: Status) -> Result<(), SqlError> {
        if status == Status::Failed && frame[0] != b'S' {
            return Err(SqlError::aborted());
        }
        // Nothing is shared in a transaction that has its server.
        let mut local = Switches::default();
        let mut dials = Dials {
            session: &mut self.switches,
            local: (status != Status::Idle).then_some(&mut local),
            defaults: self.account.defaults,
            shards: self.cluster.shards(),
        };
        match frame[0] {
            b'Q' => own.answer(&mut dials, &mut self.client.output),
            _ => own.answer_frame(frame, &mut dials, &mut self.client.output),
        }
    }
}
