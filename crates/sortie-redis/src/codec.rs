//! Keys and values as bytes.

/// Turns keys and values into bytes and values back.
///
/// All processes that share a cache must agree on it: give the cache another name when the form
/// of its values changes.
///
/// # Examples
///
/// ```
/// use sortie_redis::Codec;
///
/// struct Balances;
///
/// impl Codec<u64, i64> for Balances {
///     fn key(&self, user: &u64) -> Vec<u8> {
///         user.to_be_bytes().to_vec()
///     }
///
///     fn encode(&self, balance: &i64) -> Vec<u8> {
///         balance.to_be_bytes().to_vec()
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Option<i64> {
///         Some(i64::from_be_bytes(bytes.try_into().ok()?))
///     }
/// }
/// ```
pub trait Codec<K, V>: Send + Sync + 'static {
    /// The key's bytes: different keys give different bytes.
    fn key(&self, key: &K) -> Vec<u8>;

    /// The value's bytes.
    fn encode(&self, value: &V) -> Vec<u8>;

    /// The value of these bytes; `None` if they are none, which makes the look-up a miss.
    fn decode(&self, bytes: &[u8]) -> Option<V>;
}
