//! Portals whose execution leaves something.

use bytes::Bytes;

use super::expect::Left;

/// Those that may be there.
#[derive(Debug, Default)]
pub(super) struct Portals(Vec<Portal>);

#[derive(Debug)]
struct Portal {
    name: Bytes,
    left: Left,
    /// Markers that are awaited and stand before it: what ends with one of them is not its
    /// transaction.
    ahead: usize,
}

impl Portals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What running the portal of this name leaves.
    pub(super) fn left(&self, name: &[u8]) -> Option<&Left> {
        self.0.iter().find(|portal| portal.name == name).map(|portal| &portal.left)
    }

    /// No portal of this name leaves anything any more.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.0.retain(|portal| portal.name != name);
    }

    /// A portal is bound, of a name that was forgotten, behind so many markers.
    pub(super) fn bind(&mut self, name: &[u8], left: Left, ahead: usize) {
        self.0.push(Portal { name: Bytes::copy_from_slice(name), left, ahead });
    }

    /// So many markers are awaited no more that were in front: the server skips them.
    pub(super) fn skip(&mut self, markers: usize) {
        for portal in &mut self.0 {
            portal.ahead = portal.ahead.saturating_sub(markers);
        }
    }

    /// The marker in front has come; outside of a transaction no portal is left that stands before
    /// it.
    pub(super) fn ready(&mut self, is_idle: bool) {
        if is_idle {
            self.0.retain(|portal| portal.ahead > 0);
        }
        self.skip(1);
    }
}
