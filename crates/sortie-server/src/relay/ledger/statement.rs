//! A statement that a session has prepared.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::relay::effect::{Effects, Reason};
use crate::relay::frames;
use crate::relay::insight::Glance;
use crate::relay::lone::Solitude;
use crate::relay::shared::Verdict;
use crate::relay::switches::Switches;

/// Numbers for statements, in the order in which they are prepared.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What a verdict depends on: what the configuration says, the change that the parameters are at,
/// the shard, and the change that what is known of the databases is at.
pub(crate) type View = (u64, u64, Option<usize>, u64);

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Statement<P> {
    pub(super) number: u64,
    /// The whole Parse frame.
    pub(crate) frame: Bytes,
    /// What running it leaves.
    pub(crate) effects: Effects,
    /// What its comments say.
    pub(crate) hint: Switches,
    /// The columns that its client was told of.
    pub(crate) told: Option<Bytes>,
    /// Which number it would have if it had been prepared when it was judged first: all that a
    /// server has found out about it for its client was found out before.
    pub(crate) known_at: Option<u64>,
    /// What was judged of it, and by what.
    pub(crate) verdict: Option<(View, Verdict<P>)>,
    /// What was seen of it where statements are only observed, and by what.
    pub(crate) glance: Option<(View, Glance)>,
    /// How often nobody else wanted what it reads, if it could be read alone.
    pub(crate) solitude: Option<Box<Solitude>>,
}

impl<P> Statement<P> {
    /// A statement whose text is too long to be read, and to be kept: running it may leave
    /// anything, and it is had again nowhere.
    pub(crate) fn unread() -> Self {
        Self::new(Bytes::new(), Effects::dirty(Reason::Unreadable), Switches::default())
    }

    /// The statement that a Parse frame with this text prepares.
    pub(crate) fn of(frame: &[u8], text: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(frame), Effects::of(text), Switches::hint(text))
    }

    fn new(frame: Bytes, effects: Effects, hint: Switches) -> Self {
        let (told, known_at, verdict, glance, solitude) = Default::default();
        let number = number();
        Self { number, frame, effects, hint, told, known_at, verdict, glance, solitude }
    }

    /// It is judged: returns the number that it would have now, or had the first time.
    pub(crate) fn judged(&mut self) -> u64 {
        *self.known_at.get_or_insert_with(number)
    }

    /// Its number, which no other one has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its SQL.
    pub(crate) fn text(&self) -> &[u8] {
        frames::parse(&self.frame).map_or(&[], |parse| parse.text)
    }

    /// The types of its first parameters.
    pub(crate) fn oids(&self) -> Vec<u32> {
        frames::parse(&self.frame).map_or_else(Vec::new, |parse| parse.oids())
    }
}

/// The number of the next statement that some client will prepare.
pub(crate) fn parses() -> u64 {
    NUMBERS.load(Ordering::Relaxed)
}

fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
