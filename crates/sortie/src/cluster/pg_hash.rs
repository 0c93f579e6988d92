//! PostgreSQL's hash for `PARTITION BY HASH`, bit for bit.
//!
//! Rows land on the shard that PostgreSQL itself would choose for a table partitioned with modulus
//! n, so that a server can check the map (`satisfies_hash_partition`). The constants and the
//! algorithm are those of `src/common/hashfn.c` (Bob Jenkins's lookup3 with PostgreSQL's own
//! rotations and seeding) and `src/include/catalog/partition.h` of PostgreSQL 15. All arithmetic
//! wraps.

/// `HASH_PARTITION_SEED`.
const SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// What `hash_combine64` adds for each key column. With one column it is all that combining does.
const COMBINE: u64 = 0x49a0_f4dd_15e5_a8e3;

/// The hash of an `int2`, `int4` or `int8` key; equal numbers hash alike whatever their width.
pub(super) fn int(value: i64) -> u64 {
    let [low, high] = halves(value.cast_unsigned());
    // Folding the sign in keeps the hash of a number that fits 32 bits equal to its `int4` hash.
    let folded = low ^ if value >= 0 { high } else { !high };
    let mut state = State::seeded(4);
    state.a = state.a.wrapping_add(folded);
    state.finish()
}

/// The hash of a `text` or `varchar` key in UTF-8, under a deterministic collation.
pub(super) fn text(value: &str) -> u64 {
    bytes(value.as_bytes())
}

/// The remainder's dividend: what the key's one column contributes.
pub(super) fn row(hash: u64) -> u64 {
    hash.wrapping_add(COMBINE)
}

fn bytes(bytes: &[u8]) -> u64 {
    // A key longer than 4 GiB can't exist: PostgreSQL's field limit is 1 GB.
    #[expect(clippy::cast_possible_truncation, reason = "the reference truncates as well")]
    let mut state = State::seeded(bytes.len() as u32);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        state.absorb(block, 0);
        state.mix();
    }
    // The lowest byte of the last word stands for the length, so the tail starts one byte up.
    state.absorb(blocks.remainder(), 1);
    state.finish()
}

struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn seeded(len: u32) -> Self {
        let init = 0x9e37_79b9_u32.wrapping_add(len).wrapping_add(3_923_095);
        let [low, high] = halves(SEED);
        let mut state = Self { a: init.wrapping_add(high), b: init.wrapping_add(low), c: init };
        state.mix();
        state
    }

    /// Adds up to 12 bytes as three little-endian words, the third one shifted up by `c_skip`
    /// bytes.
    fn absorb(&mut self, bytes: &[u8], c_skip: usize) {
        let word = |from: usize, skip: usize| {
            let to = bytes.len().min(from + 4 - skip);
            let part = bytes.get(from..to).unwrap_or_default();
            let mut word = [0; 4];
            word[skip..skip + part.len()].copy_from_slice(part);
            u32::from_le_bytes(word)
        };
        self.a = self.a.wrapping_add(word(0, 0));
        self.b = self.b.wrapping_add(word(4, 0));
        self.c = self.c.wrapping_add(word(8, c_skip));
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        mix_step(a, b, c, 4);
        mix_step(b, c, a, 6);
        mix_step(c, a, b, 8);
        mix_step(a, b, c, 16);
        mix_step(b, c, a, 19);
        mix_step(c, a, b, 4);
    }

    fn finish(mut self) -> u64 {
        let Self { a, b, c } = &mut self;
        final_step(c, *b, 14);
        final_step(a, *c, 11);
        final_step(b, *a, 25);
        final_step(c, *b, 16);
        final_step(a, *c, 4);
        final_step(b, *a, 14);
        final_step(c, *b, 24);
        (u64::from(*b) << 32) | u64::from(*c)
    }
}

fn mix_step(x: &mut u32, y: &mut u32, z: &mut u32, rotation: u32) {
    *x = x.wrapping_sub(*z) ^ z.rotate_left(rotation);
    *z = z.wrapping_add(*y);
}

fn final_step(x: &mut u32, y: u32, rotation: u32) {
    *x = (*x ^ y).wrapping_sub(y.rotate_left(rotation));
}

/// The low and the high 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "taking a word apart")]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[cfg(test)]
mod tests;
