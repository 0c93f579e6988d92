//! The connections of a server one by one, for whoever shows them to people.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::slot::{ConnId, State};
use super::{Server, Shared};

/// One connection, or the place of one that is being opened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolConnection {
    /// What tells it from every other of this server.
    pub id: ConnId,
    /// The role that it is, or will be, logged in as.
    pub user: Arc<str>,
    /// The name that it gave itself, if it did (`application_name`).
    pub application: Option<Arc<str>>,
    /// What it does.
    pub doing: PoolUse,
    /// The server's process, if it is open.
    pub process: Option<i32>,
    /// How long it has been open.
    pub age: Option<Duration>,
}

/// What becomes of a connection at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PoolUse {
    /// It is being opened.
    Connecting,
    /// Nobody uses it.
    Idle,
    /// Somebody uses it.
    InUse,
    /// Its last query is being stopped.
    Quarantined,
}

/// Since when connections are open, and which process each leads to. As long as the longest list
/// of connections ever was.
#[derive(Debug, Default)]
pub(super) struct Opened(Mutex<HashMap<u32, (u32, i32, Instant)>>);

impl Opened {
    /// A connection is open.
    pub(super) fn enter(&self, id: ConnId, process: i32, now: Instant) {
        // Whoever had the place before is gone.
        self.0.lock().insert(id.slot, (id.serial, process, now));
    }

    fn of(&self, id: ConnId) -> Option<(i32, Instant)> {
        let known = *self.0.lock().get(&id.slot)?;
        (known.0 == id.serial).then_some((known.1, known.2))
    }
}

impl Server {
    /// Returns every connection there is, in no order that means anything.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie_postgres::{PoolConfig, Server};
    ///
    /// let info = "postgres://reader@127.0.0.1:5432/bank".parse()?;
    /// let server = Server::new(info, PoolConfig::default());
    /// assert!(server.connections().is_empty());
    /// # Ok::<(), sortie_postgres::ConnInfoError>(())
    /// ```
    pub fn connections(&self) -> Vec<PoolConnection> {
        let Shared { book, opened, .. } = &*self.0;
        let mut book = book.lock();
        book.0.look();
        let slots = (0_u32..).zip(&book.0.slots);
        let shown = slots.filter_map(|(slot, place)| {
            let doing = match place.state {
                State::Vacant => return None,
                State::Connecting => PoolUse::Connecting,
                State::Idle => PoolUse::Idle,
                State::InUse => PoolUse::InUse,
                State::Quarantined => PoolUse::Quarantined,
            };
            let login = &book.0.racks.get(place.rack as usize)?.key;
            let parameters = login.parameters.iter();
            let is_name = |name: &str| name.eq_ignore_ascii_case("application_name");
            let named = parameters.rev().find(|(name, _)| is_name(name));
            let id = ConnId { slot, serial: place.serial };
            let known = opened.of(id).filter(|_| doing != PoolUse::Connecting);
            Some(PoolConnection {
                id,
                user: login.user.as_str().into(),
                application: named.map(|(_, value)| value.as_str().into()),
                doing,
                process: known.map(|(process, _)| process),
                age: known.map(|(_, since)| since.elapsed()),
            })
        });
        shown.collect()
    }
}
