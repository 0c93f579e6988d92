//! A pool to begin with.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use sortie_postgres::{ConnInfo, ConnectError, Connection, Login};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Names one connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ConnId(u32);

/// What the last session left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Residue {
    pub(crate) owner: u64,
    pub(crate) version: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ConnInfo,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<(Login, ConnId, Option<Residue>, Connection)>>,
    next: AtomicU32,
}

#[derive(Debug)]
pub(crate) struct Pooled {
    server: Server,
    login: Login,
    id: ConnId,
    residue: Option<Residue>,
    connection: Option<Connection>,
    retired: bool,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("no connection became free in time")]
    Late,
    #[error("{0}")]
    Refused(ConnectError),
}

impl Server {
    pub(crate) fn new(info: ConnInfo, connections_max: usize) -> Self {
        Self(Arc::new(Inner {
            info,
            places: Arc::new(Semaphore::new(connections_max)),
            idle: Mutex::default(),
            next: AtomicU32::new(1),
        }))
    }

    pub(crate) async fn checkout(
        &self,
        login: &Login,
        prefer: Option<ConnId>,
        deadline: Instant,
    ) -> Result<Pooled, PoolError> {
        let place = timeout_at(deadline, Arc::clone(&self.0.places).acquire_owned()).await;
        let place = place.map_err(|_| PoolError::Late)?.map_err(|_| PoolError::Late)?;
        let found = {
            let mut idle = self.0.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            idle.retain(|it| !it.3.is_broken());
            let at = idle.iter().position(|it| Some(it.1) == prefer && it.0 == *login);
            let at = at.or_else(|| idle.iter().position(|it| it.0 == *login));
            at.map(|at| idle.remove(at))
        };
        let (id, residue, connection) = match found {
            Some((_, id, residue, connection)) => (id, residue, connection),
            None => {
                let id = ConnId(self.0.next.fetch_add(1, Ordering::Relaxed));
                let opened = Connection::open(&self.0.info, login).await;
                (id, None, opened.map_err(PoolError::Refused)?)
            }
        };
        Ok(Pooled {
            server: self.clone(),
            login: login.clone(),
            id,
            residue,
            connection: Some(connection),
            retired: false,
            _place: place,
        })
    }
}

impl Pooled {
    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    pub(crate) fn residue(&self) -> Option<Residue> {
        self.residue
    }

    pub(crate) fn set_residue(&mut self, residue: Option<Residue>) {
        self.residue = residue;
    }

    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if connection.is_idle() && !self.retired {
            let mut idle =
                self.server.0.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            idle.push((self.login.clone(), self.id, self.residue, connection));
        }
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}
