//! Events for `tracing`.

use tracing::{Span, debug, trace};

use crate::Role;
use crate::observe::{Event, Observer};

/// Writes each event to `tracing`, and links whoever shared a load to the load's span.
///
/// Every load runs in a span of its own (`flight`, at debug level) whether this observer is set or
/// not; it is a child of its leader's span. With it, the current span of a caller that was
/// answered by another's load, or gave up waiting for it, *follows from* that span: in
/// OpenTelemetry it is a link.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use sortie::SingleFlight;
/// use sortie::observe::Traced;
///
/// let flights = SingleFlight::<u64, u64, std::io::Error>::builder();
/// let flights = flights.observer(Arc::new(Traced::new())).build();
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Traced;

impl Traced {
    /// Makes one.
    pub fn new() -> Self {
        Self
    }
}

impl Observer for Traced {
    fn event(&self, event: &Event) {
        match event {
            Event::Begun { flight, how } => {
                trace!(flight = flight.number(), how = how.label(), "a load begins");
            }
            Event::Joined { age, fan_out } => debug!(?age, fan_out, "joined"),
            Event::Limited { why, solo } => debug!(why = why.label(), solo, "not shared"),
            Event::Answered { role, ok, waited, load, span } => {
                if let (Role::Follower, Some(span)) = (role, span) {
                    Span::current().follows_from(span.clone());
                }
                trace!(?role, ok, ?waited, ?load, "answered");
            }
            Event::Left { role, waited, span } => {
                if let (Role::Follower, Some(span)) = (role, span) {
                    Span::current().follows_from(span.clone());
                }
                debug!(?role, ?waited, "gave up");
            }
            Event::Retried { flight, attempt, pause } => {
                debug!(flight = flight.number(), attempt, ?pause, "tried again");
            }
            Event::Ended { flight, how, took, fan_out } => {
                debug!(flight = flight.number(), how = how.label(), ?took, fan_out, "ended");
            }
            Event::FillRefused { why } => debug!(why = why.label(), "loaded and not stored"),
            Event::StaleServed { why, age } => debug!(why = why.label(), ?age, "served stale"),
        }
    }
}
