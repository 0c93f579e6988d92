//! What a session has left on servers, so that it can be had again on another connection.
//!
//! Terms: a *parameter* is set by a statement whose text sets it again; a *statement* is prepared
//! by a Parse frame, which prepares it again; a session that left anything else is *dirty*, and
//! keeps its connection.
//!
//! # Invariants
//!
//! 1. Parameters are set again in the order in which they were set last.
//! 2. A statement is in the ledger only when the server has confirmed it.
//! 3. Of a connection that is given back it is known whether it must be cleaned before somebody
//!    else uses it, and how thoroughly ([`Here::flags`]).
//! 4. Everything is bounded; beyond a bound the session is dirty.

mod here;
mod statement;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

pub(crate) use self::here::Here;
pub(crate) use self::statement::{Statement, View, parses};
use super::effect::{Effect, Reason};
use super::frames;
use super::homes::Found;

/// Parameters that one session may have set.
const PARAMETERS_MAX: usize = 128;
/// The length of all their texts, in bytes.
const PARAMETERS_BYTES_MAX: usize = 16 << 10;
/// Prepared statements of one session.
const STATEMENTS_MAX: usize = 2_000;
/// The length of all their Parse frames, in bytes.
const STATEMENTS_BYTES_MAX: usize = 8 << 20;
/// What a residue says about what was left: parameters, named statements, the unnamed one.
const PARAMETERS: u64 = 1;
pub(crate) const NAMED: u64 = 2;
const UNNAMED: u64 = 4;
/// Several parameters are set under this name.
const SESSION_CHARACTERISTICS: &str = "session characteristics";

/// What a session has left on servers.
#[derive(Debug)]
pub(crate) struct Ledger<P> {
    parameters: Vec<Parameter>,
    /// The change that the parameters are at; 0 when there are none.
    at: u64,
    /// The last change that took a parameter away.
    removed_at: u64,
    changes: u64,
    statements: HashMap<Bytes, Box<Statement<P>>>,
    statements_bytes: usize,
    dirty: Option<Reason>,
    /// How often the session was made dirty.
    soiled: u64,
}

/// A parameter that was set.
#[derive(Debug)]
struct Parameter {
    name: Box<str>,
    /// Its value, if it can be read from the text.
    value: Option<Box<str>>,
    /// The statement that sets it.
    text: Box<[u8]>,
    /// The change that set it.
    at: u64,
}

/// The queries that make a connection a session's own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Replay {
    pub(crate) queries: u32,
    /// The first of them takes away what was left there.
    pub(crate) cleans: bool,
}

/// What must be there for a statement of a certain name.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// Nothing: it is there, or nobody knows it.
    Nothing,
    /// It must be prepared.
    Parse(Bytes),
    /// Another one of this name must go first, if there is one to be prepared at all.
    Close(Option<Bytes>),
}

impl<P> Ledger<P> {
    /// The ledger of a new session.
    pub(crate) fn new() -> Self {
        Self {
            parameters: Vec::new(),
            at: 0,
            removed_at: 0,
            changes: 0,
            statements: HashMap::new(),
            statements_bytes: 0,
            dirty: None,
            soiled: 0,
        }
    }

    /// Why the session is dirty, if it is.
    pub(crate) fn dirty(&self) -> Option<Reason> {
        self.dirty
    }

    /// Makes the session dirty. Returns whether it was clean before.
    pub(crate) fn soil(&mut self, reason: Reason) -> bool {
        self.soiled += 1;
        let was_clean = self.dirty.is_none();
        self.dirty.get_or_insert(reason);
        was_clean
    }

    /// How often the session was made dirty: to tell whether a `DISCARD ALL` came after it.
    pub(crate) fn soiled(&self) -> u64 {
        self.soiled
    }

    /// The change that the parameters are at.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Names and values of what was set; `None` if a value can't be read.
    pub(crate) fn values(&self) -> Option<Vec<(&str, &str)>> {
        self.parameters.iter().map(|it| Some((&*it.name, it.value.as_deref()?))).collect()
    }

    /// The statement of this name.
    pub(crate) fn statement(&mut self, name: &[u8]) -> Option<&mut Statement<P>> {
        self.statements.get_mut(name).map(|statement| &mut **statement)
    }

    pub(crate) fn known(&self, name: &[u8]) -> Option<&Statement<P>> {
        self.statements.get(name).map(|statement| &**statement)
    }

    /// A statement was prepared. Returns whether it is within the bounds; once one was not, no more
    /// of those are kept that have a name.
    #[must_use]
    pub(crate) fn prepared(&mut self, name: &[u8], statement: Box<Statement<P>>) -> bool {
        self.forget(name);
        if self.is_over() && !name.is_empty() {
            return false;
        }
        self.statements_bytes += statement.frame.len();
        self.statements.insert(Bytes::copy_from_slice(name), statement);
        !self.is_over()
    }

    /// Whether more statements were prepared than can be had again.
    fn is_over(&self) -> bool {
        self.statements.len() > STATEMENTS_MAX || self.statements_bytes > STATEMENTS_BYTES_MAX
    }

    /// A statement is gone.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        if let Some(gone) = self.statements.remove(name) {
            self.statements_bytes -= gone.frame.len();
        }
    }

    /// All statements are gone that have a name.
    fn forget_named(&mut self) {
        let unnamed = self.statements.remove_entry(&b""[..]);
        self.statements.clear();
        self.statements_bytes = 0;
        if let Some((name, statement)) = unnamed {
            self.statements_bytes = statement.frame.len();
            self.statements.insert(name, statement);
        }
    }

    /// What a statement of the text left, on the connection that the session holds, but for
    /// statements that are gone there. Returns whether it is within the bounds.
    #[must_use]
    pub(crate) fn left(&mut self, effect: &Effect, text: &[u8], here: &mut Here) -> bool {
        match effect {
            Effect::Set(name, value) => self.set(name, value.as_deref(), text),
            Effect::Reset(name) => self.reset(name, text),
            Effect::ResetAll => {
                self.parameters.retain(|parameter| survives_reset_all(&parameter.name));
                self.changed(true);
            }
            Effect::DiscardAll => {
                self.parameters.clear();
                self.changed(true);
                self.forget_named();
            }
            Effect::Deallocate(Some(name)) => self.forget(name.as_bytes()),
            Effect::Deallocate(None) => self.forget_named(),
            Effect::Nothing
            | Effect::Control(_)
            | Effect::Switch(..)
            | Effect::SwitchLocal(..)
            | Effect::Show(_)
            | Effect::Dirty(_) => return true,
        }
        here.at = self.at;
        here.supply(effect);
        let bytes: usize = self.parameters.iter().map(|parameter| parameter.text.len()).sum();
        self.parameters.len() <= PARAMETERS_MAX && bytes <= PARAMETERS_BYTES_MAX
    }

    /// A `DISCARD ALL` that was sent when the session had been made dirty so often succeeded.
    pub(crate) fn cleaned(&mut self, soiled: u64) {
        if self.soiled == soiled {
            self.dirty = None;
        }
    }

    fn set(&mut self, name: &str, value: Option<&str>, text: &[u8]) {
        // What is set under this name may be several parameters: only the same text sets the same.
        let adds = name == SESSION_CHARACTERISTICS;
        self.parameters.retain(|known| &*known.name != name || (adds && *known.text != *text));
        let at = self.changed(false);
        let (name, value) = (name.into(), value.map(Into::into));
        self.parameters.push(Parameter { name, value, text: text.into(), at });
        self.at = at;
    }

    fn reset(&mut self, name: &str, text: &[u8]) {
        // These change others with them, so the order matters.
        let entangled =
            |name: &str| matches!(name, SESSION_CHARACTERISTICS | "session_authorization" | "role");
        if entangled(name) || self.parameters.iter().any(|it| entangled(&it.name)) {
            self.set(name, None, text);
            return;
        }
        let before = self.parameters.len();
        self.parameters.retain(|parameter| &*parameter.name != name);
        if self.parameters.len() != before {
            self.changed(true);
        }
    }

    /// The parameters change.
    fn changed(&mut self, removed: bool) -> u64 {
        self.changes += 1;
        if removed {
            self.removed_at = self.changes;
        }
        self.at = if self.parameters.is_empty() { 0 } else { self.changes };
        self.changes
    }

    /// The session gets a connection. Appends the queries that make it the session's own to
    /// `replay`, and returns what is there then, and which queries there are.
    pub(crate) fn arrive(&mut self, found: Found, replay: &mut BytesMut) -> (Here, Replay) {
        let (mut queries, mut cleans) = (0, false);
        let mut here = Here::default();
        match found {
            Found::Own(own) if !own.is_lacking() => here = own,
            // With what is set there nobody can begin.
            Found::Own(_) => {
                frames::query(replay, b"DISCARD ALL");
                queries += 1;
            }
            Found::Strange(flags) if flags & PARAMETERS != 0 => {
                frames::query(replay, b"DISCARD ALL");
                queries += 1;
            }
            Found::Strange(flags) if flags & NAMED != 0 => {
                frames::query(replay, b"DEALLOCATE ALL");
                queries += 1;
            }
            Found::Strange(flags) if flags & UNNAMED != 0 => {
                here.is_strange = true;
            }
            Found::Strange(_) => {}
        }
        cleans |= queries > 0;
        if here.at != self.at {
            if here.at != 0 && (self.at == 0 || self.removed_at > here.at) {
                frames::query(replay, b"DISCARD ALL");
                queries += 1;
                cleans = true;
                here = Here::default();
            }
            for parameter in self.parameters.iter().filter(|it| it.at > here.at) {
                frames::query(replay, &parameter.text);
                queries += 1;
            }
            here.at = self.at;
        }
        if queries > 0 {
            // A simple query drops the unnamed statement.
            here.statements.remove(&b""[..]);
            here.is_strange = false;
        }
        (here, Replay { queries, cleans })
    }

    /// A parameter could not be set on the connection on which so many are still to be set, this
    /// one included. Returns its name.
    pub(crate) fn missed(&self, here: &mut Here, left: usize) -> Option<&str> {
        // They are set in the order in which they stand here.
        let at = self.parameters.len().checked_sub(left)?;
        let name = &self.parameters.get(at)?.name;
        here.lacks.push(name.clone());
        Some(name)
    }

    /// What must happen on the connection before a message about the statement of this name.
    pub(crate) fn need(&self, name: &[u8], here: &Here) -> Need {
        let (ours, there) = (self.statements.get(name), here.statements.get(name));
        match (ours, there) {
            // Its session keeps the connection on which it is.
            (Some(ours), None) if ours.frame.is_empty() => Need::Nothing,
            (None, Some(_)) => Need::Close(None),
            (Some(ours), Some(there)) if ours.number == *there => Need::Nothing,
            (Some(ours), Some(_)) => Need::Close(Some(ours.frame.clone())),
            (Some(ours), None) => Need::Parse(ours.frame.clone()),
            (None, None) => Need::Nothing,
        }
    }

    /// The number of the statement of this name.
    pub(crate) fn number(&self, name: &[u8]) -> Option<u64> {
        self.statements.get(name).map(|statement| statement.number)
    }

    /// The names of all.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.statements.keys()
    }
}

/// What `RESET ALL` leaves as it is.
fn survives_reset_all(name: &str) -> bool {
    matches!(name, "role" | "session_authorization")
}
