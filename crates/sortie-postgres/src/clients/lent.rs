//! Clients that can be lent to a query.

use std::ops::Deref;
use std::sync::Arc;

use tokio_postgres::Client;

/// What holds a client for as long as a query needs it, usually a pool's guard.
///
/// One query at a time may use the client: a cancel reaches whatever runs on its connection.
pub trait Lend: Send + Sync + 'static {
    /// Returns the client.
    fn client(&self) -> &Client;

    /// Gives the client up: its connection must not be used for another query.
    ///
    /// Called when its query could not be ended in time. The default drops the holder, which is
    /// right where that closes the connection; a pool's guard is taken out of its pool first.
    fn close(self)
    where
        Self: Sized,
    {
        drop(self);
    }
}

impl Lend for Client {
    fn client(&self) -> &Client {
        self
    }
}

#[cfg(feature = "deadpool-postgres")]
impl Lend for deadpool_postgres::Object {
    fn client(&self) -> &Client {
        self
    }

    fn close(self) {
        drop(Self::take(self));
    }
}

/// A client on loan to one query. Derefs to [`Client`].
pub struct Lent<C>(pub(super) Arc<C>);

impl<C: Lend> Deref for Lent<C> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.client()
    }
}

impl<C> std::fmt::Debug for Lent<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}
