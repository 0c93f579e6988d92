//! Custom parameters, those with a dot in their name, and who may meet them.
//!
//! Once somebody has set one, PostgreSQL keeps it for as long as the connection lives, whatever is
//! reset, rolled back or discarded: it is empty then, and no longer missing, which is another
//! answer of `current_setting(…, true)`. So sessions that have set the same ones have connections
//! of their own, apart from all others; one on which a session sets more is its own as long as
//! nobody else wants it, and closed then.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::io::{AsyncRead, AsyncWrite};

use super::course::Course;
use super::decide::{self, Batch};
use super::effect::Effects;
use super::frames;
use super::session::Session;
use super::shared::Shared;

/// How many names are told apart; of those that are met later nobody knows which they are, and no
/// connection that may have one is used again.
const NAMES_MAX: usize = 63;

/// All other names.
const OTHER: u64 = 1 << NAMES_MAX;

/// The names that are told apart, each by its place.
static NAMES: RwLock<Vec<Box<str>>> = RwLock::new(Vec::new());

/// A set of custom parameters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Customs(u64);

impl Customs {
    /// Whichever they are.
    pub(crate) const ANY: Self = Self(OTHER);

    /// The parameter of this name, in lower case, if it is a custom one.
    pub(crate) fn of(name: &str) -> Self {
        Self::among(&NAMES, name)
    }

    fn among(names: &RwLock<Vec<Box<str>>>, name: &str) -> Self {
        if !name.contains('.') {
            return Self::default();
        }
        let place = |names: &[Box<str>]| names.iter().position(|known| **known == *name);
        // Nothing in here panics between two changes that belong together.
        let known = place(&names.read().unwrap_or_else(PoisonError::into_inner));
        let place = known.or_else(|| {
            let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
            place(&names).or_else(|| {
                let next = names.len();
                (next < NAMES_MAX).then(|| {
                    names.push(name.into());
                    next
                })
            })
        });
        place.map_or(Self::ANY, |place| Self(1 << place))
    }

    /// Those of both.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of these are among others, as far as can be known.
    fn are_within(self, others: Self) -> bool {
        self.0 & (OTHER | !others.0) == 0
    }
}

impl<P> Course<P> {
    /// Something goes out that sets these; whether it succeeds is not asked.
    pub(super) fn customize(&mut self, customs: Customs) {
        self.customs = self.customs.and(customs);
        self.here.is_apart |= !customs.are_within(self.apart);
    }
}

impl<S, L> Session<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    L: Shared,
{
    /// The connection that is taken next is of those that may have had what the session has set,
    /// and what the batch in front sets.
    pub(super) fn set_apart(&mut self) {
        let first = self.front().filter(|(effects, _)| effects.reason().is_none());
        let first = first.map_or_else(Customs::default, |(effects, _)| effects.customs);
        let apart = self.course.customs.and(first);
        self.course.apart = apart;
        if self.account.login.apart != apart.0 {
            let mut login = (*self.account.login).clone();
            login.apart = apart.0;
            self.account.login = Arc::new(login);
        }
    }

    /// Whether the batch in front sets what the connection that rests would have to be closed for:
    /// looked at only where a text says at once that it sets something.
    pub(super) fn goes_apart(&self) -> bool {
        let input = &self.client.input;
        let text = match input.first() {
            Some(b'Q') => input.get(frames::HEADER_LEN..),
            Some(b'P') => {
                input.get(frames::HEADER_LEN..).and_then(frames::text).map(|(_, text)| text)
            }
            _ => None,
        };
        let sets = text.and_then(|text| text.get(..4));
        sets.is_some_and(|word| word.eq_ignore_ascii_case(b"set "))
            && self
                .front()
                .is_some_and(|(effects, _)| !effects.customs.are_within(self.course.apart))
    }

    /// What the batch in front leaves, if it is a text or about one statement, and its length.
    pub(super) fn front(&self) -> Option<(Effects, usize)> {
        match decide::batch(&self.client.input) {
            Batch::Simple(range) => {
                let frame = &self.client.input[range];
                let (text, _) = frames::text(&frame[frames::HEADER_LEN..])?;
                Some((Effects::of(text), frame.len()))
            }
            Batch::Single(single) => {
                let (name, new) = self.subject(&single)?;
                let statement = new.as_deref().or_else(|| self.ledger.known(&name))?;
                Some((statement.effects.clone(), single.len))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_up_to_a_bound_and_the_rest_is_within_nothing() {
        let none = Customs::default();
        let names = RwLock::default();
        let of = |name: &str| Customs::among(&names, name);
        assert_eq!(of("work_mem"), none);
        let first = of("customs.0");
        assert_eq!(of("customs.0"), first);
        assert!(none.are_within(first) && first.are_within(first) && !first.are_within(none));
        let many: Vec<_> = (0..=NAMES_MAX).map(|at| of(&format!("customs.{at}"))).collect();
        let last = many[NAMES_MAX];
        assert!(last == Customs::ANY && !last.are_within(last));
        let all = many.iter().fold(none, |all, it| all.and(*it));
        assert!(first.are_within(all) && !all.are_within(all));
    }
}
