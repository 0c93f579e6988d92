//! Errors in a server's own words: kept whole, changed only where a reader must be told otherwise.

use std::fmt;

use bytes::{Bytes, BytesMut};
use sortie_postgres::ServerError;

use crate::sql::error::{SqlError, state};

impl SqlError {
    /// A server's report, to be handed on as it is.
    pub(crate) fn of_server(report: &ServerError) -> Self {
        let error = Self::new(code(report.sqlstate()), report.message());
        Self { report: Some(Box::new(report.frame().clone())), ..error }
    }

    /// The same with the name of the shard that it comes from. A place is left out: it is one in
    /// the shard's statement, not in the client's.
    #[must_use]
    pub(crate) fn of_shard(self, shard: &impl fmt::Display) -> Self {
        let message = format!("shard {shard}: {}", self.message);
        let report = self.report.as_ref().map(|report| {
            Box::new(edited(report, |kind, text| match kind {
                b'M' => Some([format!("shard {shard}: ").as_bytes(), text].concat()),
                b'P' | b'p' | b'q' => None,
                _ => Some(text.to_vec()),
            }))
        });
        Self { message, report, ..self }
    }

    /// Moves the place in the statement.
    #[must_use]
    pub(crate) fn moved(mut self, place: impl Fn(usize) -> usize) -> Self {
        self.position = self.position.map(&place);
        self.report = self.report.map(|report| {
            Box::new(edited(&report, |kind, text| {
                let number = || std::str::from_utf8(text).ok()?.parse().ok();
                match (kind, number()) {
                    (b'P', Some(number)) => Some(place(number).to_string().into_bytes()),
                    _ => Some(text.to_vec()),
                }
            }))
        });
        self
    }
}

/// A report with other fields: each by its type and text, `None` leaves it out.
fn edited(report: &Bytes, edit: impl Fn(u8, &[u8]) -> Option<Vec<u8>>) -> Bytes {
    let mut output = BytesMut::with_capacity(report.len() + 16);
    output.extend_from_slice(report.get(..5).unwrap_or_default());
    let mut rest = report.get(5..).unwrap_or_default();
    while let Some((&kind, after)) = rest.split_first() {
        let end = after.iter().position(|&byte| byte == 0);
        let Some(end) = end.filter(|_| kind != 0) else { break };
        if let Some(text) = edit(kind, &after[..end]) {
            output.extend_from_slice(&[kind]);
            output.extend_from_slice(&text);
            output.extend_from_slice(&[0]);
        }
        rest = &after[end + 1..];
    }
    output.extend_from_slice(&[0]);
    let length = u32::try_from(output.len() - 1).unwrap_or(u32::MAX);
    output[1..5].copy_from_slice(&length.to_be_bytes());
    output.freeze()
}

/// The code, if it is one that is told apart here; the report has it in any case.
fn code(sqlstate: &str) -> &'static str {
    [
        state::QUERY_CANCELED,
        state::PROTOCOL_VIOLATION,
        state::ADMIN_SHUTDOWN,
        state::UNDEFINED_TABLE,
        state::UNDEFINED_COLUMN,
        state::FEATURE_NOT_SUPPORTED,
        state::READ_ONLY_SQL_TRANSACTION,
        state::INSUFFICIENT_RESOURCES,
        state::OUT_OF_MEMORY,
        state::TOO_MANY_CONNECTIONS,
    ]
    .into_iter()
    .find(|known| *known == sqlstate)
    .unwrap_or(state::INTERNAL_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fields: &[(u8, &str)]) -> SqlError {
        let mut frame = vec![b'E', 0, 0, 0, 0];
        for (kind, text) in fields {
            frame.push(*kind);
            frame.extend(text.bytes());
            frame.push(0);
        }
        frame.push(0);
        let length = u32::try_from(frame.len() - 1).unwrap().to_be_bytes();
        frame[1..5].copy_from_slice(&length);
        SqlError::of_server(&ServerError::new(frame.into()).unwrap())
    }

    #[test]
    fn a_report_is_handed_on_as_it_came() {
        let fields =
            [(b'S', "FEHLER"), (b'C', "22012"), (b'M', "x"), (b'P', "9"), (b'R', "int4div")];
        let error = report(&fields);
        assert_eq!(error.clone().moved(|place| place), error);
        assert_eq!(
            error.clone().moved(|place| place + 3),
            report(&[
                (b'S', "FEHLER"),
                (b'C', "22012"),
                (b'M', "x"),
                (b'P', "12"),
                (b'R', "int4div"),
            ])
        );
    }

    #[test]
    fn a_shard_is_named_and_its_places_are_left_out() {
        let error = report(&[(b'C', "22012"), (b'M', "x"), (b'P', "9")]).of_shard(&1);
        assert_eq!(error, report(&[(b'C', "22012"), (b'M', "shard 1: x")]));
    }
}
