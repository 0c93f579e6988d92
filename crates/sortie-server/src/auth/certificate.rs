//! Clients' certificates, as PostgreSQL's `clientcert` and `cert` have them.

use sortie_postgres::tls_common_name;

use crate::config::{CertCheck, Certified};
use crate::session::code::INVALID_AUTHORIZATION;
use crate::session::failure::Failure;
use crate::session::refusal::Refusal;
use crate::sql::SqlError;

/// Whether there is one at all: the handshake has seen to it that somebody vouches for it.
pub(super) fn shown(certificate: Option<&[u8]>) -> Result<(), Failure> {
    match certificate {
        Some(_certificate) => Ok(()),
        None => Err(refused(
            SqlError::new(INVALID_AUTHORIZATION, "connection requires a valid client certificate")
                .hint("Connect with sslcert=FILE sslkey=FILE."),
        )),
    }
}

/// Whether it is good for this role.
pub(super) fn admits(
    certified: &Certified,
    certificate: Option<&[u8]>,
    user: &str,
) -> Result<(), Failure> {
    if certified.check == CertCheck::Ca {
        return Ok(());
    }
    let name = certificate.and_then(tls_common_name);
    if name.is_some_and(|name| certified.admits(&name, user)) {
        return Ok(());
    }
    let message = format!("certificate authentication failed for user \"{user}\"");
    Err(refused(SqlError::new(INVALID_AUTHORIZATION, message)))
}

fn refused(error: SqlError) -> Failure {
    Failure::Refused(Refusal::Certificate, Some(error))
}
