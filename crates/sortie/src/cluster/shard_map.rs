//! Which shard owns a key.

use std::borrow::Cow;
use std::fmt;

use super::pg_hash;

/// One shard of a cluster: its number, counted from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(u32);

/// The value of a row's key column, which decides the shard that owns the row.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ShardKey<'a> {
    /// An `int2`, `int4` or `int8`: equal numbers route alike, whatever the width.
    Int(i64),
    /// A `text` or `varchar` in UTF-8, under a deterministic collation.
    Text(Cow<'a, str>),
}

/// The rule that says which shard owns a key.
///
/// # Examples
///
/// ```
/// use sortie::ShardMap;
///
/// let map = ShardMap::pg_hash(3);
/// assert_eq!(map.shard_of(42).index(), 0);
/// assert_eq!(map.shard_of("hello").index(), 1);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShardMap {
    shards: u32,
}

impl ShardId {
    /// Names the shard with this number.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the shard's number.
    pub const fn index(self) -> u32 {
        self.0
    }
}

impl ShardMap {
    /// Creates PostgreSQL's own rule for `PARTITION BY HASH`: shard `r` owns what the partition
    /// `FOR VALUES WITH (MODULUS shards, REMAINDER r)` would hold.
    ///
    /// A server can check it: `satisfies_hash_partition(table, shards, r, key)`.
    ///
    /// # Panics
    ///
    /// Panics if `shards` is 0.
    pub const fn pg_hash(shards: u32) -> Self {
        assert!(shards > 0, "a cluster has at least one shard");
        Self { shards }
    }

    /// Returns the shard that owns `key`.
    pub fn shard_of<'k>(&self, key: impl Into<ShardKey<'k>>) -> ShardId {
        let hash = match key.into() {
            ShardKey::Int(value) => pg_hash::int(value),
            ShardKey::Text(value) => pg_hash::text(&value),
        };
        #[expect(clippy::cast_possible_truncation, reason = "less than its divisor, a `u32`")]
        let remainder = (pg_hash::row(hash) % u64::from(self.shards)) as u32;
        ShardId(remainder)
    }

    /// Returns every shard, in order.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardId> + Clone + use<> {
        (0..self.shards).map(ShardId)
    }
}

/// The shard's number.
impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<i16> for ShardKey<'_> {
    fn from(value: i16) -> Self {
        Self::Int(value.into())
    }
}

impl From<i32> for ShardKey<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for ShardKey<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for ShardKey<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value.into())
    }
}

impl<'a> From<&'a String> for ShardKey<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for ShardKey<'_> {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}
