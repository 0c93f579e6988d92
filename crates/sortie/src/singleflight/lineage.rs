//! Which loads the current code runs inside of: what makes reentrancy an error, not a deadlock.
//!
//! A circle may also be closed by waiting for a load that somebody else began: so which flights
//! wait for which is kept in one place for the whole process. Only calls from inside of loads look
//! there.
//!
//! The stack is a thread-local that is filled while a load is polled, and carried along when a load
//! moves to a task of its own. A task that a load spawns by other means starts with an empty one.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

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

/// A flight of a registry.
type Node = (usize, u64);

/// Which flights wait for which. Locked inside a shard's lock, and nothing is locked inside it.
static WAITS: Mutex<BTreeMap<Node, Vec<Node>>> = Mutex::new(BTreeMap::new());

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
pub(super) fn inside_solo<K: 'static>(registry: usize, is: impl Fn(&K) -> bool) -> bool {
    // The keys are compared outside the borrow, for their `Eq` is the user's code.
    ancestors().iter().any(|frame| match &frame.id {
        Id::Solo(solo) if frame.registry == registry => solo.downcast_ref::<K>().is_some_and(&is),
        _ => false,
    })
}

/// The loads that the current code runs inside of wait for these flights, until this is dropped.
pub(super) struct Waits {
    inside: Vec<Node>,
    targets: Vec<Node>,
}

impl Waits {
    /// Refuses a wait that would close a circle: for a flight whose load, by way of others maybe,
    /// waits for one that the current code runs inside of.
    pub(super) fn enter(registry: usize, flights: impl Iterator<Item = u64>) -> Option<Self> {
        let flight = |frame: &Frame| match frame.id {
            Id::Flight(id) => Some((frame.registry, id)),
            Id::Solo(_) => None,
        };
        let inside: Vec<_> = STACK.with_borrow(|stack| stack.iter().filter_map(flight).collect());
        let targets: Vec<_> = flights.map(|flight| (registry, flight)).collect();
        let mut waits = WAITS.lock();
        let (mut open, mut seen) = (targets.clone(), BTreeSet::new());
        // Each flight is looked at once.
        while let Some(node) = open.pop() {
            if inside.contains(&node) {
                return None;
            }
            if seen.insert(node) {
                open.extend(waits.get(&node).into_iter().flatten());
            }
        }
        for node in &inside {
            waits.entry(*node).or_default().extend(&targets);
        }
        Some(Self { inside, targets })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut waits = WAITS.lock();
        for node in &self.inside {
            let Some(theirs) = waits.get_mut(node) else { continue };
            for target in &self.targets {
                if let Some(at) = theirs.iter().position(|it| it == target) {
                    theirs.swap_remove(at);
                }
            }
            if theirs.is_empty() {
                waits.remove(node);
            }
        }
    }
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
