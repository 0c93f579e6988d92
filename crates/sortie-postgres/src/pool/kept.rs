//! Statements that are kept prepared on a connection for all who share it.

use std::collections::VecDeque;

use bytes::Bytes;

/// So many are kept on one connection. A choice: each costs its server some ten kilobytes, and
/// hardly an application has more that are worth it.
const KEPT_MAX: usize = 128;

/// Statements that are prepared on a connection, the last used in front: each by a number that
/// whoever prepared it has chosen, with when that was, in his own count, and with what was noted
/// about it. They are few.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use sortie_postgres::Kept;
///
/// let mut kept = Kept::default();
/// kept.add(7, 100, Bytes::from_static(b"its columns"));
/// let (at, note) = kept.find(7, 99).unwrap();
/// assert_eq!((at, &note[..]), (100, &b"its columns"[..]));
/// assert_eq!(kept.find(7, 100), None, "it was not prepared after that");
/// assert_eq!(kept.find(8, 0), None);
/// ```
#[derive(Debug, Default)]
pub struct Kept(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    number: u64,
    at: u64,
    note: Bytes,
}

impl Kept {
    /// Returns when a statement was prepared, and what was noted about it, if it is there, and that
    /// was later than `after`: it counts as used now.
    pub fn find(&mut self, number: u64, after: u64) -> Option<(u64, &Bytes)> {
        let at = self.0.iter().position(|it| it.number == number && it.at > after)?;
        if at > 0
            && let Some(found) = self.0.remove(at)
        {
            self.0.push_front(found);
        }
        self.0.front().map(|found| (found.at, &found.note))
    }

    /// Which statement must go before this one is prepared: itself, if it is there, or the one
    /// that was used least lately, if there are as many as may be. Its number, and when it was
    /// prepared.
    pub fn make_room(&mut self, number: u64) -> Option<(u64, u64)> {
        let there = self.0.iter().position(|it| it.number == number);
        match there {
            Some(at) => self.0.remove(at),
            None if self.0.len() < KEPT_MAX => None,
            None => self.0.pop_back(),
        }
        .map(|gone| (gone.number, gone.at))
    }

    /// Adds a statement that was prepared, in a place that there is room for.
    pub fn add(&mut self, number: u64, at: u64, note: Bytes) {
        self.0.push_front(Entry { number, at, note });
        self.0.truncate(KEPT_MAX);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lately_used_makes_room_and_so_does_an_older_one() {
        let mut kept = Kept::default();
        for number in 0..KEPT_MAX as u64 {
            assert_eq!(kept.make_room(number), None);
            kept.add(number, 1, Bytes::new());
        }
        assert!(kept.find(0, 0).is_some());
        assert_eq!(kept.make_room(5), Some((5, 1)));
        kept.add(5, 2, Bytes::new());
        assert!(kept.find(5, 1).is_some() && kept.find(5, 2).is_none());
        assert_eq!(kept.make_room(1000), Some((1, 1)));
        kept.add(1000, 1, Bytes::from_static(b"note"));
        assert_eq!(kept.find(1, 0), None);
        assert_eq!(kept.find(1000, 0), Some((1, &Bytes::from_static(b"note"))));
        assert!(kept.find(0, 0).is_some() && !kept.is_empty());
    }
}
