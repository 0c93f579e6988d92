//! Those who wait for a lease that another process holds.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Keys with waiters. Beyond it one waits by looking again and again only.
const WAITED_MAX: usize = 10_000;

#[derive(Default)]
pub(crate) struct Waits(Mutex<HashMap<Arc<[u8]>, Arc<Notify>>>);

/// One waiter's place; the key's is removed with its last waiter.
pub(crate) struct Seat<'w> {
    waits: &'w Waits,
    key: Arc<[u8]>,
    notify: Arc<Notify>,
}

impl Waits {
    pub(crate) fn seat(&self, key: &Arc<[u8]>) -> Seat<'_> {
        let mut waited = self.0.lock();
        let notify = match waited.get(key) {
            Some(notify) => Arc::clone(notify),
            None if waited.len() >= WAITED_MAX => Arc::default(),
            None => Arc::clone(waited.entry(Arc::clone(key)).or_default()),
        };
        Seat { waits: self, key: Arc::clone(key), notify }
    }

    pub(crate) fn wake(&self, key: &[u8]) {
        let waited = self.0.lock().remove(key);
        if let Some(notify) = waited {
            notify.notify_waiters();
        }
    }

    pub(crate) fn wake_all(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for notify in all.into_values() {
            notify.notify_waiters();
        }
    }
}

impl Seat<'_> {
    pub(crate) fn notify(&self) -> &Notify {
        &self.notify
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut waited = self.waits.0.lock();
        // The table's and this one's.
        let last = |notify: &Arc<Notify>| {
            Arc::ptr_eq(notify, &self.notify) && Arc::strong_count(notify) <= 2
        };
        if waited.get(&self.key).is_some_and(last) {
            waited.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_with_its_last_waiter() {
        let (waits, key) = (Waits::default(), Arc::from(&b"k"[..]));
        let (one, two) = (waits.seat(&key), waits.seat(&key));
        drop(one);
        assert_eq!(waits.0.lock().len(), 1);
        drop(two);
        assert!(waits.0.lock().is_empty());
    }
}
