//! The extended query protocol: Parse, Bind, Describe, Execute, Close.
//!
//! The order in which things are checked is PostgreSQL's, as clients and tests compare errors.

use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::{Bind, Target, backend};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reads;
use super::failure::Failure;
use super::portal::{Outcome, Portal, Progress, Statement};
use super::talk::{Origin, Session};
use crate::sql::{self, SqlError, state};

/// SQLSTATE of a portal that has done what it could do once.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

impl<S, R> Session<'_, S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Reads,
{
    pub(super) fn parse(
        &mut self,
        name: &Bytes,
        text: &Bytes,
        oids: &[u32],
    ) -> Result<(), Failure> {
        if name.is_empty() {
            self.state.close_statement(name);
        }
        let text = sql::utf8(text)?;
        let statement = sql::prepare(text, Some(oids), &self.shared.catalog)
            .map(|prepared| Statement::new(prepared, text.len()));
        if !statement.as_ref().is_err_and(|error| error.code == state::SYNTAX_ERROR) {
            let harmless = |statement: &Statement| statement.is_exit() || statement.is_empty();
            self.state.check_alive(|| statement.as_ref().is_ok_and(harmless))?;
        }
        self.state.add_statement(name, statement?)?;
        backend::parse_complete(&mut self.socket.output);
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let statement = Arc::clone(self.state.statement(&bind.statement)?);
        check_counts(&bind, statement.prepared.params().len())?;
        self.state.check_alive(|| statement.is_exit())?;
        self.state.check_portal(&bind.portal)?;
        // The read's key keeps the values, and slices would keep the read buffer.
        let values: Vec<_> =
            bind.values.iter().map(|value| value.as_deref().map(Bytes::copy_from_slice)).collect();
        let bound = statement.prepared.bind(&bind.formats, &values)?;
        if let Some(columns) = statement.columns() {
            sql::result_formats(&bind.result_formats, columns.len())?;
        }
        let formats = bind.result_formats;
        let portal = Portal { statement, bound, formats, progress: Progress::Fresh };
        self.state.put_back(&bind.portal, portal);
        backend::bind_complete(&mut self.socket.output);
        Ok(())
    }

    pub(super) fn describe_statement(&mut self, name: &Bytes) -> Result<(), Failure> {
        let statement = Arc::clone(self.state.statement(name)?);
        self.state.check_alive(|| statement.columns().is_none())?;
        let oids = statement.prepared.params().iter().map(|ty| ty.oid());
        backend::parameter_description(&mut self.socket.output, oids);
        Ok(statement.describe(&mut self.socket.output, &[])?)
    }

    pub(super) fn describe_portal(&mut self, name: &Bytes) -> Result<(), Failure> {
        let portal = self.state.portal(name)?;
        self.state.check_alive(|| portal.statement.columns().is_none())?;
        Ok(portal.statement.describe(&mut self.socket.output, &portal.formats)?)
    }

    pub(super) async fn execute(&mut self, name: &Bytes, rows_max: i32) -> Result<(), Failure> {
        let portal = self.state.portal(name)?;
        let _running = self.shared.stats.statement();
        self.state.check_alive(|| portal.is_exit() || portal.is_empty())?;
        let mut portal = self.state.take_portal(name)?;
        let ran = self.run_portal(name, &mut portal, rows_max).await;
        // The end of a transaction has closed every portal, this one too.
        if ran.is_err() || !portal.is_exit() {
            self.state.put_back(name, portal);
        }
        ran
    }

    async fn run_portal(
        &mut self,
        name: &Bytes,
        portal: &mut Portal,
        rows_max: i32,
    ) -> Result<(), Failure> {
        if matches!(portal.progress, Progress::Fresh) {
            let columns = portal.statement.columns().unwrap_or_default();
            let outcome = self.run(&portal.bound, columns, &portal.formats, Origin::Alone).await?;
            match outcome {
                Outcome::Rows(rows) => portal.progress = Progress::Rows(rows),
                Outcome::Done(tag) => {
                    portal.progress = Progress::Spent;
                    backend::command_complete(&mut self.socket.output, tag);
                    return Ok(());
                }
                Outcome::Empty => {
                    backend::empty_query_response(&mut self.socket.output);
                    return Ok(());
                }
            }
        }
        let Progress::Rows(rows) = &mut portal.progress else {
            let message = format!("portal \"{}\" cannot be run", String::from_utf8_lossy(name));
            return Err(SqlError::new(NOT_IN_PREREQUISITE_STATE, message).into());
        };
        let limit = u64::try_from(rows_max).ok().filter(|&limit| limit > 0);
        let sent = rows.take(limit);
        let (tag, count) = (sent.tag(), sent.count);
        self.socket.say(sent.frames).await?;
        // PostgreSQL can't know that a portal is at its end before it has asked for one more row
        // than there is.
        if limit == Some(count) {
            backend::portal_suspended(&mut self.socket.output);
        } else {
            backend::command_complete(&mut self.socket.output, &tag);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, target: Target, name: &Bytes) {
        match target {
            Target::Statement => {
                self.state.close_statement(name);
            }
            _ => self.state.close_portal(name),
        }
        backend::close_complete(&mut self.socket.output);
    }
}

fn check_counts(bind: &Bind, params: usize) -> Result<(), SqlError> {
    let (formats, values) = (bind.formats.len(), bind.values.len());
    let violation = |message| Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
    if formats > 1 && formats != values {
        return violation(format!(
            "bind message has {formats} parameter formats but {values} parameters"
        ));
    }
    if values != params {
        return Err(SqlError::misbound(&bind.statement, params, values));
    }
    Ok(())
}
