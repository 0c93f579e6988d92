//! What is told of a shared read.

use bytes::{Bytes, BytesMut};
use sortie_postgres::sqlstate::{self, ErrorClass};
use sortie_postgres::{ServerError, backend};

use crate::read::Reply;
use crate::relay;
use crate::sql::SqlError;

/// Whether an error is a server's about what was asked, and not about the server itself, nor about
/// the time that it took.
pub(super) fn is_of_statement(error: &SqlError) -> bool {
    let said = error.report.as_deref().and_then(|report| ServerError::new(report.clone()).ok());
    said.is_some_and(|said| {
        let asked = sqlstate::Asked::of_primary().cancelled();
        sqlstate::classify(said.sqlstate(), "", asked) == ErrorClass::Answer
    })
}

/// A reply as frames.
pub(super) fn told(head: Bytes, reply: &Reply) -> relay::Reply {
    let mut tag = BytesMut::new();
    if reply.is_suspended {
        backend::portal_suspended(&mut tag);
    } else {
        backend::command_complete(&mut tag, &format!("SELECT {}", reply.count));
    }
    let (rows, notices) = (reply.rows.clone(), reply.notices.clone());
    relay::Reply { head, rows, tag: tag.freeze(), notices }
}
