//! What a session has left on the connection that it holds.

use bytes::Bytes;
use hashbrown::HashMap;

use super::{NAMED, PARAMETERS, SESSION_CHARACTERISTICS, UNNAMED, survives_reset_all};
use crate::relay::effect::Effect;
use crate::relay::homes::APART;

/// What the session has left on the connection that it holds.
#[derive(Debug, Default)]
pub(crate) struct Here {
    pub(super) at: u64,
    /// Numbers of the prepared statements that are there, by name.
    pub(super) statements: HashMap<Bytes, u64>,
    /// Flags of what was ever prepared there: strangers clean it whatever became of it.
    touched: u64,
    /// The unnamed statement may be somebody else's.
    pub(super) is_strange: bool,
    /// It has custom parameters that others who may find it have not set: nobody else may use it.
    pub(crate) is_apart: bool,
    /// Parameters of the session's that could not be set there.
    pub(super) lacks: Vec<Box<str>>,
}

impl Here {
    /// What is left to be cleaned: 1 parameters, 2 named statements, 4 the unnamed one; 8 what
    /// can't be.
    pub(crate) fn flags(&self) -> u64 {
        let is_bare = self.at == 0 && self.lacks.is_empty();
        let mut flags = self.touched | if is_bare { 0 } else { PARAMETERS };
        for name in self.statements.keys() {
            flags |= if name.is_empty() { UNNAMED } else { NAMED };
        }
        if self.is_apart {
            flags |= APART;
        }
        if self.is_strange { flags | UNNAMED } else { flags }
    }

    /// Whether something of the session's could not be set there.
    pub(crate) fn is_lacking(&self) -> bool {
        !self.lacks.is_empty()
    }

    /// Whether a statement that leaves this sets something that is lacking, or makes it needless.
    pub(crate) fn is_supplied_by(&self, effect: &Effect) -> bool {
        self.lacks.iter().any(|name| supplies(effect, name))
    }

    /// A statement has left this.
    pub(super) fn supply(&mut self, effect: &Effect) {
        self.lacks.retain(|name| !supplies(effect, name));
    }

    /// The unnamed statement here is nobody's.
    pub(crate) fn estrange(&mut self) {
        self.forget(b"");
        self.is_strange = true;
    }

    /// Whether the unnamed statement may be somebody else's; it is not any more after this.
    pub(crate) fn take_strange(&mut self) -> bool {
        std::mem::take(&mut self.is_strange)
    }

    /// Whether the unnamed statement may be somebody else's.
    pub(crate) fn is_strange(&self) -> bool {
        self.is_strange
    }

    /// Whether the session's parameters are there as they are at this change of them.
    pub(crate) fn is_at(&self, at: u64) -> bool {
        self.at == at && self.lacks.is_empty()
    }

    /// A Parse for this name goes there; whether it succeeds is not asked.
    pub(crate) fn touch(&mut self, name: &[u8]) {
        self.touched |= if name.is_empty() { UNNAMED } else { NAMED };
    }

    /// Whether a statement of this name is there.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.statements.contains_key(name)
    }

    /// The names of all.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.statements.keys()
    }

    /// A statement is on its way. Returns which one had its name.
    pub(crate) fn prepare(&mut self, name: &[u8], number: u64) -> Option<u64> {
        match self.statements.get_mut(name) {
            Some(known) => Some(std::mem::replace(known, number)),
            None => self.statements.insert(Bytes::copy_from_slice(name), number),
        }
    }

    /// The number of the statement of this name.
    pub(crate) fn number(&self, name: &[u8]) -> Option<u64> {
        self.statements.get(name).copied()
    }

    /// It has not come: the name means what it meant before.
    pub(crate) fn restore(&mut self, name: &[u8], before: Option<u64>) {
        match before {
            Some(number) => drop(self.prepare(name, number)),
            None => self.forget(name),
        }
    }

    /// A statement is gone.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        self.statements.remove(name);
    }
}

/// Whether a parameter is as its session wants it once a statement has left this.
fn supplies(effect: &Effect, name: &str) -> bool {
    match effect {
        Effect::DiscardAll => true,
        Effect::ResetAll => !survives_reset_all(name),
        // What is set under that name adds to what was.
        Effect::Set(set, _) => **set == *name && name != SESSION_CHARACTERISTICS,
        Effect::Reset(reset) => **reset == *name,
        _ => false,
    }
}
