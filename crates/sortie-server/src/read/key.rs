//! What makes two reads the same.
//!
//! | part | why |
//! |---|---|
//! | database, user | their rights and their tables |
//! | session parameters | all that are not proven harmless: they may change names and texts |
//! | text, as sent | comments may be meant; whitespace is not worth a second form |
//! | declared types, formats, values | they decide types and constants; NULL is not empty |
//! | result formats | the bytes of every value |
//! | limit of an Execute | how many of the rows |
//! | shards | who was asked |
//! | floors | how fresh it is, for who has found another one too old |
//!
//! Keys are compared in full, so that a collision of hashes never gives one reader another's rows.

use std::sync::Arc;

use sortie::ShardId;

use super::Who;
use super::fresh::Floors;
use crate::sql::Identity;

/// The exact key of a read.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct ReadKey {
    pub(super) who: Who,
    pub(super) identity: Identity,
    /// True for each column that is sent in the binary format.
    pub(super) binary: Arc<[bool]>,
    pub(super) shape: Shape,
    pub(super) shards: Arc<[ShardId]>,
    pub(super) floors: Floors,
}

/// In which words a statement is asked and answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Shape {
    /// In the endpoint's own: the answer is the same whatever way it was asked for.
    Merged,
    /// In the client's, and not run: what it takes and gives.
    Described,
    /// In the client's, by a simple query.
    Simple,
    /// In the client's, by the extended protocol.
    Extended {
        /// How many rows are wanted at most; 0 means all.
        rows_max: u32,
    },
}
