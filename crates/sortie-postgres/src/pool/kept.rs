//! Statements that are kept prepared on a connection for all who share it.

use std::collections::VecDeque;

use bytes::Bytes;

/// So many are kept on one connection. A choice: each costs its server some ten kilobytes, and
/// hardly an application has more that are worth it.
const KEPT_MAX: usize = 128;

/// Statements that are prepared on a connection, the last used in front: each by a number that
/// whoever prepared it has chosen, with what was noted about it. They are few.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use sortie_postgres::Kept;
///
/// let mut kept = Kept::default();
/// kept.add(7, Bytes::from_static(b"its columns"));
/// assert_eq!(kept.find(7).map(|note| &note[..]), Some(&b"its columns"[..]));
/// assert_eq!(kept.find(8), None);
/// ```
#[derive(Debug, Default)]
pub struct Kept(VecDeque<(u64, Bytes)>);

impl Kept {
    /// Returns what was noted about a statement, if it is there: it counts as used now.
    pub fn find(&mut self, number: u64) -> Option<&Bytes> {
        let at = self.0.iter().position(|(it, _)| *it == number)?;
        if at > 0
            && let Some(found) = self.0.remove(at)
        {
            self.0.push_front(found);
        }
        self.0.front().map(|(_, note)| note)
    }

    /// Which statement must go before one more is prepared, if there are as many as may be: the
    /// one that was used least lately.
    pub fn make_room(&mut self) -> Option<u64> {
        if self.0.len() < KEPT_MAX { None } else { self.0.pop_back().map(|(number, _)| number) }
    }

    /// Adds a statement that was prepared, in a place that there is room for.
    pub fn add(&mut self, number: u64, note: Bytes) {
        self.0.push_front((number, note));
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
    fn the_least_lately_used_makes_room() {
        let mut kept = Kept::default();
        for number in 0..KEPT_MAX as u64 {
            assert_eq!(kept.make_room(), None);
            kept.add(number, Bytes::new());
        }
        assert!(kept.find(0).is_some());
        assert_eq!(kept.make_room(), Some(1));
        assert_eq!(kept.make_room(), None);
        kept.add(1000, Bytes::from_static(b"note"));
        assert_eq!(kept.find(1), None);
        assert_eq!(kept.find(1000).map(|note| &note[..]), Some(&b"note"[..]));
        assert!(kept.find(0).is_some() && !kept.is_empty());
    }
}
