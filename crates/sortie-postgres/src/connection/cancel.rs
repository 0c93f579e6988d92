//! What a session is cancelled with.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::Place;
use crate::startup::Startup;

/// The key to one session's statements, and where it must be shown. Cheap to clone.
#[derive(Clone)]
pub struct CancelKey {
    process: i32,
    secret: Bytes,
    place: Arc<Place>,
}

impl CancelKey {
    pub(super) fn new(process: i32, secret: &[u8], place: Arc<Place>) -> Self {
        // Not a slice of the read buffer, which it would pin.
        Self { process, secret: Bytes::copy_from_slice(secret), place }
    }

    /// The number of the session's process on the server.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// The secret: four bytes, or up to 256.
    pub fn secret(&self) -> &Bytes {
        &self.secret
    }

    /// Asks the server, on a connection of its own to the same address and encrypted like the
    /// session's, to cancel whatever the session runs; and waits until the server has closed that
    /// connection. From then on the request hits nothing any more, so that the session may be used
    /// for something else once its own `ReadyForQuery` has come too.
    ///
    /// There is no limit of time in here. Dropping the future may leave a request under way that
    /// hits at any later time: close the session then.
    ///
    /// # Errors
    ///
    /// The server could not be reached, or closed the connection before it took the request. If it
    /// took it is not known then.
    pub async fn cancel(&self) -> io::Result<()> {
        if self.secret.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the server gave no cancel key",
            ));
        }
        let mut stream = self.place.again().await?;
        let mut packet = BytesMut::new();
        let secret = self.secret.clone();
        Startup::Cancel { process: self.process, secret }.encode(&mut packet);
        stream.write_all(&packet).await?;
        stream.flush().await?;
        let mut end = [0; 64];
        // Nothing comes but the end, and a server that is in a hurry resets.
        while stream.read(&mut end).await.is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process", &self.process).finish_non_exhaustive()
    }
}
