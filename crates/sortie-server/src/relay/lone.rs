//! Prepared reads that nobody else asks for at the time.
//!
//! To share a read takes a flight, and a key that owns all its parts. Where readers never meet that
//! is for nothing. So a statement whose reads have long been alone is read by the session itself,
//! on a connection of the shared lane on which it is kept prepared, for as long as nobody else
//! reads the same. [`way`] is how.
//!
//! Each such read shows a *light* while it runs, in a place that its key has; so does one that
//! flies, if it could be one of these. Whoever finds the light of his key on is not alone.
//!
//! # Invariants
//!
//! 1. Of one key no more than one read runs alone, and none begins to while another flies.
//! 2. It goes where there is one server that could answer: elsewhere another one is asked when the
//!    first is slow.
//! 3. A light goes out however its read ends.
//! 4. Two keys may have one place: then it is only said that there is company where there is none.

mod way;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use sortie_postgres::Login;
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use self::way::Lone;
use super::insight::mix;
use super::ledger::View;
use super::session::Session;
use super::share::Share;
use super::shared::{Shared, Who};
use crate::config::Mode;

/// Places for lights: a power of two. With 64 reads at a time a stranger's is on in 1 of 1,024.
const PLACES_MAX: usize = 1 << 16;

/// So many reads more of a statement have been alone than not when it is read alone. A choice: few
/// enough for short sessions; that a key is read alone once at a time does not hang on it.
const ALONE_MIN: u8 = 4;

/// What is not counted any more, so that company is noticed soon.
const ALONE_MAX: u8 = 16;

/// How often the reads of a prepared statement were alone, and what it takes to read it so.
#[derive(Debug)]
pub(crate) struct Solitude {
    /// One more for each that was, half for each that was not.
    score: u8,
    /// By what the session was looked at.
    view: View,
    /// What the keys of its reads begin with.
    key: u64,
    /// The number by which the statement is kept prepared.
    kept: u64,
    login: Arc<Login>,
}

/// Which reads are under way, by the hashes of their keys.
#[derive(Debug)]
pub(super) struct Lights(Box<[AtomicU32]>);

/// A read that is under way.
#[derive(Debug)]
pub(super) struct Light<'a> {
    place: &'a AtomicU32,
    /// No other was when it began.
    began_alone: bool,
}

impl Default for Lights {
    fn default() -> Self {
        Self((0..PLACES_MAX).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Lights {
    fn show(&self, key: u64) -> Light<'_> {
        let place = usize::try_from(key % PLACES_MAX as u64).unwrap_or_default();
        let place = &self.0[place];
        Light { place, began_alone: place.fetch_add(1, AcqRel) == 0 }
    }
}

impl Light<'_> {
    /// Whether no other read of its key is under way, or was when it began.
    fn is_alone(&self) -> bool {
        self.began_alone && self.place.load(Acquire) == 1
    }
}

impl Drop for Light<'_> {
    fn drop(&mut self) {
        self.place.fetch_sub(1, Release);
    }
}

impl Solitude {
    fn is_long(&self) -> bool {
        self.score >= ALONE_MIN
    }

    fn was_alone(&mut self, alone: bool) {
        self.score = if alone { ALONE_MAX.min(self.score + 1) } else { self.score / 2 };
    }

    /// It is not what is read alone well.
    fn ends(&mut self) {
        self.score = 0;
    }
}

impl<'a, S, L> Session<'a, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// The light of a read that flies, if its statement could be read alone.
    pub(super) fn show(
        &mut self,
        (who, plan): (&Who, &L::Plan),
        asked: &Share<L::Plan>,
    ) -> Option<Light<'a>> {
        let Share::Single(single, name, None) = asked else { return None };
        // A time limit of its own is not the server's, and is kept where reads fly.
        let is_timed = || who.parameters.iter().any(|(name, _)| &**name == "statement_timeout");
        if name.is_empty() || !self.may_be_alone() || is_timed() {
            return None;
        }
        let likeness = self.likeness()?;
        let lane = &self.world.lane;
        let statement = self.ledger.statement(name)?;
        // What it was judged by is what the session is looked at by: it has just been judged.
        let view = statement.verdict.as_ref()?.0;
        if statement.solitude.as_ref().is_none_or(|known| known.view != view) {
            let (kept, said, login) = lane.kept(who, plan)?;
            let (score, key) = (0, mix(&[likeness, said], &[]));
            statement.solitude = Some(Box::new(Solitude { score, view, key, kept, login }));
        }
        let key = statement.solitude.as_ref()?.key;
        let key = self.key(key, Some((single.bind.clone()?, single.rows_max)));
        Some(self.inner.lights.show(key))
    }

    /// That read has ended.
    pub(super) fn shown(&mut self, asked: &Share<L::Plan>, light: &Light<'a>) {
        if let Share::Single(_, name, None) = asked
            && let Some(solitude) = self.solitude(name)
        {
            solitude.was_alone(light.is_alone());
        }
    }

    fn solitude(&mut self, name: &[u8]) -> Option<&mut Solitude> {
        self.ledger.statement(name)?.solitude.as_deref_mut()
    }

    /// Whether what the session reads can come from one server alone.
    fn may_be_alone(&self) -> bool {
        self.cluster.shards() == 1
            && !self.cluster.has_choice(0, self.account.target)
            && self.cluster.mode(self.account.mode) == Mode::Share
            && self.lazy.is_none()
            && self.seen.is_free()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_key_one_is_alone_and_leaves_nothing() {
        let lights = Lights::default();
        let one = lights.show(7);
        assert!(one.is_alone() && lights.show(8).is_alone());
        let two = lights.show(7);
        assert!(!two.is_alone() && !one.is_alone());
        drop(one);
        // It had company.
        assert!(!two.is_alone());
        drop(two);
        assert!(lights.show(7).is_alone());
        assert!(lights.0.iter().all(|place| place.load(Acquire) == 0));
    }

    #[test]
    fn company_is_noticed_soon_and_solitude_late() {
        let view = (1, 0, None, 0);
        let login = Arc::new(Login::new("reader", "shop"));
        let mut solitude = Solitude { score: 0, view, key: 0, kept: 1, login };
        let mut count = 0;
        while !solitude.is_long() {
            solitude.was_alone(true);
            count += 1;
        }
        assert_eq!(count, ALONE_MIN);
        (0..1000).for_each(|_| solitude.was_alone(true));
        (0..3).for_each(|_| solitude.was_alone(false));
        assert!(!solitude.is_long());
    }
}
