//! Behaviour of `SingleFlight`, on a paused clock.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod ages;
mod bars;
mod batches;
mod bugs;
mod bugs_elsewhere;
mod circles;
mod ending;
mod faces;
mod failures;
mod joins;
mod lean;
mod leaving;
mod limits;
mod local;
mod lost;
mod moments;
mod paces;
mod reference;
mod resting;
mod retries;
mod schedules;
#[cfg(sortie_shuttle)]
mod shuttled;
mod spans;
mod support;
mod told;
