//! What stands between us and a server's processes.

use super::ask::{AskError, Session};

/// How often both sessions ask. Once shows a pooler that nobody else uses; at a busy one the
/// processes go to others in between, and a session may get the same one again by chance.
const ROUNDS: usize = 8;
/// The second one asks between two questions of the first: whether a pooler gives away the
/// connection that came back last or the one that came back first, somebody's changes.
const ORDER: [usize; 3] = [0, 1, 0];

const PROCESS: &str = "SELECT pg_catalog.pg_backend_pid()";

/// What stands between us and the server's processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pooling {
    /// Nothing that can be noticed.
    None,
    /// Something gave us keys of its own; a session keeps its server process.
    Session,
    /// A session got another server process than before, or the one that another session had.
    Transaction,
}

impl Pooling {
    /// Asks two sessions at one server, in no transaction, which process they have.
    pub(super) async fn of(first: &mut Session, second: &mut Session) -> Result<Self, AskError> {
        let sessions = &mut [first, second];
        let mut had: [Option<i32>; 2] = [None; 2];
        for at in [ORDER; ROUNDS].into_iter().flatten() {
            let row = sessions[at].row(PROCESS).await?;
            let process = row.first().and_then(|it| it.as_ref()?.parse().ok());
            let is_other = had[at].is_some() && had[at] != process;
            if is_other || process.is_some() && had[1 - at] == process {
                return Ok(Self::Transaction);
            }
            had[at] = process;
        }
        let keys = sessions.each_ref().map(|it| Some(it.connection().cancel_key().process()));
        Ok(if keys == had { Self::None } else { Self::Session })
    }
}
