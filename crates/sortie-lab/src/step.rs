//! Progress, one step at a time.

use std::fmt;
use std::time::Duration;

/// One step of making a lab, done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// What was done, e.g. `shard 0: primary takes statements`.
    pub what: String,
    /// Since the start.
    pub after: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5.1} s  {}", self.after.as_secs_f64(), self.what)
    }
}
