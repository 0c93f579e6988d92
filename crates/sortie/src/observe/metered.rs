//! Events for the `metrics` crate.

use std::fmt;

use metrics::{Counter, Histogram, counter, histogram};

use crate::Role;
use crate::observe::{Begins, Ends, Event, Limit, Observer};

/// Records each event with the `metrics` crate's recorder, under one label `registry`.
///
/// | name | what |
/// |---|---|
/// | `sortie_flights_begun_total` | loads by `how` they began |
/// | `sortie_flights_ended_total` | loads by `how` they ended |
/// | `sortie_flight_seconds` | how long loads ran |
/// | `sortie_flight_fan_out` | callers that got the outcome of a load |
/// | `sortie_joined_total`, `sortie_join_age_seconds` | callers that shared; the load's age then |
/// | `sortie_limited_total` | callers that could not share, by `why`, and by `solo` or refused |
/// | `sortie_wait_seconds` | how long callers waited, by `role` |
/// | `sortie_fills_refused_total`, `sortie_stale_served_total` | by `why` |
/// | `sortie_left_total` | callers that gave up |
/// | `sortie_retries_total` | loads tried again by their flights |
///
/// The handles are made once, here: install the recorder before.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use sortie::SingleFlight;
/// use sortie::observe::Metered;
///
/// let flights = SingleFlight::<u64, u64, std::io::Error>::builder();
/// let flights = flights.observer(Arc::new(Metered::new("balances"))).build();
/// ```
pub struct Metered {
    registry: &'static str,
    begun: [Counter; Begins::ALL.len()],
    ended: [Counter; Ends::ALL.len()],
    limited: [[Counter; 2]; Limit::ALL.len()],
    took: Histogram,
    fan_out: Histogram,
    joined: Counter,
    join_age: Histogram,
    waited: [Histogram; 3],
    left: Counter,
    retried: Counter,
}

impl Metered {
    /// Makes the handles; `registry` tells this registry from others.
    pub fn new(registry: &'static str) -> Self {
        let ways = |name: &'static str, how| counter!(name, "registry" => registry, "how" => how);
        let begun = |how: Begins| ways("sortie_flights_begun_total", how.label());
        let ended = |how: Ends| ways("sortie_flights_ended_total", how.label());
        let limited = |why: Limit| {
            let (name, why) = ("sortie_limited_total", why.label());
            let solo = |solo| counter!(name, "registry" => registry, "why" => why, "solo" => solo);
            ["false", "true"].map(solo)
        };
        let waited = ["leader", "follower", "solo"]
            .map(|role| histogram!("sortie_wait_seconds", "registry" => registry, "role" => role));
        Self {
            registry,
            begun: Begins::ALL.map(begun),
            ended: Ends::ALL.map(ended),
            limited: Limit::ALL.map(limited),
            took: histogram!("sortie_flight_seconds", "registry" => registry),
            fan_out: histogram!("sortie_flight_fan_out", "registry" => registry),
            joined: counter!("sortie_joined_total", "registry" => registry),
            join_age: histogram!("sortie_join_age_seconds", "registry" => registry),
            waited,
            left: counter!("sortie_left_total", "registry" => registry),
            retried: counter!("sortie_retries_total", "registry" => registry),
        }
    }
}

impl Observer for Metered {
    fn event(&self, event: &Event) {
        match event {
            Event::Begun { how, .. } => self.begun[*how as usize].increment(1),
            Event::Joined { age, .. } => {
                self.joined.increment(1);
                self.join_age.record(age.unwrap_or_default().as_secs_f64());
            }
            Event::Limited { why, solo } => {
                self.limited[*why as usize][usize::from(*solo)].increment(1);
            }
            Event::Answered { role, waited, .. } => {
                let role = match role {
                    Role::Leader => 0,
                    Role::Follower => 1,
                    Role::Solo => 2,
                };
                self.waited[role].record(waited.as_secs_f64());
            }
            Event::Left { .. } => self.left.increment(1),
            Event::Retried { .. } => self.retried.increment(1),
            Event::FillRefused { why } => {
                let labels = [("registry", self.registry), ("why", why.label())];
                counter!("sortie_fills_refused_total", &labels).increment(1);
            }
            Event::StaleServed { why, .. } => {
                let labels = [("registry", self.registry), ("why", why.label())];
                counter!("sortie_stale_served_total", &labels).increment(1);
            }
            Event::Ended { how, took, fan_out, .. } => {
                self.ended[*how as usize].increment(1);
                self.took.record(took.as_secs_f64());
                // A count of callers: exact in an f64.
                self.fan_out.record(u32::try_from(*fan_out).unwrap_or(u32::MAX));
            }
        }
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("registry", &self.registry).finish_non_exhaustive()
    }
}
