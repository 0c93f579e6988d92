//! What a session remembers between messages: transaction, parameters, statements, portals.
//!
//! A transaction holds nothing here, as every read stands for itself; what is kept is what a
//! client can see of one: the status, parameters that are rolled back, portals that are closed.
//!
//! # Invariants
//!
//! 1. Outside a block, every simple query and everything up to a Sync is a transaction of its own.
//! 2. No portal outlives its transaction, and no rows outlive its failure.
//! 3. Statements and portals are bounded, in number and in bytes of text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie_postgres::backend::{self, Status};

use super::limits::Limits;
use super::portal::{Portal, Progress, Statement};
use crate::sql::{Settings, SqlError};

/// SQLSTATE codes that only a session needs.
mod code {
    pub(super) const ACTIVE_SQL_TRANSACTION: &str = "25001";
    pub(super) const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
    pub(super) const INVALID_SQL_STATEMENT_NAME: &str = "26000";
    pub(super) const INVALID_CURSOR_NAME: &str = "34000";
    pub(super) const DUPLICATE_CURSOR: &str = "42P03";
    pub(super) const DUPLICATE_PREPARED_STATEMENT: &str = "42P05";
    pub(super) const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
}

/// What a session remembers.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    /// The transaction may have changed parameters.
    set: bool,
    /// The client may not know the value of a reported parameter.
    untold: bool,
    status: Status,
    statements: HashMap<Bytes, Arc<Statement>>,
    statements_bytes: usize,
    portals: HashMap<Bytes, Portal>,
    limits: Limits,
}

impl State {
    /// Creates the state of a new session.
    pub(crate) fn new(settings: Settings, limits: Limits) -> Self {
        Self {
            settings,
            set: false,
            untold: true,
            status: Status::Idle,
            statements: HashMap::new(),
            statements_bytes: 0,
            portals: HashMap::new(),
            limits,
        }
    }

    /// Returns the parameters, to look at.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the parameters, to change them within the transaction.
    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        if !self.set {
            self.settings.begin();
            self.set = true;
        }
        self.untold = true;
        &mut self.settings
    }

    /// Says the reported parameters that the client does not know.
    pub(crate) fn tell(&mut self, output: &mut BytesMut) {
        if std::mem::take(&mut self.untold) {
            for (name, value) in self.settings.changes() {
                backend::parameter_status(output, name, &value);
            }
        }
    }

    /// Returns whether the client wants to see warnings.
    pub(crate) fn wants_warnings(&self) -> bool {
        self.settings.show("client_min_messages").is_ok_and(|(_, level)| level != "error")
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Fails in a transaction that has failed, unless by a statement that is its `exit`.
    ///
    /// # Errors
    ///
    /// 25P02.
    pub(crate) fn check_alive(&self, is_exit: impl FnOnce() -> bool) -> Result<(), SqlError> {
        if self.status != Status::Failed || is_exit() {
            return Ok(());
        }
        Err(SqlError::aborted())
    }

    /// Begins a block. Returns a warning when there is one.
    pub(crate) fn begin(&mut self) -> Option<SqlError> {
        if self.status == Status::Idle {
            self.status = Status::Transaction;
            return None;
        }
        let message = "there is already a transaction in progress";
        Some(SqlError::new(code::ACTIVE_SQL_TRANSACTION, message))
    }

    /// Ends a block, and keeps what it has set if `keep` is true and it has not failed; with
    /// `chain` the next one begins at once.
    ///
    /// Returns whether it was kept, and a warning when there was no block.
    ///
    /// # Errors
    ///
    /// 25P01 for a chain where there is no block.
    pub(crate) fn end(
        &mut self,
        keep: bool,
        chain: bool,
    ) -> Result<(bool, Option<SqlError>), SqlError> {
        let idle = self.status == Status::Idle;
        if idle && chain {
            let command = if keep { "COMMIT" } else { "ROLLBACK" };
            let message = format!("{command} AND CHAIN can only be used in transaction blocks");
            return Err(SqlError::new(code::NO_ACTIVE_SQL_TRANSACTION, message));
        }
        let kept = keep && self.status != Status::Failed;
        self.settle(kept);
        self.portals.clear();
        self.status = if chain { Status::Transaction } else { Status::Idle };
        let message = "there is no transaction in progress";
        let warning = idle.then(|| SqlError::new(code::NO_ACTIVE_SQL_TRANSACTION, message));
        Ok((kept, warning))
    }

    /// Returns the warning that `command` deserves outside a block.
    pub(crate) fn warn_outside(&self, command: &str) -> Option<SqlError> {
        (self.status == Status::Idle).then(|| {
            let message = format!("{command} can only be used in transaction blocks");
            SqlError::new(code::NO_ACTIVE_SQL_TRANSACTION, message)
        })
    }

    /// A statement has failed: so has its transaction.
    ///
    /// In a block its portals keep their names until its end, though nothing can be done with
    /// them: PostgreSQL does so, and a client sees it by the errors it gets.
    pub(crate) fn fail(&mut self) {
        self.settle(false);
        if self.status == Status::Idle {
            self.portals.clear();
        } else {
            self.status = Status::Failed;
            for portal in self.portals.values_mut() {
                portal.progress = Progress::Failed;
            }
        }
    }

    /// A batch is over: outside a block, so is its transaction.
    pub(crate) fn end_batch(&mut self) {
        if self.status == Status::Idle {
            self.settle(true);
            self.portals.clear();
        }
    }

    /// Returns a prepared statement.
    ///
    /// # Errors
    ///
    /// 26000 when there is none of that name.
    pub(crate) fn statement(&self, name: &Bytes) -> Result<&Arc<Statement>, SqlError> {
        self.statements.get(name).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{}\" does not exist", text(name))
            };
            SqlError::new(code::INVALID_SQL_STATEMENT_NAME, message)
        })
    }

    /// Keeps a prepared statement. The name is copied: it would pin the read buffer.
    ///
    /// # Errors
    ///
    /// 42P05 when the name is taken, 53400 when there are too many or too long ones.
    pub(crate) fn add_statement(
        &mut self,
        name: &Bytes,
        statement: Statement,
    ) -> Result<(), SqlError> {
        if self.statements.contains_key(name) {
            let message = format!("prepared statement \"{}\" already exists", text(name));
            return Err(SqlError::new(code::DUPLICATE_PREPARED_STATEMENT, message));
        }
        let (count_max, bytes_max) = (self.limits.statements_max, self.limits.statements_bytes_max);
        if self.statements.len() >= count_max {
            return Err(limit(format!("a session may have {count_max} prepared statements"))
                .hint("Close those that are no longer used, or DEALLOCATE them."));
        }
        let bytes = self.statements_bytes + statement.text_len;
        if bytes > bytes_max {
            let message =
                format!("the prepared statements of a session may be {bytes_max} bytes long");
            return Err(
                limit(message).hint("Close those that are no longer used, or DEALLOCATE them.")
            );
        }
        self.statements_bytes = bytes;
        self.statements.insert(Bytes::copy_from_slice(name), Arc::new(statement));
        Ok(())
    }

    /// Forgets a prepared statement. Returns whether there was one.
    pub(crate) fn close_statement(&mut self, name: &[u8]) -> bool {
        let closed = self.statements.remove(name);
        self.statements_bytes -= closed.as_ref().map_or(0, |statement| statement.text_len);
        closed.is_some()
    }

    /// Forgets every named statement; the unnamed one is not SQL's.
    fn close_statements(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
        self.statements_bytes = self.statements.values().map(|statement| statement.text_len).sum();
    }

    /// Returns a portal.
    ///
    /// # Errors
    ///
    /// 34000 when there is none of that name.
    pub(crate) fn portal(&self, name: &Bytes) -> Result<&Portal, SqlError> {
        self.portals.get(name).ok_or_else(|| no_portal(name))
    }

    /// Takes a portal out, to run it. [`State::put_back`] returns it.
    ///
    /// # Errors
    ///
    /// As [`State::portal`].
    pub(crate) fn take_portal(&mut self, name: &Bytes) -> Result<Portal, SqlError> {
        self.portals.remove(name).ok_or_else(|| no_portal(name))
    }

    /// Returns a portal that was taken out.
    pub(crate) fn put_back(&mut self, name: &Bytes, portal: Portal) {
        self.portals.insert(Bytes::copy_from_slice(name), portal);
    }

    /// Checks that a portal of this name may be made; an unnamed one gives way.
    ///
    /// # Errors
    ///
    /// 42P03 when the name is taken, 53400 when there are too many.
    pub(crate) fn check_portal(&mut self, name: &Bytes) -> Result<(), SqlError> {
        if name.is_empty() {
            self.portals.remove(name);
        } else if self.portals.contains_key(name) {
            let message = format!("cursor \"{}\" already exists", text(name));
            return Err(SqlError::new(code::DUPLICATE_CURSOR, message));
        }
        let portals_max = self.limits.portals_max;
        if self.portals.len() >= portals_max {
            return Err(limit(format!("a session may have {portals_max} portals"))
                .hint("Close those that are no longer used, or end the transaction."));
        }
        Ok(())
    }

    /// Forgets a portal, if there is one.
    pub(crate) fn close_portal(&mut self, name: &[u8]) {
        self.portals.remove(name);
    }

    /// What PostgreSQL forgets when a simple query arrives.
    pub(crate) fn forget_unnamed(&mut self) {
        self.close_statement(b"");
        self.close_portal(b"");
    }

    /// Forgets everything that `DISCARD ALL` names.
    ///
    /// # Errors
    ///
    /// 25001 in a block.
    pub(crate) fn discard_all(&mut self) -> Result<(), SqlError> {
        if self.status != Status::Idle {
            let message = "DISCARD ALL cannot run inside a transaction block";
            return Err(SqlError::new(code::ACTIVE_SQL_TRANSACTION, message));
        }
        self.settings_mut().reset_all();
        self.close_statements();
        self.portals.clear();
        Ok(())
    }

    /// Forgets a statement by `DEALLOCATE`, or all of them.
    ///
    /// # Errors
    ///
    /// 26000 when there is none of that name.
    pub(crate) fn deallocate(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        let Some(name) = name else {
            self.close_statements();
            return Ok(());
        };
        if self.close_statement(name.as_bytes()) {
            return Ok(());
        }
        let message = format!("prepared statement \"{name}\" does not exist");
        Err(SqlError::new(code::INVALID_SQL_STATEMENT_NAME, message))
    }
}

impl State {
    /// Keeps or forgets what the transaction has set.
    fn settle(&mut self, keep: bool) {
        if !std::mem::take(&mut self.set) {
            return;
        }
        self.untold = true;
        if keep {
            self.settings.commit();
        } else {
            self.settings.rollback();
        }
    }
}

/// A name as a message shows it; names are not checked for their encoding.
fn text(name: &Bytes) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

fn no_portal(name: &Bytes) -> SqlError {
    let message = format!("portal \"{}\" does not exist", text(name));
    SqlError::new(code::INVALID_CURSOR_NAME, message)
}

fn limit(message: String) -> SqlError {
    SqlError::new(code::CONFIGURATION_LIMIT_EXCEEDED, message)
}
