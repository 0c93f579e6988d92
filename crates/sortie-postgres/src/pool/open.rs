//! How a server's connections are opened.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::book::Scope;
use crate::connect::{ConnectCause, ConnectError, Login};
use crate::connection::Connection;
use crate::conninfo::ConnInfo;

/// The setting that makes a server notice, while it runs a query, that we are gone. It is said at
/// the start, so that no `DISCARD ALL` takes it away.
const CHECK: &str = "client_connection_check_interval";

/// Opens connections with everything that makes them stoppable.
#[derive(Debug)]
pub(super) struct Opener {
    info: ConnInfo,
    check_interval: Duration,
    /// Whether the setting is said: until a server does not take it.
    checks: AtomicBool,
}

impl Opener {
    pub(super) fn new(info: ConnInfo, check_interval: Duration) -> Self {
        let checks = AtomicBool::new(!check_interval.is_zero());
        Self { info, check_interval, checks }
    }

    pub(super) fn info(&self) -> &ConnInfo {
        &self.info
    }

    pub(super) async fn open(&self, login: &Login) -> Result<Connection, ConnectError> {
        if self.checks.load(Relaxed) {
            let interval = self.check_interval.as_millis().max(1).to_string();
            let checked = login.clone().parameter(CHECK, interval);
            match Connection::open(&self.info, &checked).await {
                // One before PostgreSQL 14, a pooler in between, a platform that can't.
                Err(error) if refuses_setting(&error) => self.checks.store(false, Relaxed),
                opened => return opened,
            }
        }
        Connection::open(&self.info, login).await
    }
}

/// Whether it is this login that is turned away.
pub(crate) fn refuses_login(error: &ConnectError) -> bool {
    scope(error) == Scope::Key
}

/// Whether nobody can connect now, or only this login is turned away.
pub(super) fn scope(error: &ConnectError) -> Scope {
    match error.cause() {
        // Wrong passwords, databases and parameters are the login's; 57P03 and 53300 are not.
        ConnectCause::Server(server)
            if !matches!(server.sqlstate().get(..2), Some("57" | "53")) =>
        {
            Scope::Key
        }
        ConnectCause::Credential { .. } | ConnectCause::Login(_) => Scope::Key,
        _ => Scope::Server,
    }
}

/// Whatever the code is: each pooler has its own, and all name what they do not know.
fn refuses_setting(error: &ConnectError) -> bool {
    error.server().is_some_and(|server| server.message().contains(CHECK))
}
