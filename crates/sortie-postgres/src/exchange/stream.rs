//! A body that is too long to be held: read as it is asked for.

use bytes::Bytes;

use super::error::ExchangeError;
use super::gather::Gather;
use crate::connection::Connection;

/// The rows of a reply that are still to come. One consumer.
///
/// It does not hold the connection, so that both can be handed on together. Dropped before its
/// end, the connection goes on owing the answer.
#[derive(Debug)]
pub struct BodyStream {
    first: Bytes,
    gather: Gather,
    complete: Option<Bytes>,
    over: bool,
}

impl BodyStream {
    pub(super) fn new(first: Bytes, gather: Gather) -> Self {
        Self { first, gather, complete: None, over: false }
    }

    /// The next bytes of the rows, or `None` at their end; `connection` must be the one that the
    /// reply came from.
    ///
    /// All pieces together are whole `DataRow` frames; one alone may end inside of a frame, so
    /// that nothing else may be put between two of them. It reads only when it is asked, once,
    /// and what was read is given out before more is read.
    ///
    /// Dropping the future loses rows: the stream can't be read on.
    ///
    /// # Errors
    ///
    /// As [`Connection::exchange`].
    pub async fn next(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<Bytes>, ExchangeError> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        while !self.over {
            if self.gather.is_done() {
                self.over = true;
                connection.finish();
                self.complete = self.gather.end().map_err(ExchangeError::Server)?;
                break;
            }
            self.gather.more(connection, &mut &b""[..]).await?;
            let rows = self.gather.take_rows(connection);
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    /// The position in the log behind which the rows have nothing, of a batch that was fenced
    /// around; once [`BodyStream::next`] has returned `None`, or an error of the server.
    pub fn until(&self) -> Option<u64> {
        self.gather.until()
    }

    /// The `CommandComplete` frame, once [`BodyStream::next`] has returned `None`.
    pub fn complete(&self) -> Option<&Bytes> {
        self.complete.as_ref()
    }
}
