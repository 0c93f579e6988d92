//! One connection in quarantine: from a query that nobody waits for any more to a connection that
//! anybody may use, or to none. Pure: it is told what happens, and answers what to do.
//!
//! ```text
//! Draining -Ready-> Release          Asking -Granted-> Flying -Ended-> Spent -Ready-> Release
//!    '-Overdue-> Asking                 '-Ready-> Release |               '-Overdue-> Asking
//!                                                         '-Ready, Ended-> Release
//! ```
//!
//! # Invariants
//!
//! 1. Released only if its query has ended **and** every request that was sent has ended: a
//!    request that is still under way would hit whatever the connection runs by then.
//! 2. A request is sent only while the query has not been seen to end, and never two at a time.
//! 3. If nobody can know what became of a request, the connection is closed.
//! 4. At most `CANCELS_MAX` requests, each limited in time: it always ends.

/// How often a query is asked to stop. One that was told before it began, or that catches the
/// error, is told again.
const CANCELS_MAX: u32 = 5;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Phase {
    /// The query is left to end by itself.
    Draining,
    /// A request is wanted, and not sent yet: only so many may be under way at a server.
    Asking,
    /// A request was sent.
    Flying,
    /// A request has done what it could.
    Spent,
    /// It was decided.
    Over,
}

/// What happens.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Event {
    /// Everything that was owed has come: the query has ended.
    Ready,
    /// A request may be sent.
    Granted,
    /// The server has closed the request's own connection.
    Ended,
    /// Nobody knows what became of the request.
    Unsure,
    /// The phase has taken too long.
    Overdue,
    /// The connection broke.
    Broken,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Step {
    /// Wait on.
    Wait,
    /// Get the permission to send a request.
    Ask,
    /// Send a request.
    Cancel,
    /// The connection may be used by anybody.
    Release,
    /// The connection must be closed.
    Close,
}

/// The state of one connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Quarantine {
    phase: Phase,
    owing: bool,
    cancels: u32,
    /// Breaks invariant 1, for the test that must notice.
    reckless: bool,
}

impl Quarantine {
    /// Begins. `drain`: the query may end before a request could stop it.
    pub(super) fn begin(drain: bool, reckless: bool) -> (Self, Step) {
        let (phase, step) =
            if drain { (Phase::Draining, Step::Wait) } else { (Phase::Asking, Step::Ask) };
        (Self { phase, owing: true, cancels: 0, reckless }, step)
    }

    /// Whether the query has not been seen to end.
    pub(super) fn is_owing(&self) -> bool {
        self.owing
    }

    /// How many requests were sent.
    pub(super) fn cancels(&self) -> u32 {
        self.cancels
    }

    /// How many times as long as the first the present phase may take.
    pub(super) fn patience(&self) -> u32 {
        1 << (2 * self.cancels.saturating_sub(1).min(CANCELS_MAX))
    }

    /// Whether a request is under way.
    #[cfg(test)]
    pub(super) fn is_flying(&self) -> bool {
        self.phase == Phase::Flying
    }

    /// Whether it waits to see if the last request has helped.
    pub(super) fn is_spent(&self) -> bool {
        self.phase == Phase::Spent
    }

    /// Takes in what happened.
    pub(super) fn on(&mut self, event: Event) -> Step {
        let step = self.decide(event);
        self.phase = match step {
            Step::Wait => self.phase,
            Step::Ask => Phase::Asking,
            Step::Cancel => Phase::Flying,
            Step::Release | Step::Close => Phase::Over,
        };
        step
    }

    fn decide(&mut self, event: Event) -> Step {
        match (event, self.phase) {
            (Event::Ready, phase) => {
                self.owing = false;
                let flying = phase == Phase::Flying && !self.reckless;
                if flying || phase == Phase::Over { Step::Wait } else { Step::Release }
            }
            (Event::Granted, Phase::Asking) => {
                self.cancels += 1;
                Step::Cancel
            }
            (Event::Ended, Phase::Flying) if self.owing => {
                self.phase = Phase::Spent;
                Step::Wait
            }
            (Event::Ended, Phase::Flying) => Step::Release,
            (Event::Overdue, Phase::Draining) => Step::Ask,
            (Event::Overdue, Phase::Spent) if self.cancels < CANCELS_MAX => Step::Ask,
            // It was decided, or it is the echo of a phase that is over.
            (_, Phase::Over) | (Event::Granted | Event::Ended, _) => Step::Wait,
            (Event::Unsure, phase) if phase != Phase::Flying => Step::Wait,
            (Event::Broken | Event::Unsure | Event::Overdue, _) => Step::Close,
        }
    }
}

#[cfg(test)]
mod tests;
