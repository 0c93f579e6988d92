//! What is known of a statement that may be shared.

use std::sync::Arc;

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
    pub(crate) text: Arc<str>,
    /// The types that were declared.
    pub(crate) oids: Arc<[u32]>,
    /// It is put together from several shards, by this form of it.
    pub(crate) spread: Option<Prepared>,
    pub(crate) has_params: bool,
    /// It is known that a server takes it.
    pub(crate) is_valid: bool,
}
