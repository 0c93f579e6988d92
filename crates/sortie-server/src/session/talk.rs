//! The message loop of a session.

use std::pin::pin;
use std::sync::Arc;

use sortie_postgres::backend::{self, Severity};
use sortie_postgres::{Frame, Frontend, ProtocolError, Target};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use super::failure::{self, Failure};
use super::keys::Key;
use super::portal::{Outcome, Rows};
use super::socket::Socket;
use super::state::State;
use super::{Reads, Shared, drained};
use crate::read::{Reply, Who};
use crate::sql::{Bound, BoundRead, Column, Settings, SqlError, state};

/// One client's session.
#[derive(Debug)]
pub(super) struct Session<'a, S, R> {
    pub(super) shared: &'a Shared<R>,
    pub(super) socket: &'a mut Socket<S>,
    pub(super) state: State,
    key: Key,
    drain: watch::Receiver<bool>,
    /// An extended message has failed; the next Sync is awaited.
    skipping: bool,
}

/// Where a statement comes from: what it says about `SET LOCAL` differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// It is its own transaction, unless in a block.
    Alone,
    /// Others of the same simple query share its transaction.
    Batch,
}

impl<'a, S, R> Session<'a, S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Reads,
{
    /// Creates the session and says what a client is told at its start.
    pub(super) fn new(
        shared: &'a Shared<R>,
        socket: &'a mut Socket<S>,
        settings: Settings,
        key: Key,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let state = State::new(settings, shared.limits.clone());
        let mut session = Self { shared, socket, state, key, drain, skipping: false };
        let output = &mut session.socket.output;
        backend::authentication_ok(output);
        session.state.tell(output);
        backend::backend_key_data(output, session.key.process(), session.key.secret());
        backend::ready_for_query(output, session.state.status());
        session
    }

    /// Answers messages until the session ends; the result is never `Ok`.
    pub(super) async fn talk(mut self) -> Result<(), Failure> {
        self.socket.flush().await?;
        loop {
            let frame = self.next_frame().await?;
            let tag = frame.tag;
            if tag == b'S' {
                self.skipping = false;
            }
            if self.skipping && tag != b'X' {
                continue;
            }
            match self.answer(frame).await {
                Ok(()) => self.socket.relieve().await?,
                Err(Failure::Statement(error)) => self.fail(&error, tag).await?,
                Err(end) => return Err(end),
            }
        }
    }

    /// Returns whether the endpoint is being shut down.
    pub(super) fn is_draining(&self) -> bool {
        *self.drain.borrow() || self.drain.has_changed().is_err()
    }

    /// Runs a bound statement; `columns` are those of its result.
    pub(super) async fn run(
        &mut self,
        bound: &Bound,
        columns: &[Column],
        formats: &[i16],
        origin: Origin,
    ) -> Result<Outcome, Failure> {
        match bound {
            Bound::Local(local) => Ok(self.local(local, columns, formats, origin)?),
            Bound::Read(read) => {
                let reply = self.read(read, formats).await?;
                let (frames, count) = (reply.rows.clone(), reply.count);
                Ok(Outcome::Rows(Rows { frames, count, command: "SELECT" }))
            }
        }
    }

    /// Says something to know that is not an error.
    pub(super) fn warn(&mut self, warning: &SqlError) {
        if self.state.wants_warnings() {
            failure::say(&mut self.socket.output, Severity::Warning, warning);
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, Failure> {
        let frame_max = self.shared.limits.frame_max;
        loop {
            // Whoever has a Sync waiting gets the end of its batch first.
            if self.is_draining() && self.socket.input.first() != Some(&b'S') {
                return Err(Failure::Fatal(shutting_down()));
            }
            if let Some(frame) =
                Frame::decode(&mut self.socket.input, frame_max).map_err(Failure::lost)?
            {
                return Ok(frame);
            }
            tokio::select! {
                filled = self.socket.fill() => filled?,
                () = drained(&mut self.drain) => {}
            }
        }
    }

    async fn answer(&mut self, frame: Frame) -> Result<(), Failure> {
        match frame.tag {
            b'X' => return Err(Failure::Gone),
            // PostgreSQL ignores these outside of COPY: a client may not have noticed its end yet.
            b'd' | b'c' | b'f' => return Ok(()),
            b'p' => return Err(Failure::lost(ProtocolError::FrameType(b'p'))),
            _ => {}
        }
        match frame.message()? {
            Frontend::Query { text } => {
                self.query(&text).await?;
                self.end_batch().await
            }
            Frontend::Parse { statement, text, oids } => self.parse(&statement, &text, &oids),
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe { target: Target::Statement, name } => {
                self.describe_statement(&name)
            }
            Frontend::Describe { name, .. } => self.describe_portal(&name),
            Frontend::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Frontend::Close { target, name } => {
                self.close(target, &name);
                Ok(())
            }
            Frontend::Flush => Ok(self.socket.flush().await?),
            Frontend::Sync => self.end_batch().await,
            _ => {
                self.state.check_alive(|| false)?;
                Err(SqlError::unsupported("functions can't be called by their number here").into())
            }
        }
    }

    /// Reports a failed message, and gets ready for the next one that is not skipped.
    async fn fail(&mut self, error: &SqlError, tag: u8) -> Result<(), Failure> {
        self.shared.stats.error();
        self.state.fail();
        failure::say(&mut self.socket.output, Severity::Error, error);
        if matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H') {
            self.skipping = true;
            return Ok(self.socket.flush().await?);
        }
        self.end_batch().await
    }

    async fn end_batch(&mut self) -> Result<(), Failure> {
        self.state.end_batch();
        let output = &mut self.socket.output;
        self.state.tell(output);
        backend::ready_for_query(output, self.state.status());
        Ok(self.socket.flush().await?)
    }

    /// Awaits a read, a cancel, or the end of the client, whichever is first.
    async fn read(&mut self, bound: &BoundRead, formats: &[i16]) -> Result<Arc<Reply>, Failure> {
        let deadline =
            self.state.settings().statement_timeout().map(|limit| Instant::now() + limit);
        let who = Who::from(self.state.settings());
        let mut cancelled = pin!(self.key.cancelled());
        cancelled.as_mut().enable();
        let mut reply = pin!(self.shared.reads.read(&who, bound, formats, deadline));
        loop {
            tokio::select! {
                biased;
                reply = &mut reply => return Ok(reply?),
                () = &mut cancelled => {
                    let message = "canceling statement due to user request";
                    return Err(SqlError::new(state::QUERY_CANCELED, message).into());
                }
                filled = self.socket.fill(), if self.socket.has_room() => filled?,
            }
        }
    }
}

pub(super) fn shutting_down() -> SqlError {
    let message = "terminating connection due to administrator command";
    SqlError::new(state::ADMIN_SHUTDOWN, message)
}
