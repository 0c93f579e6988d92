//! What one client does, step by step.

use bytes::Bytes;

use super::play::Mode;
use crate::batch::Batch;

/// One client's life: its startup, then steps in order; at its end it says Terminate and reads on
/// until the server has closed.
#[derive(Clone, Debug)]
pub struct Script {
    name: String,
    pub(super) startup: Startup,
    pub(super) steps: Vec<Step>,
    /// Statements that somebody else runs before each play.
    pub(super) before: String,
    /// Errors count by severity and SQLSTATE only.
    pub(super) loose: bool,
    as_written_only: bool,
    writes: bool,
}

/// How the connection begins.
#[derive(Clone, Debug)]
pub(super) enum Startup {
    /// A startup packet of these parameters; then everything up to the first `ReadyForQuery`, or
    /// the end, is awaited.
    Parameters(Vec<(String, String)>),
    /// Bytes as they are, and nothing is awaited.
    Bare(Bytes),
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(Bytes),
    /// Waits for so many more frames of a type.
    Await(u8, usize),
    /// Waits for the server to close.
    AwaitEnd,
    /// A `CancelRequest` for this session, on a connection of its own.
    Cancel,
    /// Waits until a server runs a statement with this in its text.
    AwaitRunning(String),
    /// A statement on a connection of its own, straight to the server.
    Elsewhere(String),
    /// Lets what was sent come there.
    Pause,
    /// Another client with this startup asks this, and what it is told counts as what this one is.
    Stranger(Vec<(String, String)>, Batch),
    /// Closes the sending half and goes on reading.
    HalfClose,
}

impl Script {
    /// A script whose client is `tester` in the database `postgres`.
    pub fn new(name: impl Into<String>) -> Self {
        let startup = [("user", "tester"), ("database", "postgres")];
        let startup = startup.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self {
            name: name.into(),
            startup: Startup::Parameters(startup),
            steps: Vec::new(),
            before: String::new(),
            loose: false,
            as_written_only: false,
            writes: false,
        }
    }

    /// What it is called in a report.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it changes tables, so that a standby would refuse it.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Whether it may be played in a mode.
    pub fn suits(&self, mode: Mode) -> bool {
        mode == Mode::AsWritten || !self.as_written_only
    }

    /// Sets, or replaces, a startup parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        let Startup::Parameters(parameters) = &mut self.startup else {
            panic!("{}: the startup is bare bytes", self.name);
        };
        parameters.retain(|(known, _)| known != name);
        parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Begins with these bytes instead of a startup packet.
    #[must_use]
    pub fn bare_startup(mut self, bytes: &[u8]) -> Self {
        self.startup = Startup::Bare(Bytes::copy_from_slice(bytes));
        self
    }

    /// Changes tables: for primaries only. `before` is run each time, straight at the server, and
    /// puts them back.
    #[must_use]
    pub fn writing(mut self, before: &str) -> Self {
        self.writes = true;
        before.clone_into(&mut self.before);
        self
    }

    /// Its errors are compared by severity and SQLSTATE only: for what an endpoint has to say in
    /// its own words.
    #[must_use]
    pub fn loose(mut self) -> Self {
        self.loose = true;
        self
    }

    /// Its writes may not be merged or cut: for what ends the connection while bytes are on their
    /// way, which may reset it before the answer was read.
    #[must_use]
    pub fn as_written_only(mut self) -> Self {
        self.as_written_only = true;
        self
    }

    /// Sends, and waits for all the `ReadyForQuery` that this causes.
    #[must_use]
    pub fn ask(self, batch: Batch) -> Self {
        let ready = batch.ready();
        self.send(batch).until(b'Z', ready)
    }

    /// A simple query, and its whole answer.
    #[must_use]
    pub fn query(self, text: &str) -> Self {
        self.ask(Batch::new().query(text))
    }

    /// Sends, and waits for nothing.
    #[must_use]
    pub fn send(mut self, batch: Batch) -> Self {
        self.steps.push(Step::Send(batch.into_bytes()));
        self
    }

    /// Waits for `count` more frames of a type.
    #[must_use]
    pub fn until(self, tag: u8, count: usize) -> Self {
        self.step(Step::Await(tag, count))
    }

    /// Waits for the server to close the connection.
    #[must_use]
    pub fn until_end(self) -> Self {
        self.step(Step::AwaitEnd)
    }

    /// Waits until a statement with `part` in its text runs, as PostgreSQL itself sees it.
    #[must_use]
    pub fn until_running(self, part: &str) -> Self {
        self.step(Step::AwaitRunning(part.to_owned()))
    }

    /// Asks on a second connection to cancel what runs on this one, and waits for its end.
    #[must_use]
    pub fn cancel(self) -> Self {
        self.step(Step::Cancel)
    }

    /// Somebody else runs `sql`, straight at the server.
    #[must_use]
    pub fn elsewhere(self, sql: &str) -> Self {
        self.step(Step::Elsewhere(sql.to_owned()))
    }

    /// What is sent next comes apart from what was sent before.
    #[must_use]
    pub fn pause(self) -> Self {
        self.step(Step::Pause)
    }

    /// Another client of the same user, who has set nothing, connects and asks this: what it finds
    /// is compared with what this one does.
    #[must_use]
    pub fn stranger(self, batch: Batch) -> Self {
        let Startup::Parameters(own) = &self.startup else {
            panic!("{}: the startup is bare bytes", self.name);
        };
        let named = own.iter().filter(|(name, _)| matches!(&**name, "user" | "database"));
        let startup = named.cloned().collect();
        self.step(Step::Stranger(startup, batch))
    }

    /// Closes the sending half of the connection.
    #[must_use]
    pub fn half_close(self) -> Self {
        self.step(Step::HalfClose)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}
