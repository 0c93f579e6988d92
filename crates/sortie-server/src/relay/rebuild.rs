//! What a server has sent, without what is not the client's.

use bytes::Bytes;
use sortie_postgres::Event;
use sortie_postgres::backend::Severity;
use tokio::io::{AsyncRead, AsyncWrite};

use super::session::Session;
use super::shared::Shared;
use crate::session::failure;
use crate::sql::SqlError;

/// What becomes of a frame that is not passed on.
pub(super) enum Change {
    Swallow,
    /// It was the last one that the client does not know of.
    Compare,
    Replace(Box<SqlError>),
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// Puts what was read together anew, without what is not the client's. What the
    /// server itself says about parameters is not said twice.
    pub(super) fn rebuild(&mut self, events: &[Event], changes: Vec<(usize, Change)>) {
        let told = told_behind(events, &changes, &self.client.output);
        let first = events.first().map_or(0, |event| event.start);
        let read = self.client.output.split_off(first);
        let mut changes = changes.into_iter().peekable();
        for (at, event) in events.iter().enumerate() {
            match changes.next_if(|(change, _)| *change == at) {
                None => {
                    let bytes = &read[event.start - first..event.end - first];
                    self.client.output.extend_from_slice(bytes);
                }
                Some((_, Change::Swallow)) => {}
                Some((_, Change::Compare)) => self.compare(&told),
                Some((_, Change::Replace(error))) => {
                    self.inner.stats.error();
                    failure::say(&mut self.client.output, Severity::Error, &error);
                }
            }
        }
    }
}

/// The parameters that the client is told of behind a replay's end, in the same bytes: the
/// connection's own view of them is already that far.
fn told_behind(events: &[Event], changes: &[(usize, Change)], output: &[u8]) -> Vec<Bytes> {
    let ends = changes.iter().find(|(_, change)| matches!(change, Change::Compare));
    let Some((end, _)) = ends else { return Vec::new() };
    let told = events[end + 1..].iter().filter(|event| event.tag == b'S');
    told.filter_map(|event| {
        let name = event.body(output)?.split(|byte| *byte == 0).next()?;
        Some(Bytes::copy_from_slice(name))
    })
    .collect()
}
