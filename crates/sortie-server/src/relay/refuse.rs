//! Statements of a session that asks all shards, and that one server would have to answer.

use bytes::Bytes;
use sortie_postgres::backend::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::effect::Effects;
use super::session::Session;
use super::shared::{Asked, PipeReason, Shared, Verdict};
use super::switches::{self, Switches};
use super::{decide, frames};
use crate::config::Mode;
use crate::sql::{SqlError, split, state, utf8};

/// PostgreSQL tells the names of prepared statements apart by so many bytes.
const NAME_MAX: usize = 63;

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Judges a frame that is to be passed to one server of several shards, by its first `len`
    /// bytes: all of it, unless it is too long to be read. Returns whether it is refused: something
    /// that fails was passed on in its place.
    pub(super) fn refuse(&mut self, len: usize) -> bool {
        if self.course.is_skipping() {
            return false;
        }
        let frame = Bytes::copy_from_slice(&self.client.input[..len]);
        let is_cut = frames::head(&frame).is_ok_and(|head| head.is_some_and(|it| it.len > len));
        let refusal = match frame[0] {
            b'Q' | b'P' | b'B' if self.changes_shard(&frame) => Some(shard_is_fixed()),
            _ if !self.is_unbound() => None,
            b'Q' | b'P' if is_cut => Some(bind("a statement that is too long to be read")),
            b'Q' => {
                let body = &frame[frames::HEADER_LEN..];
                self.refusal(frames::text(body).map_or(&[][..], |it| it.0), &[], true)
            }
            b'P' => frames::parse(&frame)
                .and_then(|parse| self.refusal(parse.text, &parse.oids(), false)),
            b'B' if is_cut && frames::bind(&frame).is_none() => {
                Some(bind("a Bind whose names are too long to be read"))
            }
            b'B' => frames::bind(&frame).and_then(|(_, name)| {
                if name.len() > NAME_MAX {
                    // To the server it is the name of whatever begins like it.
                    return Some(bind("a statement of so long a name"));
                }
                let known = self.course.frame_of(&self.ledger, name)?;
                let parse = frames::parse(&known)?;
                self.refusal(parse.text, &parse.oids(), true)
            }),
            b'F' => Some(bind("a function call")),
            _ => None,
        };
        let Some(error) = refusal else { return false };
        self.lanes.refused();
        if let Some(held) = &mut self.held {
            // It would not have been shared: it is refused.
            held.observed = None;
        }
        if frame[0] == b'Q' || frame[0] == b'F' {
            self.course.fail(error, &mut self.out);
        } else {
            self.course.fail_extended(error, &mut self.out);
        }
        true
    }

    /// Whether a frame would have the session ask another shard while it holds a connection.
    fn changes_shard(&self, frame: &Bytes) -> bool {
        match frame[0] {
            b'Q' => {
                let text = frames::text(&frame[frames::HEADER_LEN..]);
                text.is_some_and(|(text, _)| switches::sets_shard(text))
            }
            b'P' => frames::parse(frame).is_some_and(|parse| switches::sets_shard(parse.text)),
            _ => {
                let name = frames::bind(frame).map(|(_, name)| name);
                let known = name.and_then(|name| self.course.frame_of(&self.ledger, name));
                known.is_some_and(|known| {
                    frames::parse(&known).is_some_and(|parse| switches::sets_shard(parse.text))
                })
            }
        }
    }

    /// Why a read of all shards may not be answered, and what to do about it.
    fn unshared(&self, text: &str, is_alone: bool) -> SqlError {
        let Some(held) = &self.held else { return bind("a statement on all shards") };
        let hint = Switches::hint(text.as_bytes());
        let mode = match self.cluster.mode(self.account.mode) {
            Mode::Observe => "observe",
            Mode::Share | Mode::Pipe => "pipe",
        };
        let (why, cure) = match held.reason {
            _ if held.leased.server.status() != Status::Idle => {
                ("in a transaction".to_owned(), "Ask outside of a transaction")
            }
            _ if !is_alone => {
                ("among other statements".to_owned(), "Send the statements one by one")
            }
            _ if self.ledger.dirty().is_some() => {
                let cure = "DISCARD ALL lets it go, with what the session has left there";
                let why = "by a session that keeps its server connection";
                (why.to_owned(), cure)
            }
            PipeReason::Lane if hint.pipe == Some(true) => {
                ("with sortie.lane = pipe".to_owned(), "Leave the comment out")
            }
            PipeReason::Lane if self.switches.pipe == Some(true) => {
                ("with sortie.lane = pipe".to_owned(), "RESET sortie.lane")
            }
            PipeReason::Share if hint.share == Some(false) => {
                ("with sortie.share = off".to_owned(), "Leave the comment out")
            }
            PipeReason::Share => ("with sortie.share = off".to_owned(), "RESET sortie.share"),
            PipeReason::Observe | PipeReason::Lane => {
                let cure = "Set the mode to share: with mode = observe and pipe every statement \
                            goes to one server, which has one shard's rows";
                (format!("with mode = {mode}"), cure)
            }
            _ => ("among other messages".to_owned(), "Send it by itself"),
        };
        unbound(&format!("a statement on all shards {why}"), &format!("{cure}; or bind {BIND}"))
    }

    /// Why a text may not go to one server of several shards, if it may not.
    fn refusal(&mut self, text: &[u8], oids: &[u32], runs: bool) -> Option<SqlError> {
        let effects = Effects::of(text);
        if effects.statements == 0 || decide::is_of_session(&effects) {
            return None;
        }
        let Ok(text) = utf8(text) else { return Some(bind("a text that can't be read")) };
        let Some(who) = self.who() else {
            return Some(bind("a session with parameters that can't be read"));
        };
        // What can't be cut is no statement: the server says so.
        let pieces = split(text).ok()?;
        pieces.iter().find_map(|piece| {
            let effects = Effects::of(piece.text.as_bytes());
            if decide::is_of_session(&effects) {
                return None;
            }
            match self.world.lane.judge(&who, &Asked { text: piece.text, oids }) {
                Verdict::Refuse(error) => Some(*error),
                Verdict::Share(_) if runs => Some(self.unshared(text, pieces.len() == 1)),
                Verdict::Share(_) | Verdict::Pipe(_) => None,
            }
        })
    }
}

/// What helps in every case.
const BIND: &str = "the session to one shard: SET sortie.shard = N, or the database NAME.N.";

fn bind(what: &str) -> SqlError {
    unbound(what, &format!("Bind {BIND}"))
}

fn unbound(what: &str, hint: &str) -> SqlError {
    let message = format!("{what} can't be answered exactly by a cluster of several shards");
    SqlError::unsupported(message).hint(hint)
}

fn shard_is_fixed() -> SqlError {
    let message = "sortie.shard can't be changed in a transaction, among other statements, or by a \
                   session that keeps its server connection";
    SqlError::new(state::CANT_CHANGE_RUNTIME_PARAM, message).hint(
        "Say SET sortie.shard by itself, outside of a transaction; DISCARD ALL lets the \
               connection go.",
    )
}
