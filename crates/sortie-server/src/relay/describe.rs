//! Statements that clients prepare ahead of their use, and have described.
//!
//! A statement that is shared is prepared nowhere: a replica says what it takes and gives, to all
//! who ask at the same time, and the client is told that. It decodes rows by what it was told, so
//! this is kept with the statement: rows of other columns are never given to it. PostgreSQL says
//! then that a cached plan must not change its result type, and so does sortie.
//!
//! # Invariants
//!
//! 1. A client that is not told of a statement's columns with its rows, or that says a format for
//!    each of them, gets rows of those columns that it was told of last, or an error.
//! 2. Errors are never made here but for that: a statement that can't be described goes to a
//!    server, which says why.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_postgres::backend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::decide::Single;
use super::frames;
use super::ledger::Statement;
use super::session::{Session, Signals};
use super::shared::{Description, PipeReason, Shared, Who};
use super::switches::Switches;
use crate::session::failure::Failure;
use crate::sql::{SqlError, state};

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Answers a batch that prepares the statement of this name, or has it described, and that may
    /// be shared.
    pub(super) async fn prepare<D: Future<Output = ()>>(
        &mut self,
        (who, plan): (&Arc<Who>, &Arc<L::Plan>),
        single: Single,
        (name, new): (Bytes, Option<Box<Statement<L::Plan>>>),
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<(), Failure> {
        let description = match self.describe(who, plan, signals).await? {
            Ok(Some(description)) => description,
            Ok(None) => return self.pipe(PipeReason::Error, signals).await,
            Err(error) => {
                self.client.input.advance(single.len);
                self.fail(&error, !single.is_flushed);
                return Ok(());
            }
        };
        if new.is_none() && self.changes_columns(&name, &description.head) {
            // As PostgreSQL: what it takes is said first.
            self.client.output.extend_from_slice(&description.parameters);
            self.client.input.advance(single.len);
            self.fail(&changed(), !single.is_flushed);
            return Ok(());
        }
        if new.is_some() {
            if let Some(notices) = &description.notices {
                self.client.output.extend_from_slice(&notices.parsing);
            }
            backend::parse_complete(&mut self.client.output);
        }
        if let Some(new) = new {
            self.remember(&name, new);
            self.prepared_lazily();
        }
        if single.described.is_some() {
            self.tell(&name, &description);
        }
        self.client.input.advance(single.len);
        if !single.is_flushed {
            self.ready();
        }
        Ok(())
    }

    /// What a shared statement takes and gives, as soon as its cluster is not paused. `None` if no
    /// replica says so; an error if the client has cancelled it, or it was paused for too long.
    pub(super) async fn describe<D: Future<Output = ()>>(
        &mut self,
        who: &Arc<Who>,
        plan: &Arc<L::Plan>,
        signals: &mut Signals<'_, 'a, D>,
    ) -> Result<Result<Option<Arc<Description>>, SqlError>, Failure> {
        self.release();
        let _work = match self.admitted(signals).await? {
            Ok(work) => work,
            Err(error) => return Ok(Err(error)),
        };
        let world = Arc::clone(&self.world);
        let (cluster, target) = (Arc::clone(&self.cluster), self.account.target);
        let switches = self.switches(Switches::default());
        let mut seen = std::mem::take(&mut self.seen);
        let asked = Box::pin(async {
            if !cluster.settle(&mut seen, target).await {
                return Ok(None);
            }
            Ok(world.lane.describe(who, plan, &seen.wish(switches).floors).await)
        });
        let described = self.attend(asked, signals).await?;
        self.seen = seen;
        Ok(described)
    }

    /// Answers a Close in front of all else, of a statement that no server has. Returns whether
    /// there was one.
    pub(super) fn close_here(&mut self) -> bool {
        let input = &self.client.input;
        let Ok(Some(head)) = frames::head(input) else { return false };
        let Some(frame) = input.get(..head.len).filter(|_| head.tag == b'C') else { return false };
        let Some((b'S', name)) = frames::target(frame) else { return false };
        let is_whole = frame.len() == frames::HEADER_LEN + 1 + name.len() + 1;
        let is_there = || self.homes.has(name) || self.course.here.has(name);
        if !is_whole || self.ledger.dirty().is_some() || is_there() {
            return false;
        }
        self.ledger.forget(name);
        self.client.input.advance(head.len);
        backend::close_complete(&mut self.client.output);
        true
    }

    /// Tells the client what the statement of this name takes and gives.
    pub(super) fn tell(&mut self, name: &[u8], description: &Description) {
        self.client.output.extend_from_slice(&description.parameters);
        self.client.output.extend_from_slice(&description.head);
        self.keep_told(name, &description.head);
    }

    /// The client was told that the statement of this name gives these columns.
    pub(super) fn keep_told(&mut self, name: &[u8], head: &Bytes) {
        if let Some(statement) = self.ledger.statement(name) {
            statement.told = Some(head.clone());
        }
    }

    /// Whether the statement of this name gives other columns than its client was told of.
    pub(super) fn changes_columns(&self, name: &[u8], head: &[u8]) -> bool {
        let told = self.ledger.known(name).and_then(|statement| statement.told.as_deref());
        told.is_some_and(|told| !is_same(told, head))
    }
}

/// What PostgreSQL says of a prepared statement whose columns are other ones now: drivers know it
/// by its routine, and prepare it anew.
pub(super) fn changed() -> SqlError {
    let message = "cached plan must not change result type";
    let mut error = SqlError::unsupported(message);
    let fields: [(u8, &str); 5] = [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', state::FEATURE_NOT_SUPPORTED),
        (b'M', message),
        (b'R', "RevalidateCachedQuery"),
    ];
    let mut report = BytesMut::from(&b"E\0\0\0\0"[..]);
    for (field, text) in fields {
        report.put_u8(field);
        report.put_slice(text.as_bytes());
        report.put_u8(0);
    }
    report.put_u8(0);
    let length = u32::try_from(report.len() - 1).expect("it is short");
    report[1..frames::HEADER_LEN].copy_from_slice(&length.to_be_bytes());
    error.report = Some(Box::new(report.freeze()));
    error
}

/// A `RowDescription` with the formats in which a Bind asks for the columns.
pub(super) fn with_formats(head: &Bytes, formats: &[i16]) -> Bytes {
    if formats.iter().all(|format| *format == 0) {
        return head.clone();
    }
    let mut told = BytesMut::from(&head[..]);
    let mut at = frames::HEADER_LEN + 2;
    let mut column = 0;
    while let Some((name, _)) = told.get(at..).and_then(frames::text) {
        at += name.len() + 1 + 18;
        let format = formats.get(if formats.len() == 1 { 0 } else { column });
        let Some(place) = told.get_mut(at - 2..at) else { break };
        place.copy_from_slice(&format.copied().unwrap_or_default().to_be_bytes());
        column += 1;
    }
    told.freeze()
}

/// Whether two `RowDescription` frames are about the same columns, wherever they come from and in
/// whatever format.
pub(super) fn is_same(told: &[u8], head: &[u8]) -> bool {
    told == head || columns(told).is_some_and(|told| Some(told) == columns(head))
}

/// Name, type, size and modifier of each column.
fn columns(head: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = head.get(frames::HEADER_LEN + 2..)?;
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let (name, behind) = frames::text(rest)?;
        // Table and column; type, size and modifier; format.
        columns.push((name, behind.get(6..16)?));
        rest = behind.get(18..)?;
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use sortie_postgres::ServerError;
    use sortie_postgres::backend::{Field, row_description};

    use super::*;

    fn head(fields: &[Field<'_>]) -> BytesMut {
        let mut head = BytesMut::new();
        row_description(&mut head, fields.iter().copied());
        head
    }

    #[test]
    fn columns_are_the_same_whatever_table_they_come_from() {
        let id =
            Field { name: "id", table: 1, column: 1, oid: 23, size: 4, modifier: -1, format: 0 };
        let name = Field { name: "n", oid: 25, size: -1, ..id };
        let told = head(&[id, name]);
        assert!(is_same(&told, &told));
        assert!(is_same(&told, &head(&[Field { table: 7, column: 2, format: 1, ..id }, name])));
        for other in [
            head(&[id]),
            head(&[name, id]),
            head(&[id, name, name]),
            head(&[Field { name: "ID", ..id }, name]),
            head(&[Field { oid: 20, size: 8, ..id }, name]),
            head(&[id, Field { oid: 1043, modifier: 12, ..name }]),
            BytesMut::new(),
        ] {
            assert!(!is_same(&told, &other), "{other:?}");
        }
    }

    #[test]
    fn columns_are_told_in_the_formats_that_were_asked_for() {
        let id =
            Field { name: "id", table: 1, column: 1, oid: 23, size: 4, modifier: -1, format: 0 };
        let binary = Field { format: 1, ..id };
        let told = head(&[id, id]).freeze();
        assert_eq!(with_formats(&told, &[0]), told);
        assert_eq!(with_formats(&told, &[]), told);
        assert_eq!(with_formats(&told, &[1]), head(&[binary, binary]));
        assert_eq!(with_formats(&told, &[0, 1]), head(&[id, binary]));
    }

    #[test]
    fn drivers_know_what_has_changed() {
        let error = changed();
        let report = ServerError::new(error.report.as_deref().unwrap().clone()).unwrap();
        assert_eq!(
            (report.sqlstate(), report.field(b'R')),
            ("0A000", Some(&b"RevalidateCachedQuery"[..]))
        );
        assert_eq!(report.message(), error.message);
    }
}
