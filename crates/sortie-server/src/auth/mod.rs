//! How clients prove who they are.
//!
//! # Invariants
//!
//! 1. What a client is told does not depend on whether its name is known.
//! 2. Until a client has proved itself it costs one task, one small buffer, and no server anything.

mod scram;

use std::sync::Arc;

use sortie_postgres::{ScramDecoys, ScramKeys, ScramVerifier};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{Auth, Config, Tls, Users};
use crate::logins::Logins;
use crate::session::failure::Failure;
use crate::session::socket::Socket;

/// What stands between a startup packet and a session. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Door>);

#[derive(Debug)]
struct Door {
    kind: Kind,
    tls: Tls,
    logins: Logins,
}

#[derive(Debug)]
enum Kind {
    Trust,
    Scram(Known),
}

/// Who may come, and what is made up for everybody else.
#[derive(Debug)]
struct Known {
    users: Arc<Users>,
    decoys: ScramDecoys,
}

impl Gate {
    /// Creates the gate that a configuration asks for.
    pub(crate) fn new(config: &Config, logins: Logins) -> Self {
        let kind = match &config.auth {
            Auth::Trust => Kind::Trust,
            Auth::Scram(users) => Kind::Scram(Known::new(Arc::clone(users))),
        };
        Self(Arc::new(Door { kind, tls: config.tls.clone(), logins }))
    }

    /// Who is logging in.
    pub(crate) fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// Whether clients' connections are encrypted.
    pub(crate) fn tls(&self) -> &Tls {
        &self.0.tls
    }

    /// Whether clients are asked for a proof.
    pub(crate) fn demands(&self) -> bool {
        matches!(self.0.kind, Kind::Scram(_))
    }

    /// Whether it is to be found out elsewhere what this user's password is.
    pub(crate) fn asks(&self, user: &str) -> bool {
        matches!(&self.0.kind, Kind::Scram(known) if known.users.verifier(user).is_none())
    }

    /// Lets a client prove that it is `user`, of whom `found` was found elsewhere; returns the keys
    /// that it did it with, or `None` where nobody is asked.
    ///
    /// # Errors
    ///
    /// The client is not who it says, or does not speak SCRAM, or is gone.
    pub(crate) async fn prove<S>(
        &self,
        socket: &mut Socket<S>,
        user: &str,
        found: Option<ScramVerifier>,
    ) -> Result<Option<ScramKeys>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Kind::Scram(known) = &self.0.kind else { return Ok(None) };
        let identity = self.0.tls.identity().filter(|_| socket.is_encrypted());
        let end_point = identity.and_then(|identity| identity.end_point.as_deref());
        scram::prove(socket, user, known.verifier(user, found), end_point).await.map(Some)
    }
}

impl Known {
    fn new(users: Arc<Users>) -> Self {
        let mut lines: Vec<String> =
            users.iter().map(|(name, verifier)| format!("{name} {verifier}\n")).collect();
        lines.sort_unstable();
        let iterations = users.iter().map(|(_, verifier)| verifier.iterations()).max();
        let iterations = iterations.unwrap_or(ScramVerifier::ITERATIONS);
        // The secret is known to whoever can read the file, and the same after a restart: what is
        // made up stays as it is, as real ones do.
        let decoys = ScramDecoys::new(lines.concat().as_bytes(), iterations);
        Self { users, decoys }
    }

    fn verifier(&self, user: &str, found: Option<ScramVerifier>) -> ScramVerifier {
        let known = self.users.verifier(user).cloned().or(found);
        // Made in any case: a known name takes as long as an unknown one.
        let nobody = self.decoys.verifier(user);
        known.unwrap_or(nobody)
    }
}
