//! The scripts themselves, by what they are about. Each function says in its list what a client
//! does; what PostgreSQL answers is asked of PostgreSQL.

pub(super) mod copy;
pub(super) mod errors;
pub(super) mod extended;
pub(super) mod large;
pub(super) mod others;
pub(super) mod pipelines;
pub(super) mod portals;
pub(super) mod session;
pub(super) mod simple;
pub(super) mod startup;
pub(super) mod violations;

use crate::batch::Batch;

/// An empty batch.
fn batch() -> Batch {
    Batch::new()
}

/// Parse, Bind, Describe, Execute and Sync of a statement without parameters.
fn extended(text: &str) -> Batch {
    batch().statement(text, &[]).sync()
}
