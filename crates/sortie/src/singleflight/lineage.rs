//! Which loads the current code runs inside of: what makes reentrancy an error, not a deadlock.
//!
//! The stack is a thread-local that is filled while a load is polled, and carried along when a load
//! moves to a task of its own. A task that a load spawns by other means starts with an empty one.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// One load on the stack.
#[derive(Clone)]
pub(super) struct Frame {
    /// The address of the registry, unique while its load runs.
    registry: usize,
    id: Id,
}

#[derive(Clone)]
enum Id {
    Flight(u64),
    /// A load outside the table has no flight to be known by, so its key is compared.
    Solo(Arc<dyn Any + Send + Sync>),
}

impl Frame {
    pub(super) fn flight(registry: usize, flight: u64) -> Self {
        Self { registry, id: Id::Flight(flight) }
    }

    pub(super) fn solo(registry: usize, key: Arc<dyn Any + Send + Sync>) -> Self {
        Self { registry, id: Id::Solo(key) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("registry", &self.registry).finish_non_exhaustive()
    }
}

thread_local! {
    static STACK: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Whether the current code runs inside any load at all.
pub(super) fn is_empty() -> bool {
    STACK.with_borrow(Vec::is_empty)
}

/// Whether the current code runs inside this flight.
pub(super) fn inside_flight(registry: usize, flight: u64) -> bool {
    STACK.with_borrow(|stack| {
        stack.iter().any(|frame| {
            frame.registry == registry && matches!(frame.id, Id::Flight(id) if id == flight)
        })
    })
}

/// Whether the current code runs inside a solo load of this key.
pub(super) fn inside_solo<K: Eq + 'static>(registry: usize, key: &K) -> bool {
    // The keys are compared outside the borrow, for their `Eq` is the user's code.
    ancestors().iter().any(|frame| match &frame.id {
        Id::Solo(solo) if frame.registry == registry => solo.downcast_ref::<K>() == Some(key),
        _ => false,
    })
}

/// The stack, to be carried to another task.
pub(super) fn ancestors() -> Vec<Frame> {
    STACK.with_borrow(Vec::clone)
}

/// Runs `work` inside the frames that `push` adds.
pub(super) fn inside<R>(push: impl FnOnce(&mut Vec<Frame>), work: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            STACK.with_borrow_mut(|stack| stack.truncate(self.0));
        }
    }

    let depth = STACK.with_borrow_mut(|stack| {
        let depth = stack.len();
        push(stack);
        depth
    });
    let _restore = Restore(depth);
    work()
}
