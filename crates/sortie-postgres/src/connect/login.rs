//! Who logs in.

use bytes::{Bytes, BytesMut};

use crate::conninfo::{ConnInfo, Credential};
use crate::startup::Startup;

/// The session to open on a server: a role, a database, and the parameters it starts with.
///
/// A [`ConnInfo`] says where the server is. Connections with equal logins can stand in for one
/// another.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Login {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The parameters, for example `application_name`; of a name that is there twice the last
    /// counts.
    pub parameters: Vec<(String, String)>,
    /// What proves to be the role, if it is not the one that [`ConnInfo`] has.
    pub credential: Option<Credential>,
    /// Keeps connections apart that are opened alike; servers are not told of it. 0 at first.
    pub apart: u64,
}

impl Login {
    /// The login that a connection string itself describes.
    pub fn of(info: &ConnInfo) -> Self {
        Self {
            user: info.user.clone(),
            database: info.database.clone(),
            parameters: info.parameters.clone(),
            credential: None,
            apart: 0,
        }
    }

    /// A login without parameters, with the credential that [`ConnInfo`] has.
    pub fn new(user: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            database: database.into(),
            parameters: Vec::new(),
            credential: None,
            apart: 0,
        }
    }

    /// Sets a parameter that the session starts with.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Appends the startup packet. It asks for protocol 3.0, which every server speaks.
    pub(super) fn packet(&self, output: &mut BytesMut) {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let mut parameters =
            vec![(text("user"), text(&self.user)), (text("database"), text(&self.database))];
        for (name, value) in &self.parameters {
            parameters.push((text(name), text(value)));
        }
        Startup::Session { minor: 0, parameters }.encode(output);
    }
}
