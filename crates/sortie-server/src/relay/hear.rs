//! What a server has sent: what it means for the session, and what of it is the client's.

use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::Event;
use sortie_postgres::backend::{Severity, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use super::course::Heard;
use super::failure as server_failure;
use super::frames;
use super::hold::Unready;
use super::session::Session;
use super::shared::Shared;
use crate::session::failure;
use crate::sql::SqlError;

/// What becomes of a frame that is not passed on.
enum Change {
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
    /// Takes in what the server has sent: nearly all of it stays where it was read to.
    pub(super) fn hear(&mut self) {
        if self.hear_plain() {
            return self.recount();
        }
        let mut events = std::mem::take(&mut self.events);
        let mut changes: Vec<(usize, Change)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let status = event.status(&self.client.output);
            let unset = self.course.is_unset();
            if unset && event.tag == b'E' && event.ends() {
                let body = event.body(&self.client.output).unwrap_or_default();
                // The first error says what became of the others.
                if self.course.is_cleaning() {
                    let error = server_failure::unready(body, None);
                    self.unready.get_or_insert(Unready::Unclean(error));
                } else {
                    let name = self.course.miss(&self.ledger);
                    let error = server_failure::unready(body, name);
                    self.unready.get_or_insert(Unready::Unset(error));
                }
            }
            if event.tag == b'E' && event.ends() && !unset {
                self.hear_missing(event);
            }
            if event.tag == b'E' && event.ends() && !unset && self.is_beginning() {
                let body = event.body(&self.client.output).unwrap_or_default();
                let error = server_failure::unbegun(body);
                self.hear_refused(error);
            }
            if event.tag == b'T' {
                self.hear_columns(event);
            }
            let heard = self.course.hear(&mut self.ledger, event.tag, event.ends(), status);
            let heard = self.hear_failed(event, heard);
            if let Some(error) = status.and_then(|status| self.hear_begun(status)) {
                self.unready.get_or_insert(Unready::Unset(error));
            }
            if let Some(status) = status.filter(|_| !matches!(heard, Heard::Swallow)) {
                self.hear_answered(status == Status::Idle);
            }
            match heard {
                Heard::Pass => {}
                Heard::Swallow => {
                    let over = unset && !self.course.is_unset();
                    if over {
                        self.unclean = 0;
                    }
                    // What is not as it should be the client need not know.
                    let compares = over && !matches!(self.unready, Some(Unready::Unset(_)));
                    changes.push((at, if compares { Change::Compare } else { Change::Swallow }));
                }
                Heard::Replace(error) => changes.push((at, Change::Replace(error))),
            }
        }
        if matches!(self.unready, Some(Unready::Unclean(_))) {
            // Nothing in it is the client's.
            self.client.output.truncate(events.first().map_or(0, |event| event.start));
        } else if !changes.is_empty() {
            self.rebuild(&events, changes);
        }
        events.clear();
        self.events = events;
        self.hear_parameters();
        self.follow();
        self.recount();
    }

    /// The server has answered what the client has asked for.
    pub(super) fn hear_answered(&mut self, is_idle: bool) {
        self.course.mend.end();
        let took = self.meter.answered(is_idle);
        self.hear_took(took);
    }

    /// Sees to it that nothing is awaited that the server does not know of.
    pub(super) fn recount(&mut self) {
        let quiet = self.held.as_ref().is_some_and(|held| held.leased.server.is_quiet());
        if quiet && self.out.is_empty() && self.course.is_owed() {
            // Something was counted otherwise than the server did it.
            self.course.settle();
            self.course.lose_count(&mut self.ledger);
        }
    }

    /// A batch is answered, for which the server took so long, in microseconds.
    fn hear_took(&mut self, took: Option<u64>) {
        if let (Some(took), Some(cause)) = (took, self.timed.take()) {
            cause.took(took);
        }
        if let Some(sighting) = self.held.as_mut().and_then(|held| held.observed.take()) {
            let took = took.unwrap_or_default();
            self.lanes.observed(took);
            sighting.end(took);
        }
    }

    /// Takes in what the server has said of parameters.
    fn hear_parameters(&mut self) {
        if self.course.take_reported()
            && let Some(held) = &self.held
        {
            self.known = Arc::new(held.leased.server.parameters().clone());
            if let Some(name) = self.known.value("application_name") {
                self.meter.entry().set_application(&String::from_utf8_lossy(name));
            }
        }
        for (name, value) in self.course.take_switched() {
            // The server has accepted it as a parameter that it does not know.
            let shards = self.cluster.shards();
            if name.as_ref() != "sortie.shard"
                && let Err(error) = self.switches.set(&name, value.as_deref(), shards)
            {
                failure::say(&mut self.client.output, Severity::Warning, &error);
            }
        }
    }

    /// The server tells the columns of a statement, or of a portal.
    fn hear_columns(&mut self, event: &Event) {
        let told = self.course.take_described();
        let Some(name) = told.as_ref().or_else(|| self.course.verifying()).cloned() else { return };
        let Some(body) = event.body(&self.client.output) else { return };
        let head = frames::row_description(body);
        if told.is_some() {
            self.keep_told(&name, &head);
        } else if self.changes_columns(&name, &head) {
            self.course.has_changed(name);
        }
    }

    /// Puts what was read together anew, without what is not the client's. What the
    /// server itself says about parameters is not said twice.
    fn rebuild(&mut self, events: &[Event], changes: Vec<(usize, Change)>) {
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
