//! A connection to a server, past its login: frames out, frames in, and what is still owed.
//!
//! Knows sockets and frames, and nothing of SQL, pools or clients. It never looks into a row. One
//! owner uses it in one of two ways at a time: as a relay ([`Connection::send`] and
//! [`Connection::receive`]: bytes as they are), or for whole exchanges
//! ([`Connection::exchange`]).
//!
//! # Invariants
//!
//! 1. Every frame that goes out or comes in is counted here, by whichever way it goes; so
//!    [`Connection::owed`] and [`Connection::status`] hold whatever the caller did, or left undone.
//! 2. Dropping any future of a connection loses no byte of the stream's order: what is owed stays
//!    owed, and a connection in mid-frame says so by not being [`Connection::is_idle`].
//! 3. Bytes are read straight into the caller's buffer and written straight out of it.

mod cancel;
mod parameters;
mod relay;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

pub use cancel::CancelKey;
pub use parameters::Parameters;

use crate::backend::Status;
use crate::connect::{self, ConnectError, Login, Stream};
use crate::conninfo::{Address, ConnInfo};
use crate::dues::Dues;
use crate::scan::{Event, Scanner};
use crate::walk::Walk;

/// A read buffer of our own that grew beyond this is given back when it is empty, in bytes.
const KEPT_MAX: usize = 64 * 1024;

/// How many reads of unasked messages are taken in before a server is taken for mad.
const CHECKS_MAX: usize = 64;

/// How long saying goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A session on a server.
pub struct Connection {
    stream: Stream,
    address: Address,
    scanner: Scanner,
    outgoing: Walk,
    dues: Dues,
    status: Status,
    parameters: Parameters,
    key: CancelKey,
    /// Bytes handed to the stream that it may still hold back.
    unflushed: bool,
    /// An exchange has begun whose reply was not read to its end.
    pub(crate) unfinished: bool,
    broken: bool,
    pub(crate) notifications_dropped: u64,
    /// What is read where no caller gives a buffer, and what is in it.
    pub(crate) input: BytesMut,
    pub(crate) events: Vec<Event>,
}

impl Connection {
    /// Dials the server, logs in, and waits until it is ready; all within the description's
    /// `connect_timeout`.
    ///
    /// Dropping the future closes the socket; the server notices by itself.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says which server it was, what went wrong, and what to do about it.
    pub async fn open(info: &ConnInfo, login: &Login) -> Result<Self, ConnectError> {
        let opened = connect::open(info, login).await?;
        let greeting = opened.greeting;
        let mut connection = Self {
            stream: opened.stream,
            address: info.address.clone(),
            scanner: Scanner::new(),
            outgoing: Walk::default(),
            dues: Dues::new(),
            status: Status::Idle,
            parameters: Parameters::of(&greeting.parameters),
            key: CancelKey::new(greeting.process, &greeting.secret, Arc::clone(&opened.place)),
            unflushed: false,
            unfinished: false,
            broken: false,
            notifications_dropped: 0,
            input: opened.rest,
            events: Vec::new(),
        };
        connection.settle().await.map_err(|error| ConnectError::closed(&info.address, error))?;
        Ok(connection)
    }

    /// Where the server listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The parameters as the server last reported them.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What cancels a statement of this session.
    pub fn cancel_key(&self) -> &CancelKey {
        &self.key
    }

    /// How many `ReadyForQuery` the server still owes for what was sent.
    pub fn owed(&self) -> u32 {
        self.dues.owed()
    }

    /// The status in the last `ReadyForQuery`.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Has the current runtime drive the socket.
    pub(crate) fn register_here(&mut self) -> io::Result<()> {
        self.stream.register_here()
    }

    /// Whether the session stands outside of a transaction, everything sent has been answered, and
    /// both directions are between two frames: the next batch may be anybody's.
    ///
    /// It says nothing about what is left on the session (parameters, prepared statements).
    pub fn is_idle(&self) -> bool {
        self.is_quiet() && self.status == Status::Idle
    }

    /// As [`is_idle`](Self::is_idle), within a transaction perhaps.
    pub fn is_quiet(&self) -> bool {
        !self.broken
            && !self.unfinished
            && self.dues.is_clear()
            && self.scanner.is_between()
            && self.outgoing.is_between()
    }

    /// Whether frames of one's own may be sent now: the last frame that went out is complete.
    pub fn is_between_sent(&self) -> bool {
        self.outgoing.is_between()
    }

    /// Whether something of one's own may stand behind what was received: the last frame that came
    /// in is complete.
    pub fn is_between_received(&self) -> bool {
        self.scanner.is_between()
    }

    /// Whether the connection is of no further use: closed, failed, or out of step.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether what was owed could always be told.
    ///
    /// A few sequences (an error within COPY with a Sync among its data) have an outcome that can
    /// only be guessed from outside. Such a session may go on with its client, but is never
    /// [`Connection::is_idle`] again.
    pub fn is_sure(&self) -> bool {
        self.dues.is_sure()
    }

    /// How many notifications came while no relay was there to hand them to.
    pub fn notifications_dropped(&self) -> u64 {
        self.notifications_dropped
    }

    /// Whether the server awaits copy data, and reads nothing else meanwhile.
    pub(crate) fn is_copying_in(&self) -> bool {
        self.dues.is_copying()
    }

    /// Whether nothing is owed only because no Sync was sent.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.owed() == 0 && !self.dues.is_clear()
    }

    /// Reads and drops what is still owed, so that the session can be used again.
    ///
    /// Dropping the future loses nothing: call it again.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`].
    pub async fn drain(&mut self) -> io::Result<()> {
        while self.owed() > 0 || !self.scanner.is_between() {
            self.input.clear();
            self.events.clear();
            self.fill(&mut &b""[..]).await?;
        }
        self.finish();
        Ok(())
    }

    /// Takes in what the server sent unasked, without waiting for anything.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`]; and `ConnectionAborted` if the server announced the end of the
    /// session. A connection that rested is checked before it is used again.
    pub fn check(&mut self) -> io::Result<()> {
        if !self.broken && self.stream.is_quiet() {
            return Ok(());
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..CHECKS_MAX {
            self.input.clear();
            self.events.clear();
            let (mut input, mut events) =
                (std::mem::take(&mut self.input), std::mem::take(&mut self.events));
            let read = self.poll_read(&mut cx, &mut input, &mut events);
            let fatal = events.iter().any(|event| event.tag == b'E');
            (self.input, self.events) = (input, events);
            if fatal {
                break;
            }
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
        }
        self.broken = true;
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Says goodbye and closes. Without it the server notices the end of the socket by itself.
    ///
    /// Dropping the future closes the socket at once, and so does a second without an answer.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.outgoing.is_between() && !self.broken {
                self.send(&mut &b"X\0\0\0\x04"[..]).await?;
            }
            self.stream.shutdown().await
        };
        // Whatever happens now, the session ends.
        timeout(GOODBYE_MAX, goodbye).await.ok();
    }

    /// Writes what can be written of `out`, and waits until something was read into `input`.
    pub(crate) async fn fill(&mut self, out: &mut impl Buf) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut events = std::mem::take(&mut self.events);
        // A dropped future loses the buffers, not the count of what was in them.
        let filled = poll_fn(|cx| {
            let sent = self.poll_send(cx, out);
            match (sent, self.poll_read(cx, &mut input, &mut events)) {
                // A server that hung up may have said why before.
                (Poll::Ready(Err(error)), Poll::Pending | Poll::Ready(Err(_))) => {
                    Poll::Ready(Err(error))
                }
                (_, read) => read,
            }
        });
        let filled = filled.await;
        (self.input, self.events) = (input, events);
        filled
    }

    /// An exchange is over: nothing of it is left.
    pub(crate) fn finish(&mut self) {
        self.unfinished = false;
        self.events.clear();
        if self.input.capacity() > KEPT_MAX {
            self.input = BytesMut::new();
        }
        self.input.clear();
    }

    /// The connection can't be used any more.
    pub(crate) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Takes in what came behind the greeting.
    async fn settle(&mut self) -> io::Result<()> {
        let (mut events, input) = (Vec::new(), std::mem::take(&mut self.input));
        self.absorb(&input, 0, &mut events)?;
        self.drain().await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("process", &self.key.process())
            .field("status", &self.status)
            .field("owed", &self.owed())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
