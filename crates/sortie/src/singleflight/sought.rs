//! A key that is looked for: owned already, or owned only if it is to be kept.

use std::borrow::Borrow;

/// What a caller asks for.
pub(super) trait Sought<K> {
    fn is(&self, key: &K) -> bool;

    fn own(self) -> K;
}

/// A key that the caller gives away.
pub(super) struct Owned<K>(pub(super) K);

/// A key that the caller keeps: it is copied if the caller leads or runs alone.
pub(super) struct Borrowed<'a, Q: ?Sized>(pub(super) &'a Q);

/// A key that the caller keeps for another arrival, unless it is to be kept in the table.
pub(super) struct Lent<'a, K>(pub(super) &'a mut Option<K>);

impl<K: Eq> Sought<K> for Lent<'_, K> {
    fn is(&self, key: &K) -> bool {
        self.0.as_ref() == Some(key)
    }

    fn own(self) -> K {
        self.0.take().expect("a key that was taken is not sought again")
    }
}

impl<K: Eq> Sought<K> for Owned<K> {
    fn is(&self, key: &K) -> bool {
        self.0 == *key
    }

    fn own(self) -> K {
        self.0
    }
}

impl<K, Q> Sought<K> for Borrowed<'_, Q>
where
    K: Borrow<Q>,
    Q: Eq + ToOwned<Owned = K> + ?Sized,
{
    fn is(&self, key: &K) -> bool {
        self.0 == key.borrow()
    }

    fn own(self) -> K {
        self.0.to_owned()
    }
}
