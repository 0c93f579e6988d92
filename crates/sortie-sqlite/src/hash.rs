//! PostgreSQL's hash partitioning for one int8 column.

/// Returns the shard of a user: what PostgreSQL's hash partitioning with this modulus says.
pub(crate) fn shard_of(user_id: u32, shards: usize) -> usize {
    let (mut a, mut b, mut c) = (0xe933_553e_u32.wrapping_add(user_id), 0xc5da_07a8, 0xfdfd_95ed);
    let step = |x: u32, y: u32, by: u32| (x ^ y).wrapping_sub(y.rotate_left(by));
    c = step(c, b, 14);
    a = step(a, c, 11);
    b = step(b, a, 25);
    c = step(c, b, 16);
    a = step(a, c, 4);
    b = step(b, a, 14);
    c = step(c, b, 24);
    let hash = (u64::from(b) << 32 | u64::from(c)).wrapping_add(0x49a0_f4dd_15e5_a8e3);
    usize::try_from(hash % shards as u64).expect("a remainder is below its modulus")
}
