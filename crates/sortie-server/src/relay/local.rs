//! Statements that sortie answers itself: about its own switches, and about transactions that no
//! server knows of.

use bytes::BytesMut;
use sortie_postgres::backend::{self, DataRow, Field, Severity};

use super::effect::Effect;
use super::frames;
use super::switches::Switches;
use crate::session::failure;
use crate::sql::{SqlError, state};

/// The OID and the size of `text`.
const TEXT: (u32, i16) = (25, -1);

/// A statement that is answered here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Own {
    /// `SET` or, without a value, `RESET`.
    Set(Box<str>, Option<Box<str>>),
    /// `SET LOCAL`.
    SetLocal(Box<str>, Option<Box<str>>),
    /// `SHOW`.
    Show(Box<str>),
    /// It has been done, and this is its tag.
    Done(&'static str),
}

/// The switches of a session, for who sets and shows them.
#[derive(Debug)]
pub(super) struct Dials<'a> {
    pub(super) session: &'a mut Switches,
    /// Those of its transaction, if it is one that no server knows of.
    pub(super) local: Option<&'a mut Switches>,
    /// What holds if nobody has set anything.
    pub(super) defaults: Switches,
    pub(super) shards: usize,
}

impl Dials<'_> {
    fn shown(&self) -> Switches {
        let local = self.local.as_deref().copied().unwrap_or_default();
        local.or(*self.session).or(self.defaults)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        self.session.set(name, value, self.shards)?;
        match &mut self.local {
            Some(local) => local.set(name, None, self.shards),
            None => Ok(()),
        }
    }

    /// Sets a switch until the end of the transaction; outside of one that does nothing.
    fn set_local(
        &mut self,
        name: &str,
        value: Option<&str>,
        output: &mut BytesMut,
    ) -> Result<(), SqlError> {
        if let Some(local) = &mut self.local {
            return local.set(name, value, self.shards);
        }
        Switches::default().set(name, value, self.shards)?;
        let message = "SET LOCAL can only be used in transaction blocks";
        let warning = SqlError::new(state::NO_ACTIVE_TRANSACTION, message);
        failure::say(output, Severity::Warning, &warning);
        Ok(())
    }
}

impl Own {
    /// The statement that leaves this and nothing else, if it is about a switch.
    pub(super) fn of(left: &[Effect]) -> Option<Self> {
        match left {
            [Effect::Switch(name, value)] => Some(Self::Set(name.clone(), value.clone())),
            [Effect::SwitchLocal(name, value)] => Some(Self::SetLocal(name.clone(), value.clone())),
            [Effect::Show(name)] => Some(Self::Show(name.clone())),
            _ => None,
        }
    }

    /// Answers a simple query, all but its `ReadyForQuery`.
    pub(super) fn answer(
        &self,
        dials: &mut Dials<'_>,
        output: &mut BytesMut,
    ) -> Result<(), SqlError> {
        if let Self::Show(name) = self {
            self.describe(output);
            Self::row(name, dials.shown(), output)?;
        }
        self.run(dials, output)
    }

    /// Answers one message of a batch that is about this statement alone, but for its Sync.
    pub(super) fn answer_frame(
        &self,
        frame: &[u8],
        dials: &mut Dials<'_>,
        output: &mut BytesMut,
    ) -> Result<(), SqlError> {
        match frame[0] {
            b'P' => backend::parse_complete(output),
            b'B' => backend::bind_complete(output),
            b'C' => backend::close_complete(output),
            b'D' => {
                if matches!(frames::target(frame), Some((b'S', _))) {
                    backend::parameter_description(output, std::iter::empty());
                }
                match self {
                    Self::Set(..) | Self::SetLocal(..) | Self::Done(_) => backend::no_data(output),
                    Self::Show(_) => self.describe(output),
                }
            }
            b'E' => {
                if let Self::Show(name) = self {
                    Self::row(name, dials.shown(), output)?;
                }
                self.run(dials, output)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn describe(&self, output: &mut BytesMut) {
        let Self::Show(name) = self else { return };
        let (oid, size) = TEXT;
        let field = Field { name, table: 0, column: 0, oid, size, modifier: -1, format: 0 };
        backend::row_description(output, std::iter::once(field));
    }

    fn row(name: &str, switches: Switches, output: &mut BytesMut) -> Result<(), SqlError> {
        let Some(value) = switches.show(name) else {
            // The same words as for one that is to be set.
            return Switches::default().set(name, None, 1);
        };
        let mut row = DataRow::begin(output);
        row.value(value.as_bytes());
        row.finish();
        Ok(())
    }

    fn run(&self, dials: &mut Dials<'_>, output: &mut BytesMut) -> Result<(), SqlError> {
        match self {
            Self::Set(name, value) => {
                dials.set(name, value.as_deref())?;
                let tag = if value.is_some() { "SET" } else { "RESET" };
                backend::command_complete(output, tag);
            }
            Self::SetLocal(name, value) => {
                dials.set_local(name, value.as_deref(), output)?;
                backend::command_complete(output, "SET");
            }
            Self::Show(_) => backend::command_complete(output, "SHOW"),
            Self::Done(tag) => backend::command_complete(output, tag),
        }
        Ok(())
    }
}
