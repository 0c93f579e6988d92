//! How a server's connections are opened.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use super::book::Scope;
use crate::connect::{ConnectCause, ConnectError, Login};
use crate::connection::Connection;
use crate::conninfo::ConnInfo;
use crate::exchange::Request;
use crate::frontend::Frontend;

/// The setting that makes a server notice, while it runs a query, that we are gone.
const CHECK: &str = "client_connection_check_interval";

/// The first major version that has it.
const CHECK_SINCE: u32 = 14;

// Whether the server takes the setting.
const UNKNOWN: u8 = 0;
const TAKEN: u8 = 1;
const REFUSED: u8 = 2;

/// Opens connections with everything that makes them stoppable.
#[derive(Debug)]
pub(super) struct Opener {
    info: ConnInfo,
    check_interval: Duration,
    check: AtomicU8,
}

impl Opener {
    pub(super) fn new(info: ConnInfo, check_interval: Duration) -> Self {
        let check = if check_interval.is_zero() { REFUSED } else { UNKNOWN };
        Self { info, check_interval, check: AtomicU8::new(check) }
    }

    pub(super) fn info(&self) -> &ConnInfo {
        &self.info
    }

    pub(super) async fn open(&self, login: &Login) -> Result<Connection, ConnectError> {
        match self.check.load(Relaxed) {
            TAKEN => {
                let checked = login.clone().parameter(CHECK, self.check_value());
                match Connection::open(&self.info, &checked).await {
                    Err(error) if refuses_setting(&error) => {
                        // A pooler in between, a platform that can't, another server by now.
                        self.check.store(REFUSED, Relaxed);
                        Connection::open(&self.info, login).await
                    }
                    opened => opened,
                }
            }
            REFUSED => Connection::open(&self.info, login).await,
            _unknown => {
                let mut connection = Connection::open(&self.info, login).await?;
                self.learn(&mut connection).await;
                Ok(connection)
            }
        }
    }

    fn check_value(&self) -> String {
        self.check_interval.as_millis().max(1).to_string()
    }

    /// On the first connection the setting is made afterwards, since an older server would not
    /// even let us in with it.
    async fn learn(&self, connection: &mut Connection) {
        let version = connection.parameters().value("server_version");
        let major = version.and_then(|text| major(text));
        let taken = major.is_some_and(|major| major >= CHECK_SINCE) && {
            let text = format!("SET {CHECK} = {}", self.check_value());
            let mut frames = bytes::BytesMut::new();
            Frontend::Query { text: text.into() }.encode(&mut frames);
            connection.exchange(Request::new(frames)).await.is_ok()
        };
        self.check.store(if taken { TAKEN } else { REFUSED }, Relaxed);
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

fn refuses_setting(error: &ConnectError) -> bool {
    error.server().is_some_and(|server| {
        matches!(server.sqlstate(), "42704" | "22023" | "08P01") && server.message().contains(CHECK)
    })
}

fn major(version: &[u8]) -> Option<u32> {
    let digits = version.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(version.len());
    std::str::from_utf8(&version[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_stands_in_front() {
        assert_eq!(major(b"15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major(b"9.6.24"), Some(9));
        assert_eq!(major(b"18beta1"), Some(18));
        assert_eq!(major(b""), None);
    }
}
