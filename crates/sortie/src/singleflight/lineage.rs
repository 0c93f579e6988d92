//! Which loads the current code runs inside of: what makes reentrancy an error, not a deadlock.
//!
//! A circle may also be closed by waiting for a load that somebody else began: so who waits for
//! whom is kept in one place for the whole process. A load waits by its call's *party*, and a party
//! for each flight that could answer it, those that begin later among them: it may be left to any
//! of them. Only calls from inside of loads look there.
//!
//! The stack is a thread-local that is filled while a load is polled, and carried along when a load
//! moves to a task of its own. A task that a load spawns by other means starts with an empty one.
//! Most loads are called from inside of none: their one frame is kept apart, where it costs nothing
//! to come and go.

use std::any::Any;
use std::cell::{Cell, RefCell};
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

/// Who waits, or is waited for, in a registry.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Node {
    Flight(usize, u64),
    Party(usize, u64),
}

/// Who waits for whom. Locked inside a shard's lock, and nothing is locked inside it.
static WAITS: Mutex<BTreeMap<Node, Vec<Node>>> = Mutex::new(BTreeMap::new());

/// What the current code runs inside of.
#[derive(Clone, Copy)]
enum Inside {
    Nothing,
    /// One flight of a registry. The stack is empty.
    One(usize, u64),
    /// What the stack says.
    Stack,
}

thread_local! {
    static INSIDE: Cell<Inside> = const { Cell::new(Inside::Nothing) };
    static STACK: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Gives the current code's frames to `look`, the outermost first.
fn with_frames<R>(look: impl FnOnce(&[Frame]) -> R) -> R {
    match INSIDE.get() {
        Inside::Nothing => look(&[]),
        Inside::One(registry, flight) => look(&[Frame::flight(registry, flight)]),
        Inside::Stack => STACK.with_borrow(|stack| look(stack)),
    }
}

/// Whether the current code runs inside any load at all.
#[inline]
pub(super) fn is_empty() -> bool {
    match INSIDE.get() {
        Inside::Nothing => true,
        Inside::One(..) => false,
        Inside::Stack => STACK.with_borrow(Vec::is_empty),
    }
}

/// Whether the current code runs inside this flight.
pub(super) fn inside_flight(registry: usize, flight: u64) -> bool {
    with_frames(|frames| {
        frames.iter().any(|frame| {
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

/// The loads that the current code runs inside of wait with a party, until this is dropped.
pub(super) struct Waits {
    inside: Vec<Node>,
    party: Node,
}

impl Waits {
    /// Refuses a wait that would close a circle: for a flight whose load, by way of others maybe,
    /// waits for one that the current code runs inside of.
    pub(super) fn enter(
        registry: usize,
        party: u64,
        flights: impl Iterator<Item = u64>,
    ) -> Option<Self> {
        let this = Self::of(registry, party);
        let flights: Vec<_> = flights.map(|flight| Node::Flight(registry, flight)).collect();
        let mut waits = WAITS.lock();
        let (mut open, mut seen) = (flights.clone(), BTreeSet::new());
        // Each is looked at once.
        while let Some(node) = open.pop() {
            if this.inside.contains(&node) {
                return None;
            }
            if seen.insert(node) {
                open.extend(waits.get(&node).into_iter().flatten());
            }
        }
        this.note(&flights, &mut waits);
        Some(this)
    }

    /// Notes the wait of a leader for its own flight: one inside of the other already.
    pub(super) fn lead(registry: usize, party: u64, flights: impl Iterator<Item = u64>) -> Self {
        let this = Self::of(registry, party);
        let flights: Vec<_> = flights.map(|flight| Node::Flight(registry, flight)).collect();
        this.note(&flights, &mut WAITS.lock());
        this
    }

    fn of(registry: usize, party: u64) -> Self {
        let flight = |frame: &Frame| match frame.id {
            Id::Flight(id) => Some(Node::Flight(frame.registry, id)),
            Id::Solo(_) => None,
        };
        let inside = with_frames(|frames| frames.iter().filter_map(flight).collect());
        Self { inside, party: Node::Party(registry, party) }
    }

    fn note(&self, flights: &[Node], waits: &mut BTreeMap<Node, Vec<Node>>) {
        for node in &self.inside {
            waits.entry(*node).or_default().push(self.party);
        }
        let theirs = waits.entry(self.party).or_default();
        theirs.extend(flights);
        theirs.sort_unstable();
        theirs.dedup();
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut waits = WAITS.lock();
        for node in &self.inside {
            let Some(theirs) = waits.get_mut(node) else { continue };
            if let Some(at) = theirs.iter().position(|it| *it == self.party) {
                theirs.swap_remove(at);
            }
            if theirs.is_empty() {
                waits.remove(node);
            }
        }
    }
}

/// A party with which loads wait. With it goes what is noted of it.
pub(super) struct Noted(Node);

impl Noted {
    pub(super) fn party(registry: usize, party: u64) -> Self {
        Self(Node::Party(registry, party))
    }

    /// A flight has begun that the party may be left to. It waits for nothing yet, so it closes no
    /// circle.
    pub(super) fn may_be_left_to(&self, flight: u64) {
        let Self(Node::Party(registry, _) | Node::Flight(registry, _)) = self;
        WAITS.lock().entry(self.0).or_default().push(Node::Flight(*registry, flight));
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        WAITS.lock().remove(&self.0);
    }
}

/// The stack, to be carried to another task.
pub(super) fn ancestors() -> Vec<Frame> {
    with_frames(<[Frame]>::to_vec)
}

/// Runs `work` inside a flight.
#[inline]
pub(super) fn within<R>(registry: usize, flight: u64, work: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            INSIDE.set(Inside::Nothing);
        }
    }

    if !matches!(INSIDE.get(), Inside::Nothing) {
        return inside(|stack| stack.push(Frame::flight(registry, flight)), work);
    }
    INSIDE.set(Inside::One(registry, flight));
    let _restore = Restore;
    work()
}

/// Runs `work` inside the frames that `push` adds.
pub(super) fn inside<R>(push: impl FnOnce(&mut Vec<Frame>), work: impl FnOnce() -> R) -> R {
    struct Restore(Inside, usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            STACK.with_borrow_mut(|stack| stack.truncate(self.1));
            INSIDE.set(self.0);
        }
    }

    let before = INSIDE.get();
    let depth = STACK.with_borrow_mut(|stack| {
        let depth = stack.len();
        if let Inside::One(registry, flight) = before {
            stack.push(Frame::flight(registry, flight));
        }
        push(stack);
        depth
    });
    INSIDE.set(Inside::Stack);
    let _restore = Restore(before, depth);
    work()
}
