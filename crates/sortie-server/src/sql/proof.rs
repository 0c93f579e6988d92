//! What is known of a statement that may be shared.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Canonical, Prepared};

/// A statement that may be shared, as one client sent it.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) judged: Arc<Shareable>,
    /// The text as it was sent.
    pub(crate) text: Arc<str>,
    pub(crate) canonical: Arc<Canonical>,
}

/// What is shared by all who send a statement with this canonical text.
#[derive(Debug)]
pub(crate) struct Shareable {
    /// No other one has it, and this one no other.
    pub(crate) number: u64,
    pub(crate) text: Arc<str>,
    /// The types that were declared.
    pub(crate) oids: Arc<[u32]>,
    /// It is put together from several shards, by this form of it.
    pub(crate) spread: Option<Prepared>,
    pub(crate) has_params: bool,
    /// It is known that a server takes it.
    pub(crate) is_valid: bool,
    /// A server had something to say beside an answer.
    pub(crate) has_notices: AtomicBool,
}

impl Shareable {
    /// A number that was never given before.
    pub(crate) fn number() -> u64 {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        NUMBERS.fetch_add(1, Ordering::Relaxed)
    }

    /// The same for the same text and types, and others only by chance.
    pub(crate) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.text, &self.oids).hash(&mut hasher);
        hasher.finish()
    }
}
