//! How clients prove who they are.
//!
//! # Invariants
//!
//! 1. What a client is told does not depend on whether its name is known.
//! 2. Until a client has proved itself it costs one task, one small buffer, and no server anything.

mod certificate;
mod proof;
mod scram;

use std::sync::Arc;

use sortie_postgres::{ScramDecoys, ScramVerifier};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::proof::Proof;
use crate::config::{Auth, Certified, Config, Tls, Users};
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
    certified: Option<Certified>,
    logins: Logins,
}

#[derive(Debug)]
enum Kind {
    Trust,
    Certificate,
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
            Auth::Certificate => Kind::Certificate,
            Auth::Scram(users) => Kind::Scram(Known::new(Arc::clone(users))),
        };
        let (tls, certified) = (config.tls.clone(), config.certified.clone());
        Self(Arc::new(Door { kind, tls, certified, logins }))
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
        !matches!(self.0.kind, Kind::Trust)
    }

    /// Whether a session that was begun with this proof may go on here, as far as its role's name
    /// is known; `finds` says that others than those in the file are looked up.
    pub(crate) fn goes_on(&self, proof: Proof, user: &str, finds: bool) -> bool {
        match (&self.0.kind, proof) {
            (Kind::Trust, _) | (Kind::Certificate, Proof::Certificate) => true,
            (Kind::Scram(_), Proof::Keys(_)) => !self.asks(user) || finds,
            _ => false,
        }
    }

    /// Whether it is to be found out elsewhere what this user's password is.
    pub(crate) fn asks(&self, user: &str) -> bool {
        matches!(&self.0.kind, Kind::Scram(known) if known.users.verifier(user).is_none())
    }

    /// Lets a client prove that it is `user`, of whom `found` was found elsewhere; returns what it
    /// did it with.
    ///
    /// # Errors
    ///
    /// The client is not who it says, or does not speak SCRAM, or is gone.
    pub(crate) async fn prove<S>(
        &self,
        socket: &mut Socket<S>,
        user: &str,
        found: Option<ScramVerifier>,
    ) -> Result<Proof, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let certified = self.0.certified.as_ref();
        if certified.is_some() {
            // Without one nobody is asked anything.
            certificate::shown(socket.certificate())?;
        }
        let proof = match &self.0.kind {
            Kind::Trust => Proof::Unasked,
            Kind::Certificate => Proof::Certificate,
            Kind::Scram(known) => self.keys(socket, known.verifier(user, found), user).await?,
        };
        match certified {
            Some(certified) => certificate::admits(certified, socket.certificate(), user)?,
            None if matches!(proof, Proof::Certificate) => certificate::shown(None)?,
            None => {}
        }
        Ok(proof)
    }

    /// Lets a client prove that it knows a password.
    async fn keys<S>(
        &self,
        socket: &mut Socket<S>,
        verifier: ScramVerifier,
        user: &str,
    ) -> Result<Proof, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let identity = self.0.tls.identity().filter(|_| socket.is_encrypted());
        let end_point = identity.and_then(|identity| identity.end_point.as_deref());
        scram::prove(socket, user, verifier, end_point).await.map(Proof::Keys)
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
