//! Statements of a session that asks all shards, and that one server would have to answer.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::effect::{Effect, Effects};
use super::lanes::mentions_own;
use super::session::Session;
use super::shared::{Asked, Shared, Verdict};
use super::{decide, frames};
use crate::sql::{SqlError, split, state, utf8};

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Judges a frame that is to be passed to one server of several shards. Returns whether it is
    /// refused: something that fails was passed on in its place.
    pub(super) fn refuse(&mut self, len: usize) -> bool {
        if self.course.is_skipping() {
            return false;
        }
        let frame = Bytes::copy_from_slice(&self.client.input[..len]);
        let refusal = match frame[0] {
            b'Q' | b'P' | b'B' if self.changes_shard(&frame) => Some(shard_is_fixed()),
            _ if !self.is_unbound() => None,
            b'Q' => {
                let body = &frame[frames::HEADER_LEN..];
                self.refusal(frames::text(body).map_or(&[][..], |it| it.0), &[], true)
            }
            b'P' => frames::parse(&frame)
                .and_then(|parse| self.refusal(parse.text, &parse.oids(), false)),
            b'B' => frames::bind(&frame).and_then(|(_, name)| {
                let known = self.course.frame_of(&self.ledger, name)?;
                let parse = frames::parse(&known)?;
                self.refusal(parse.text, &parse.oids(), true)
            }),
            b'F' => Some(unbound("a function call")),
            _ => None,
        };
        let Some(error) = refusal else { return false };
        self.inner.lanes.refused();
        if frame[0] == b'Q' || frame[0] == b'F' {
            self.course.fail(error, &mut self.out);
        } else {
            self.course.fail_extended(error, &mut self.out);
        }
        true
    }

    /// Whether a frame would have the session ask another shard while it holds a connection.
    fn changes_shard(&self, frame: &Bytes) -> bool {
        let sets = |effect: &Effect| match effect {
            Effect::Switch(name, _) => name.as_ref() == "sortie.shard",
            _ => false,
        };
        let changes = |text: &[u8]| mentions_own(text) && Effects::of(text).left.iter().any(sets);
        match frame[0] {
            b'Q' => {
                frames::text(&frame[frames::HEADER_LEN..]).is_some_and(|(text, _)| changes(text))
            }
            b'P' => frames::parse(frame).is_some_and(|parse| changes(parse.text)),
            _ => {
                let name = frames::bind(frame).map(|(_, name)| name);
                let known = name.and_then(|name| self.course.frame_of(&self.ledger, name));
                known.is_some_and(|known| {
                    frames::parse(&known).is_some_and(|parse| changes(parse.text))
                })
            }
        }
    }

    /// Why a text may not go to one server of several shards, if it may not.
    fn refusal(&mut self, text: &[u8], oids: &[u32], runs: bool) -> Option<SqlError> {
        let effects = Effects::of(text);
        if effects.statements == 0 || decide::is_of_session(&effects) {
            return None;
        }
        let Ok(text) = utf8(text) else { return Some(unbound("a text that can't be read")) };
        let Some(who) = self.who() else {
            return Some(unbound("a session with parameters that can't be read"));
        };
        // What can't be cut is no statement: the server says so.
        let pieces = split(text).ok()?;
        pieces.iter().find_map(|piece| {
            let effects = Effects::of(piece.text.as_bytes());
            if decide::is_of_session(&effects) {
                return None;
            }
            match self.inner.lane.judge(&who, &Asked { text: piece.text, oids }) {
                Verdict::Refuse(error) => Some(*error),
                Verdict::Share(_) if runs => Some(unbound(
                    "a statement on all shards in a transaction, in portions, or in \
                                  the pipe lane",
                )),
                Verdict::Share(_) | Verdict::Pipe(_) => None,
            }
        })
    }
}

fn unbound(what: &str) -> SqlError {
    let message = format!("{what} can't be answered exactly by a cluster of several shards");
    let mut error = SqlError::unsupported(message);
    error.hint = Some(
        "Bind the session to one shard: SET sortie.shard = N, or the database NAME.N.".to_owned(),
    );
    error
}

fn shard_is_fixed() -> SqlError {
    let message = "sortie.shard can't be changed in a transaction, among other statements, or by a \
                   session that keeps its server connection";
    let mut error = SqlError::new(state::CANT_CHANGE_RUNTIME_PARAM, message);
    error.hint = Some("End the transaction; DISCARD ALL lets the connection go.".to_owned());
    error
}
