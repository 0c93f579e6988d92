//! The byte-differential tester: one client's bytes, played to PostgreSQL and to an endpoint in
//! front of it, must be answered with the same bytes.
//!
//! Terms: a [`Script`] is what one client does, step by step; a [`Target`] is who it does it to;
//! a [`Mode`] is how its bytes are cut into writes; a [`Transcript`] is what came back.
//!
//! # Invariants
//!
//! 1. A script that has been played leaves nothing in the database that changes the next run.
//! 2. What two correct servers may answer differently is made equal in one place
//!    ([`Transcript::difference`]): cancel keys, process ids, the order of the parameters reported
//!    at startup, object ids that the script created, and which line of a server's source says that
//!    a transaction has failed before (25P02). Everything else counts, other errors' source lines
//!    included.
//! 3. A target that does not answer is a difference and not a hanging test.

mod corpus;
mod dice;
#[cfg(test)]
mod mischief;
mod mixed;
mod neighbours;
mod play;
mod random;
mod script;
mod scripts;
mod show;
mod transcript;

#[cfg(test)]
mod tests;

pub use corpus::{prepare, scripts};
pub use mixed::{mixed, prepare_mixed};
pub use play::{Mode, Target, play};
pub use random::random;
pub use script::Script;
pub use transcript::{Difference, Transcript};

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Plays each script in each mode to both, first to PostgreSQL, and returns all differences as
/// text: empty when there are none.
///
/// `at_once` scripts are under way at the same time; of those that write, one.
pub async fn differences(
    scripts: Vec<Script>,
    modes: &[Mode],
    (ours, theirs): (&Target, &Target),
    at_once: usize,
) -> String {
    let (writing, reading): (Vec<_>, Vec<_>) = scripts.into_iter().partition(Script::writes);
    let queues = [(writing, 1), (reading, at_once.max(2) - 1)];
    let mut players = JoinSet::new();
    for (scripts, at_once) in queues {
        let scripts = Arc::new(Mutex::new(scripts.into_iter()));
        for _ in 0..at_once {
            let (scripts, modes) = (scripts.clone(), modes.to_vec());
            let (ours, theirs) = (ours.clone(), theirs.clone());
            players.spawn(async move {
                let mut report = String::new();
                loop {
                    let next = scripts.lock().await.next();
                    let Some(script) = next else { return report };
                    report += &difference(&script, &modes, &ours, &theirs).await;
                }
            });
        }
    }
    players.join_all().await.concat()
}

async fn difference(script: &Script, modes: &[Mode], ours: &Target, theirs: &Target) -> String {
    let mut report = String::new();
    for mode in modes.iter().filter(|mode| script.suits(**mode)) {
        // PostgreSQL's sessions have no neighbours.
        let alone = if *mode == Mode::Disturbed { Mode::AsWritten } else { *mode };
        let expected = play(script, alone, theirs).await;
        let found = play(script, *mode, ours).await;
        if let Some(difference) = expected.difference(&found, script) {
            writeln!(report, "## {} ({mode:?})\n{difference}", script.name())
                .expect("a string grows");
        }
    }
    report
}
