//! The clients that are logging in, so that whoever floods the door shuts out nobody else.
//!
//! # Invariants
//!
//! 1. A client that has proved who it is can't be turned out.
//! 2. Turning one out is remembered until it has gone: nobody is turned out twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Clients that are logging in, the oldest first. Clones share them.
///
/// It is bounded by whoever takes connections on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logins(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A client's place among them, left on drop.
#[derive(Debug)]
pub(crate) struct Login {
    logins: Logins,
    number: u64,
    turned_out: oneshot::Receiver<()>,
}

impl Logins {
    /// A client begins to log in.
    pub(crate) fn begin(&self) -> Login {
        let (sender, turned_out) = oneshot::channel();
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.waiting.insert(number, sender);
        drop(table);
        Login { logins: self.clone(), number, turned_out }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.table().waiting.len()
    }

    /// Turns out the one that has been at it for the longest time. Returns whether there is one.
    pub(crate) fn turn_out_oldest(&self) -> bool {
        let oldest = self.table().waiting.pop_first();
        // A receiver that is gone has just logged in, or left.
        oldest.is_some_and(|(_number, sender)| sender.send(()).is_ok())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    /// Resolves when this client has to make room.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn turned_out(&mut self) {
        // The sender is dropped with this place alone, or after it has sent.
        (&mut self.turned_out).await.ok();
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.logins.table().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room_and_nobody_twice() {
        let logins = Logins::default();
        assert!(!logins.turn_out_oldest());
        let (gone, mut one, mut two) = (logins.begin(), logins.begin(), logins.begin());
        drop(gone);
        assert!(logins.turn_out_oldest());
        one.turned_out().await;
        assert!(logins.turn_out_oldest());
        two.turned_out().await;
        assert!(!logins.turn_out_oldest());
        drop((one, two));
        assert!(logins.table().waiting.is_empty());
    }
}
