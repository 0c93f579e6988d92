//! A session in the admin database: the protocol, simple and extended.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::backend::{self, Severity, Status};
use sortie_postgres::{Bind, Frame, Frontend, ProtocolError, Target};
use tokio::io::{AsyncRead, AsyncWrite};

use super::command::{Command, Rank, split};
use super::table::{Table, check_formats, describe};
use super::{Console, show};
use crate::relay::roster::Entry;
use crate::session::drained;
use crate::session::failure::{self, Failure};
use crate::session::keys::Key;
use crate::session::socket::Socket;
use crate::sql::{SqlError, state, utf8};

/// Bytes of a message.
const FRAME_MAX: usize = 64 << 10;

/// Statements and portals that a client may keep, of each.
const KEPT_MAX: usize = 100;

/// The SQLSTATE of a right that somebody does not have.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// A session in the admin database.
pub(super) struct Talk<'a, S> {
    console: &'a Console,
    socket: &'a mut Socket<S>,
    rank: Rank,
    user: &'a str,
    key: &'a Key,
    entry: &'a Arc<Entry>,
    status: Status,
    /// A message of a batch has failed: its Sync is awaited.
    skipping: bool,
    statements: HashMap<Bytes, Option<Command>>,
    portals: HashMap<Bytes, (Option<Command>, Vec<i16>)>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Talk<'a, S> {
    pub(super) fn new(
        console: &'a Console,
        socket: &'a mut Socket<S>,
        (rank, user): (Rank, &'a str),
        key: &'a Key,
        entry: &'a Arc<Entry>,
    ) -> Self {
        let (statements, portals) = Default::default();
        let (status, skipping) = (Status::Idle, false);
        Self { console, socket, rank, user, key, entry, status, skipping, statements, portals }
    }

    /// Answers messages until the session ends.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        self.ready();
        self.socket.flush().await?;
        loop {
            let frame = self.next().await?;
            let tag = frame.tag;
            self.skipping &= tag != b'S';
            if self.skipping && tag != b'X' {
                continue;
            }
            match self.answer(frame).await {
                Ok(()) => {}
                Err(Failure::Statement(error)) => {
                    self.fail(&error);
                    self.skipping = tag != b'Q' && tag != b'S';
                    if tag == b'Q' {
                        self.ready();
                    }
                }
                Err(end) => return Err(end),
            }
            self.socket.flush().await?;
        }
    }

    /// The next message; the session's end when it is told so, or the endpoint drains.
    async fn next(&mut self) -> Result<Frame, Failure> {
        let mut drain = self.console.drain.clone();
        loop {
            let frame = Frame::decode(&mut self.socket.input, FRAME_MAX);
            if let Some(frame) = frame.map_err(Failure::lost)? {
                return Ok(frame);
            }
            tokio::select! {
                filled = self.socket.fill() => filled?,
                () = self.entry.killed() => return Err(Failure::Fatal(ended())),
                () = drained(&mut drain) => return Err(Failure::Fatal(ended())),
            }
        }
    }

    async fn answer(&mut self, frame: Frame) -> Result<(), Failure> {
        let tag = frame.tag;
        match frame.message()? {
            Frontend::Query { text } => self.simple(&text).await?,
            Frontend::Parse { statement, text, .. } => self.parse(statement, &text)?,
            Frontend::Bind(bind) => self.bind(bind)?,
            Frontend::Describe { target, name } => self.describe(target, &name)?,
            Frontend::Execute { portal, .. } => {
                let known = self.portals.get(&portal).cloned();
                let (command, formats) = known.ok_or_else(|| missing("portal", &portal))?;
                match command {
                    Some(command) => self.execute(&command, &formats, false).await?,
                    None => backend::empty_query_response(&mut self.socket.output),
                }
            }
            Frontend::Close { target, name } => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    _ => drop(self.portals.remove(&name)),
                }
                backend::close_complete(&mut self.socket.output);
            }
            Frontend::Flush => {}
            Frontend::Sync => {
                self.portals.clear();
                self.ready();
            }
            Frontend::Terminate => return Err(Failure::Gone),
            _ => return Err(Failure::lost(ProtocolError::FrameType(tag))),
        }
        Ok(())
    }

    async fn simple(&mut self, text: &[u8]) -> Result<(), Failure> {
        let text = utf8(text)?;
        let pieces = split(text);
        if pieces.is_empty() {
            backend::empty_query_response(&mut self.socket.output);
        }
        for piece in pieces {
            if let Some(command) = Command::parse(piece)? {
                self.execute(&command, &[], true).await?;
            }
        }
        self.ready();
        Ok(())
    }

    fn parse(&mut self, name: Bytes, text: &[u8]) -> Result<(), SqlError> {
        let text = utf8(text)?;
        if split(text).len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(state::SYNTAX_ERROR, message));
        }
        let command = Command::parse(text)?;
        if self.statements.len() >= KEPT_MAX && !self.statements.contains_key(&name) {
            return Err(too_many("prepared statements"));
        }
        self.statements.insert(name, command);
        backend::parse_complete(&mut self.socket.output);
        Ok(())
    }

    fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let known = self.statements.get(&bind.statement);
        let command = known.ok_or_else(|| missing("prepared statement", &bind.statement))?.clone();
        if !bind.values.is_empty() {
            let count = bind.values.len();
            let message = format!("bind message supplies {count} parameters, but none are wanted");
            return Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
        }
        let columns = command.as_ref().map_or(0, |it| columns(it).map_or(0, <[_]>::len));
        check_formats(&bind.result_formats, columns)?;
        if self.portals.len() >= KEPT_MAX && !self.portals.contains_key(&bind.portal) {
            return Err(too_many("portals"));
        }
        self.portals.insert(bind.portal, (command, bind.result_formats));
        backend::bind_complete(&mut self.socket.output);
        Ok(())
    }

    fn describe(&mut self, target: Target, name: &Bytes) -> Result<(), SqlError> {
        let output = &mut self.socket.output;
        let (command, formats) = if target == Target::Statement {
            let known = self.statements.get(name);
            let command = known.ok_or_else(|| missing("prepared statement", name))?;
            backend::parameter_description(output, std::iter::empty());
            (command, &[][..])
        } else {
            let known = self.portals.get(name).ok_or_else(|| missing("portal", name))?;
            (&known.0, &*known.1)
        };
        match command.as_ref().and_then(columns) {
            Some(columns) => describe(columns, formats, output),
            None => backend::no_data(output),
        }
        Ok(())
    }

    /// Does what is asked for, and says what comes of it; `whole` with the columns.
    async fn execute(
        &mut self,
        command: &Command,
        formats: &[i16],
        whole: bool,
    ) -> Result<(), Failure> {
        if self.status == Status::Failed && !matches!(command, Command::Commit | Command::Rollback)
        {
            let message = "current transaction is aborted, commands ignored until end of \
                           transaction block";
            return Err(Failure::Statement(SqlError::new("25P02", message)));
        }
        if command.needs() > self.rank {
            return Err(Failure::Statement(forbidden(self.user)));
        }
        let mut tag = command.tag();
        match command {
            Command::Show(show) => {
                let table = self.console.show(*show);
                self.say(&table, formats, whole);
            }
            Command::Help => {
                let help = SqlError::new("00000", "Console usage").detail(show::help());
                failure::say(&mut self.socket.output, Severity::Notice, &help);
            }
            Command::Begin => self.status = Status::Transaction,
            Command::Commit | Command::Rollback => {
                if std::mem::replace(&mut self.status, Status::Idle) == Status::Failed {
                    tag = "ROLLBACK";
                }
            }
            Command::Nothing(_) => {}
            Command::Pause(_)
            | Command::Resume(_)
            | Command::Reload
            | Command::Kill(_)
            | Command::Shutdown { .. } => {
                tracing::info!(user = self.user, ?command, "an administrator's command");
                self.order(command).await?;
            }
        }
        self.entry.served();
        backend::command_complete(&mut self.socket.output, tag);
        if let Command::Shutdown { now } = command {
            // The answer first: what comes next may be the end.
            self.ready();
            self.socket.flush().await?;
            self.console.subject.stop(*now);
            let mut drain = self.console.drain.clone();
            drained(&mut drain).await;
            return Err(Failure::Fatal(ended()));
        }
        Ok(())
    }

    /// Has a command done that changes something, unless the client cancels it, or the end comes.
    async fn order(&mut self, command: &Command) -> Result<(), Failure> {
        let (console, own) = (self.console, self.entry.person.id);
        let work = async {
            match command {
                Command::Pause(database) => console.pause(database.as_deref()).await.map(|()| None),
                Command::Resume(database) => console.resume(database.as_deref()).map(|()| None),
                Command::Kill(whom) => console.kill(whom, own).await.map(|()| None),
                Command::Reload => console.reload().await.map(Some),
                _ => Ok(None),
            }
        };
        let mut cancelled = pin!(self.key.cancelled());
        cancelled.as_mut().enable();
        let mut drain = console.drain.clone();
        let said = tokio::select! {
            done = work => done?,
            () = cancelled => {
                self.key.settle();
                let message = "canceling statement due to user request";
                return Err(Failure::Statement(SqlError::new(state::QUERY_CANCELED, message)));
            }
            () = self.entry.killed() => return Err(Failure::Fatal(ended())),
            () = drained(&mut drain) => return Err(Failure::Fatal(ended())),
        };
        if let Some(said) = said {
            let notice = SqlError::new("00000", said);
            failure::say(&mut self.socket.output, Severity::Notice, &notice);
        }
        Ok(())
    }

    fn say(&mut self, table: &Table, formats: &[i16], whole: bool) {
        let output = &mut self.socket.output;
        if whole {
            describe(table.columns, formats, output);
        }
        table.encode(formats, output);
    }

    fn fail(&mut self, error: &SqlError) {
        if self.status == Status::Transaction {
            self.status = Status::Failed;
        }
        failure::say(&mut self.socket.output, Severity::Error, error);
    }

    fn ready(&mut self) {
        // A cancel that comes now finds nothing running.
        self.key.settle();
        backend::ready_for_query(&mut self.socket.output, self.status);
    }
}

/// What a command shows, if it shows anything.
fn columns(command: &Command) -> Option<&'static [super::table::Column]> {
    match command {
        Command::Show(show) => Some(show.columns()),
        _ => None,
    }
}

fn forbidden(user: &str) -> SqlError {
    SqlError::new(INSUFFICIENT_PRIVILEGE, "admin access needed")
        .hint(format!("Role \"{user}\" may only look; those in `admin_users` may do this."))
}

fn missing(what: &str, name: &Bytes) -> SqlError {
    let name = String::from_utf8_lossy(name);
    let (code, message) = match (what, &*name) {
        ("portal", _) => ("34000", format!("portal \"{name}\" does not exist")),
        (_, "") => ("26000", "unnamed prepared statement does not exist".to_owned()),
        _ => ("26000", format!("{what} \"{name}\" does not exist")),
    };
    SqlError::new(code, message)
}

fn too_many(what: &str) -> SqlError {
    let message = format!("too many {what}: {KEPT_MAX} are kept");
    SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message)
}

fn ended() -> SqlError {
    let message = "terminating connection due to administrator command";
    SqlError::new(state::ADMIN_SHUTDOWN, message)
}
