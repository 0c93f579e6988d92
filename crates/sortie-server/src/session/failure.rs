//! How a step of a session can fail, and what the client is told about it.

use std::fmt;
use std::io;

use bytes::BytesMut;
use sortie_postgres::ProtocolError;
use sortie_postgres::backend::{self, Report, Severity};

use super::code;
use super::refusal::Refusal;
use crate::sql::SqlError;

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The statement failed; the session goes on.
    Statement(SqlError),
    /// The session ends, and the client is told why.
    Fatal(SqlError),
    /// The client is not let in, and told why if there is a way to.
    Refused(Refusal, Option<SqlError>),
    /// The client has ended the session, or is gone.
    Gone,
    /// The client took nothing for too long.
    Stalled,
}

impl Failure {
    /// There are as many sessions as there may be.
    pub(crate) fn too_many() -> Self {
        let message = "sorry, too many clients already";
        Self::Refused(Refusal::Sessions, Some(SqlError::new(code::TOO_MANY_CONNECTIONS, message)))
    }

    /// The stream is lost.
    pub(crate) fn lost(error: ProtocolError) -> Self {
        Self::Fatal(protocol(error))
    }
}

/// For logs: what was asked for, and so what an error says of it, is nobody's business there.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(error) | Self::Fatal(error) => write!(f, "error {}", error.code),
            Self::Refused(reason, _) => write!(f, "refused: {}", reason.name()),
            Self::Gone => f.write_str("the client has left"),
            Self::Stalled => f.write_str("the client took nothing"),
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Statement(error)
    }
}

/// A broken message costs that message only.
impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self::Statement(protocol(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Stalled,
            _ => Self::Gone,
        }
    }
}

/// Says an error.
pub(crate) fn say(output: &mut BytesMut, severity: Severity, error: &SqlError) {
    if let Some(report) = &error.report {
        output.extend_from_slice(report);
        return;
    }
    let report = Report {
        severity,
        code: error.code,
        message: &error.message,
        detail: error.detail.as_deref(),
        hint: error.hint.as_deref(),
        position: error.position,
    };
    match severity {
        Severity::Warning | Severity::Notice => backend::notice_response(output, &report),
        _ => backend::error_response(output, &report),
    }
}

fn protocol(error: ProtocolError) -> SqlError {
    SqlError::new(error.sqlstate(), error.to_string())
}
