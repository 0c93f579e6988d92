//! One session on a server: statements as text, rows as text.

use std::error::Error;
use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use sortie_postgres::{
    Body, ConnInfo, ConnectError, Connection, ExchangeError, Frontend, Login, Reply, Request,
};

/// What a check reads at once is small: rows in text.
const REPLY_MAX: usize = 4 << 20;

/// One row; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// A session that is asked one thing after another.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct AskError {
    /// The server's code, if it is the server's report.
    pub(super) sqlstate: Option<String>,
    text: String,
}

impl Session {
    pub(super) async fn open(info: &ConnInfo, login: &Login) -> Result<Self, ConnectError> {
        Ok(Self { connection: Connection::open(info, login).await? })
    }

    /// Asks one statement by the simple protocol.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, AskError> {
        let reply = self.ask(sql, false).await?;
        match reply.body {
            Body::Whole(frames) => rows(frames).ok_or_else(|| AskError::of("rows out of shape")),
            _ => Err(AskError::of("an answer that is far larger than expected")),
        }
    }

    /// Asks for one row.
    pub(super) async fn row(&mut self, sql: &str) -> Result<Row, AskError> {
        self.rows(sql).await?.pop().ok_or_else(|| AskError::of("no row where there is always one"))
    }

    /// The position that a fenced statement was answered at.
    pub(super) async fn fence(&mut self) -> Result<Option<u64>, AskError> {
        Ok(self.ask("SELECT 1", true).await?.as_of)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) async fn close(self) {
        self.connection.close().await;
    }

    async fn ask(&mut self, sql: &str, fenced: bool) -> Result<Reply, AskError> {
        let mut frames = BytesMut::new();
        Frontend::Query { text: Bytes::copy_from_slice(sql.as_bytes()) }.encode(&mut frames);
        let request = Request::new(frames.freeze()).whole_max(REPLY_MAX);
        let request = if fenced { request.fenced() } else { request };
        self.connection.exchange(request).await.map_err(AskError::from)
    }
}

/// Takes `DataRow` frames apart.
fn rows(mut frames: Bytes) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    while frames.has_remaining() {
        let (_tag, _length) = (frames.try_get_u8().ok()?, frames.try_get_i32().ok()?);
        let columns = frames.try_get_u16().ok()?;
        let mut row = Row::new();
        for _column in 0..columns {
            row.push(match usize::try_from(frames.try_get_i32().ok()?) {
                Err(_null) => None,
                Ok(length) if length <= frames.remaining() => {
                    Some(String::from_utf8_lossy(&frames.split_to(length)).into_owned())
                }
                Ok(_beyond) => return None,
            });
        }
        rows.push(row);
    }
    Some(rows)
}

/// An error with its sources, as one text.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

impl AskError {
    fn of(text: &str) -> Self {
        Self { sqlstate: None, text: text.to_owned() }
    }
}

impl From<ExchangeError> for AskError {
    fn from(error: ExchangeError) -> Self {
        let sqlstate = error.server().map(|report| report.sqlstate().to_owned());
        Self { sqlstate, text: told(&error) }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
