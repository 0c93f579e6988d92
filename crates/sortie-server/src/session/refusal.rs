//! Why clients are not let in, counted by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::Failure;

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// There is no room for one more connection, and nobody is logging in who could make it.
    Room,
    /// It was logging in for the longest time when there was no room for one more.
    MadeRoom,
    /// It took longer than a login may.
    Slow,
    /// What it sent is no startup, or no login.
    Protocol,
    /// The TLS handshake failed: also when its certificate is nobody's whom we trust.
    Tls,
    /// Only encrypted connections are served.
    Unencrypted,
    /// It has no certificate, or another one's.
    Certificate,
    /// It does not know the password, or there is no such user.
    Password,
    /// The configuration does not name its role.
    Role,
    /// There is no such database.
    Database,
    /// It asks for a setting that there is not.
    Setting,
    /// Its role has as many sessions as it may.
    RoleSessions,
    /// There are as many sessions as there may be.
    Sessions,
    /// A server does not answer, or does not let its role in.
    Server,
    /// Nobody is let in any more.
    Draining,
}

/// How often, by reason.
pub(crate) type Counts = [(&'static str, u64); Refusal::ALL.len()];

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusal {
    /// Each, in the order of its definition.
    pub(crate) const ALL: [Self; 15] = [
        Self::Room,
        Self::MadeRoom,
        Self::Slow,
        Self::Protocol,
        Self::Tls,
        Self::Unencrypted,
        Self::Certificate,
        Self::Password,
        Self::Role,
        Self::Database,
        Self::Setting,
        Self::RoleSessions,
        Self::Sessions,
        Self::Server,
        Self::Draining,
    ];

    /// What it is called in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::MadeRoom => "made_room",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::Tls => "tls",
            Self::Unencrypted => "unencrypted",
            Self::Certificate => "certificate",
            Self::Password => "password",
            Self::Role => "role",
            Self::Database => "database",
            Self::Setting => "setting",
            Self::RoleSessions => "role_sessions",
            Self::Sessions => "sessions",
            Self::Server => "server",
            Self::Draining => "draining",
        }
    }

    /// What a login that fails is refused for, unless it fails for a reason of its own.
    pub(crate) fn because(self) -> impl Fn(Failure) -> Failure {
        move |failure| match failure {
            Failure::Fatal(error) | Failure::Statement(error) => {
                let reason = match error.code {
                    "57P03" => Self::Draining,
                    "57014" => Self::Slow,
                    _ => self,
                };
                Failure::Refused(reason, Some(error))
            }
            other => other,
        }
    }
}

impl Refusals {
    pub(crate) fn count(&self, reason: Refusal) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        Refusal::ALL.map(|reason| (reason.name(), self.0[reason as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SqlError;

    #[test]
    fn each_is_counted_under_its_own_name() {
        let refusals = Refusals::default();
        for (times, reason) in (1..).zip(Refusal::ALL) {
            (0..times).for_each(|_| refusals.count(reason));
        }
        let counts = refusals.read();
        let names: std::collections::BTreeSet<_> = counts.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        let expected: Vec<(&str, u64)> = Refusal::ALL.iter().map(|it| it.name()).zip(1..).collect();
        assert_eq!(counts.to_vec(), expected);
    }

    #[test]
    fn a_refusal_keeps_its_own_reason() {
        let reason = |failure| match Refusal::Protocol.because()(failure) {
            Failure::Refused(reason, told) => (reason.name(), told.is_some()),
            other => panic!("{other:?}"),
        };
        let fatal = |code| Failure::Fatal(SqlError::new(code, "no"));
        assert_eq!(reason(fatal("08P01")), ("protocol", true));
        assert_eq!(reason(fatal("57014")), ("slow", true));
        assert_eq!(reason(fatal("57P03")), ("draining", true));
        assert_eq!(reason(Failure::Refused(Refusal::Tls, None)), ("tls", false));
        assert!(matches!(Refusal::Protocol.because()(Failure::Gone), Failure::Gone));
    }
}
