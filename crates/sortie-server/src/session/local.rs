//! Statements that concern only the session.

use bytes::BytesMut;
use sortie_postgres::backend::DataRow;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reads;
use super::portal::{Outcome, Rows};
use super::talk::{Origin, Session};
use crate::sql::{Column, ConstItem, ConstRow, Local, Settings, SqlError, result_formats};

impl<S, R> Session<'_, S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Reads,
{
    /// Runs a statement on the session's own state.
    pub(super) fn local(
        &mut self,
        local: &Local,
        columns: &[Column],
        formats: &[i16],
        origin: Origin,
    ) -> Result<Outcome, SqlError> {
        let state = &mut self.state;
        let mut tag = local.tag();
        let warning = match local {
            Local::Empty => return Ok(Outcome::Empty),
            Local::Select(row) => {
                let binary = result_formats(formats, columns.len())?;
                return Ok(Outcome::Rows(self.constants(row, columns, &binary)));
            }
            Local::Show(name) => {
                let (_, value) = state.settings().show(name)?;
                return Ok(Outcome::Rows(shown(&[[value]])));
            }
            Local::ShowAll => {
                return Ok(Outcome::Rows(shown(&state.settings().show_all())));
            }
            Local::Set { name, value, local } => {
                state.settings_mut().set(name, value.as_deref(), *local)?;
                let outside = *local && origin == Origin::Alone;
                outside.then(|| state.warn_outside("SET LOCAL")).flatten()
            }
            Local::SetTransaction => {
                let outside = origin == Origin::Alone;
                outside.then(|| state.warn_outside("SET TRANSACTION")).flatten()
            }
            Local::Reset(name) => state.settings_mut().reset(name).map(|()| None)?,
            Local::ResetAll => {
                state.settings_mut().reset_all();
                None
            }
            Local::DiscardAll => state.discard_all().map(|()| None)?,
            Local::Deallocate(name) => state.deallocate(name.as_deref()).map(|()| None)?,
            Local::Begin { .. } => state.begin(),
            Local::Commit { chain } => {
                let (kept, warning) = state.end(true, *chain)?;
                if !kept {
                    tag = Some("ROLLBACK");
                }
                warning
            }
            Local::Rollback { chain } => state.end(false, *chain)?.1,
            Local::Nothing(_) => None,
        };
        if let Some(warning) = warning {
            self.warn(&warning);
        }
        Ok(tag.map_or(Outcome::Empty, Outcome::Done))
    }

    fn constants(&self, row: &ConstRow, columns: &[Column], binary: &[bool]) -> Rows {
        let mut frames = BytesMut::new();
        if row.present {
            let (mut data, mut value) = (DataRow::begin(&mut frames), Vec::new());
            for ((item, column), &binary) in row.items.iter().zip(columns).zip(binary) {
                match item {
                    ConstItem::Value(datum) => {
                        value.clear();
                        if datum.encode(column.ty, binary, &mut value) {
                            data.value(&value);
                        } else {
                            data.null();
                        }
                    }
                    ConstItem::CurrentUser => data.value(self.state.settings().user().as_bytes()),
                    ConstItem::CurrentDatabase => {
                        data.value(self.state.settings().database().as_bytes());
                    }
                    ConstItem::CurrentSchema => data.value(b"public"),
                    ConstItem::Version => data.value(version(self.state.settings()).as_bytes()),
                }
            }
            data.finish();
        }
        Rows { frames: frames.freeze(), count: u64::from(row.present), command: "SELECT" }
    }
}

/// What `version()` says. The first two words are what clients take the version from.
fn version(settings: &Settings) -> String {
    let server = settings.show("server_version").map(|(_, version)| version).unwrap_or_default();
    let (ours, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!("PostgreSQL {server} (sortie {ours}) on {machine}")
}

/// Rows of text for `SHOW`; text looks the same in both formats.
fn shown<const N: usize>(rows: &[[String; N]]) -> Rows {
    let mut frames = BytesMut::new();
    for row in rows {
        let mut data = DataRow::begin(&mut frames);
        for text in row {
            data.value(text.as_bytes());
        }
        data.finish();
    }
    Rows { frames: frames.freeze(), count: rows.len() as u64, command: "SHOW" }
}
