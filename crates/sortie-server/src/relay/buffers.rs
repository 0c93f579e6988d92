//! Buffers that idle sessions lend each other.
//!
//! A session that waits for its client holds no buffer; when something comes it takes one of its
//! thread's, and a thread keeps no more of them than `SPARE_MAX`.

use std::cell::RefCell;

use bytes::BytesMut;

/// Spare buffers of one thread.
const SPARE_MAX: usize = 64;

/// A buffer that grew beyond this is not kept, in bytes.
pub(super) const KEPT_MAX: usize = 64 << 10;

/// A buffer's room when it is new, in bytes: two reads.
const ROOM: usize = 32 << 10;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Gives `buffer` room, if it has none at all.
pub(super) fn borrow(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        *buffer = spare.unwrap_or_else(|| BytesMut::with_capacity(ROOM));
    }
}

/// Takes the room of an empty buffer back.
pub(super) fn give_back(buffer: &mut BytesMut) {
    if !buffer.is_empty() || buffer.capacity() == 0 {
        return;
    }
    let mut buffer = std::mem::take(buffer);
    // What was taken off its front comes back when nobody else has a part of it.
    buffer.reserve(1);
    if buffer.capacity() <= KEPT_MAX {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(buffer);
            }
        });
    }
}
