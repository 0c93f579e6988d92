//! Tags: names under which many values are invalidated at once.

/// What values have in common: a table, a tenant, a team. Named by text, kept as a hash that is
/// the same in every process; two tags with one hash cost each other misses.
///
/// # Examples
///
/// ```
/// use sortie::{Loaded, Tag};
///
/// const USERS: Tag = Tag::named("users");
/// let loaded = Loaded::from(4_200).tagged(USERS).tagged(Tag::named("team 7"));
/// assert_eq!(loaded.tags.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tag(u64);

impl Tag {
    /// The tag of this name.
    pub const fn named(name: &str) -> Self {
        // FNV-1a, whose bits are mixed once more.
        let (bytes, mut hash, mut place) = (name.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
        while place < bytes.len() {
            hash = (hash ^ bytes[place] as u64).wrapping_mul(0x0100_0000_01b3);
            place += 1;
        }
        Self((hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Its hash: for a cache that keeps tags outside this process.
    pub const fn number(self) -> u64 {
        self.0
    }
}
