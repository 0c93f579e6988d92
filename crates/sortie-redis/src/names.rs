//! Names in Redis: of entries, buckets and the channel.
//!
//! Every key lies in one of [`BUCKETS`] *buckets*, by a hash that all processes share. The bucket's
//! name is the hash tag of its keys: an entry and the counts by which it may be outdated lie in one
//! slot, so one script sees both. Everything is outdated by as many scripts as there are buckets.

use std::sync::Arc;

/// Part of the form of the data: all processes must have the same. A set of them fits a `u64`.
pub(crate) const BUCKETS: u8 = 64;

#[derive(Clone, Debug)]
pub(crate) struct Names {
    cache: Arc<str>,
    pub(crate) channel: Arc<str>,
}

/// One key's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The key's own bytes.
    pub(crate) key: Arc<[u8]>,
    pub(crate) bucket: u8,
    pub(crate) hash: u64,
}

impl Names {
    pub(crate) fn new(cache: &str) -> Self {
        Self { cache: cache.into(), channel: format!("sortie:{cache}").into() }
    }

    pub(crate) fn bucket(&self, bucket: u8) -> Vec<u8> {
        format!("sortie:{{{}:{bucket:02x}}}", self.cache).into_bytes()
    }

    pub(crate) fn entry(&self, place: &Place) -> Vec<u8> {
        let mut name = self.bucket(place.bucket);
        name.push(b':');
        name.extend_from_slice(&place.key);
        name
    }
}

impl Place {
    pub(crate) fn of(key: Vec<u8>) -> Self {
        let hash = hash(&key);
        let bucket = (hash >> 58) as u8;
        Self { key: key.into(), bucket, hash }
    }
}

/// FNV-1a, whose bits are mixed once more: it must be the same in every process and version.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_key_lies_in_one_slot() {
        let names = Names::new("balances");
        let place = Place::of(b"a}b".to_vec());
        let (entry, bucket) = (names.entry(&place), names.bucket(place.bucket));
        assert!(entry.starts_with(&bucket) && bucket.ends_with(b"}"), "{place:?}");
        assert_eq!(entry.iter().position(|&byte| byte == b'}'), Some(bucket.len() - 1));
    }

    #[test]
    fn places_are_part_of_the_form_of_the_data() {
        // Computed elsewhere.
        assert_eq!((hash(b""), hash(b"42")), (0x8570_e254_d5cb_36d5, 0x567d_2b68_4ba7_cef4));
        let mut seen = [0_u32; BUCKETS as usize];
        for key in 0..6_400_u32 {
            seen[usize::from(Place::of(key.to_be_bytes().to_vec()).bucket)] += 1;
        }
        assert!(seen.iter().all(|&count| (50..200).contains(&count)), "{seen:?}");
    }
}
