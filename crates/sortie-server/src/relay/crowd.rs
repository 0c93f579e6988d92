//! How many sessions each role of a cluster has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sessions by role. Clones share the counts. A role without sessions is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<Mutex<HashMap<Box<str>, u32>>>);

/// One session that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    crowd: Crowd,
    role: Box<str>,
}

impl Crowd {
    /// Counts one more session of a role, unless there are `connections_max`.
    pub(super) fn join(&self, role: &str, connections_max: u32) -> Option<Counted> {
        let mut counts = self.counts();
        let count = counts.get(role).copied().unwrap_or(0);
        if count >= connections_max {
            return None;
        }
        counts.insert(role.into(), count + 1);
        drop(counts);
        Some(Counted { crowd: self.clone(), role: role.into() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Box<str>, u32>> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        match counts.get_mut(&self.role) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.role)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_its_own_limit_and_leaves_nothing() {
        let crowd = Crowd::default();
        let (one, two) = (crowd.join("a", 2).unwrap(), crowd.join("a", 2).unwrap());
        assert!(crowd.join("a", 2).is_none());
        assert!(crowd.join("b", 0).is_none());
        let other = crowd.join("b", 1).unwrap();
        drop(one);
        let three = crowd.join("a", 2).unwrap();
        assert!(crowd.join("a", 2).is_none());
        drop((two, three, other));
        assert!(crowd.counts().is_empty());
    }
}
