//! A SASL login, as frames.

use bytes::Bytes;
use sortie_postgres::{
    Frame, Frontend, ScramError, ScramKeys, ScramServer, ScramVerifier, backend, scram_mechanisms,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::failure::Failure;
use crate::session::refusal::Refusal;
use crate::session::socket::Socket;
use crate::sql::{SqlError, state};

/// The longest message of a login, as in PostgreSQL.
const MESSAGE_MAX: usize = 1024;

/// Lets a client prove that it knows the password that `verifier` was made of; `end_point` is what
/// its connection can be bound to.
pub(super) async fn prove<S>(
    socket: &mut Socket<S>,
    user: &str,
    verifier: ScramVerifier,
    end_point: Option<&[u8]>,
) -> Result<ScramKeys, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refused = |error| {
        let reason = match error {
            ScramError::WrongPassword => Refusal::Password,
            _ => Refusal::Protocol,
        };
        Failure::Refused(reason, Some(told(error, user)))
    };
    backend::authentication_sasl(&mut socket.output, scram_mechanisms(end_point.is_some()));
    socket.flush().await?;
    let first = response(socket).await?;
    let (talk, answer) = ScramServer::begin(verifier, end_point, &first).map_err(refused)?;
    backend::authentication_sasl_continue(&mut socket.output, answer.as_bytes());
    socket.flush().await?;
    let last = response(socket).await?;
    let (answer, keys) = talk.finish(&last).map_err(refused)?;
    backend::authentication_sasl_final(&mut socket.output, answer.as_bytes());
    Ok(keys)
}

/// The client's next message of the login.
async fn response<S>(socket: &mut Socket<S>) -> Result<Bytes, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Some(tag) = socket.input.first().copied().filter(|tag| *tag != b'p') {
            let message = format!("expected SASL response, got message type {tag}");
            return Err(Failure::Fatal(SqlError::new(state::PROTOCOL_VIOLATION, message)));
        }
        let frame = Frame::decode(&mut socket.input, MESSAGE_MAX).map_err(Failure::lost)?;
        if let Some(frame) = frame {
            let Frontend::Password(body) = frame.message().map_err(Failure::lost)? else {
                unreachable!("its type byte was looked at");
            };
            return Ok(body);
        }
        socket.fill().await?;
    }
}

fn told(error: ScramError, user: &str) -> SqlError {
    let message = match error {
        ScramError::WrongPassword => format!("password authentication failed for user \"{user}\""),
        other => other.to_string(),
    };
    let mut told = SqlError::new(error.sqlstate(), message);
    told.detail = error.detail().map(str::to_owned);
    told
}
