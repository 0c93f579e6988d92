//! Replicas as PostgreSQL servers.
//!
//! One shard's read goes to a replica in the client's own words, and its rows come back as they
//! are ([`alone`]); of several shards' rows only the values are looked at that merging compares.
//!
//! | what failed | SQLSTATE |
//! |---|---|
//! | the statement | the server's own report, with its place |
//! | no free connection in time, or too many wait for one | 53300 `too_many_connections` |
//! | a server can't be reached, or the connection is lost | 08006 `connection_failure` |
//! | a server refuses the login | the server's own report |
//! | the server ends | 57P01 `admin_shutdown` |
//! | what can't be understood | XX000 `internal_error` |

mod alone;
mod attempts;
mod clean;
mod describe;
mod frames;
pub(crate) mod kept;
mod large;
mod part;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sortie::{AttemptFailure, Class, Classify, HedgeError};
use sortie_postgres::sqlstate::{self, Asked};
use sortie_postgres::{Body, ExchangeError, Login, PoolError, Server, ServerError};
use tokio::time::Instant;

pub(crate) use self::alone::Alone;
pub(crate) use self::attempts::AttemptStats;
use self::attempts::{Attempts, Trail};
pub(crate) use self::clean::checkout;
use self::kept::{Message, Words};
use self::large::Rest;
pub(crate) use self::large::{Large, Offer};
pub(crate) use self::part::values_of_rows;
use super::source::{Part, Source, Wanted};
use super::{Fence, Mark, Notices, Who, merge};
use crate::sql::{Dialect, SqlError, state};

/// Bytes of notices that are kept with an answer.
const NOTICES_BYTES_MAX: usize = 16 << 10;

/// One replica of a shard.
#[derive(Clone)]
pub(crate) struct PgReplica(Arc<Inner>);

struct Inner {
    server: Server,
    label: String,
    /// How long a read may wait for a connection.
    wait: Duration,
    attempts: Attempts,
}

/// A batch for a replica, and the login that it needs.
#[derive(Clone)]
pub(crate) struct Query {
    login: Arc<Login>,
    message: Message,
    trail: Arc<Trail>,
    /// The place in its log that a replica must have reached, or 0.
    floor: u64,
}

/// What a replica said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the statement takes, where it was described.
    pub(super) parameters: Option<Bytes>,
    pub(super) head: Bytes,
    pub(super) rows: Rows,
    /// There may be more of them than were wanted.
    pub(super) is_suspended: bool,
    pub(super) count: u64,
    pub(super) mark: Mark,
    pub(super) notices: Option<Arc<Notices>>,
}

/// The rows of an answer.
#[derive(Debug)]
pub(super) enum Rows {
    /// All of them.
    Whole(Bytes),
    /// They are more than were wanted at once.
    More(Rest),
}

/// Why a replica said nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    Pool(PoolError),
    Exchange(ExchangeError),
    /// It has not got as far as it must.
    Behind,
}

/// A server's error by its SQLSTATE; every other trouble is the replica's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BySqlstate;

impl Query {
    fn new(login: Arc<Login>, words: Words, whole_max: usize, fence: Fence) -> Self {
        let message = Message { words, whole_max, is_fenced: fence.is_wanted };
        Self { login, message, trail: Arc::default(), floor: fence.floor }
    }
}

impl PgReplica {
    /// A replica called `label`; a read may wait so long for a connection to it.
    pub(crate) fn new(server: Server, label: String, wait: Duration) -> Self {
        let attempts = Attempts::default();
        Self(Arc::new(Inner { server, label, wait, attempts }))
    }

    /// How it is called.
    pub(crate) fn name(&self) -> &str {
        &self.0.label
    }

    /// What became of the attempts there.
    pub(crate) fn attempts(&self) -> AttemptStats {
        self.0.attempts.read()
    }

    /// Asks, and takes down what comes of it.
    async fn attempt(&self, query: Query) -> Result<Answer, Trouble> {
        let trail = Arc::clone(&query.trail);
        let attempt = self.0.attempts.begin(&trail);
        let answer = self.exchange(query).await;
        match &answer {
            Ok((_, sent)) => attempt.answered(*sent),
            Err(_) => attempt.failed(),
        }
        answer.map(|(answer, _)| answer)
    }

    /// Asks in one exchange. Says as well when the statement was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future calls the statement back, and its connection is set apart until it has
    /// ended.
    async fn exchange(&self, query: Query) -> Result<(Answer, Instant), Trouble> {
        let deadline = Instant::now() + self.0.wait;
        let mut connection = checkout(&self.0.server, &query.login, deadline).await?;
        query.trail.board();
        let sent = Instant::now();
        let reply = query.message.exchange(&mut connection).await?;
        let mark = Mark { from: reply.as_of, until: reply.until };
        if mark.from.unwrap_or(0) < query.floor {
            return Err(Trouble::Behind);
        }
        let count = reply.tag().map_or(0, count);
        let notices = notices(&reply.notices, reply.notices_parsing);
        let is_suspended = reply.complete.as_ref().and_then(|it| it.first()) == Some(&b's');
        let rows = match reply.body {
            Body::Whole(rows) => Rows::Whole(rows),
            Body::Stream(body) => {
                let (replica, notices) = (self.0.label.clone(), notices.clone());
                Rows::More(Rest { body, connection, replica, notices })
            }
            // Not known here: whatever it is, the connection's drop stops it.
            _ => return Err(Trouble::Exchange(ExchangeError::Endless)),
        };
        let (parameters, head) = (reply.parameters, reply.head.unwrap_or_default());
        let answer = Answer { parameters, head, rows, is_suspended, count, mark, notices };
        Ok((answer, sent))
    }
}

impl Source for PgReplica {
    type Query = Query;
    type Answer = Answer;
    type Error = Trouble;
    type Class = BySqlstate;

    fn class() -> BySqlstate {
        BySqlstate
    }

    fn label(&self) -> String {
        self.0.label.clone()
    }

    fn query(wanted: &Wanted<'_>, fence: Fence, owns: &dyn Fn(i64) -> bool) -> Query {
        let rows = wanted.rows_max.saturating_add(1);
        let query = wanted.bound.query(Dialect::Postgres, owns, rows);
        let aggregates = [false].as_slice();
        let binary = if wanted.bound.is_aggregate() { aggregates } else { wanted.binary };
        let frames = frames::of_shard(&query, binary);
        let words = Words::Own(frames);
        let mut query = Query::new(login(wanted.who), words, wanted.bytes_max, fence);
        query.trail = Arc::new(Trail::of(wanted.flight, None));
        query
    }

    fn mark(answer: &Answer) -> Mark {
        answer.mark
    }

    fn is_behind(error: &Trouble) -> bool {
        matches!(error, Trouble::Behind)
    }

    async fn ask(self, query: Query) -> Result<Answer, Trouble> {
        Box::pin(self.attempt(query)).await
    }

    fn part(answer: Answer, wanted: &Wanted<'_>) -> Result<Part, SqlError> {
        match answer.rows {
            Rows::Whole(rows) => part::part(rows, answer.count, wanted),
            // The rest is never read: the connection's drop stops it.
            Rows::More(_) => Err(merge::too_large(&format!("{} bytes", wanted.bytes_max))),
        }
    }

    fn failed(error: HedgeError<Trouble>) -> SqlError {
        let Some(attempt) = error.representative() else {
            return SqlError::new(state::CONNECTION_FAILURE, error.to_string());
        };
        let replica = Arc::clone(&attempt.replica);
        match &attempt.failure {
            AttemptFailure::Panicked(message) => {
                SqlError::new(state::INTERNAL_ERROR, message.to_string())
            }
            AttemptFailure::Refused => SqlError::new(state::INTERNAL_ERROR, "a refused answer"),
            _ => match error.into_error() {
                Some(trouble) => trouble.told(&replica),
                None => SqlError::new(state::INTERNAL_ERROR, "a failure without a reason"),
            },
        }
    }
}

/// What is kept of the notices of an answer, of which so many are about its text.
fn notices(all: &[ServerError], parsing: usize) -> Option<Arc<Notices>> {
    if all.is_empty() {
        return None;
    }
    let mut room = NOTICES_BYTES_MAX;
    let mut kept = [BytesMut::new(), BytesMut::new()];
    for (at, notice) in all.iter().enumerate() {
        let Some(left) = room.checked_sub(notice.frame().len()) else { break };
        room = left;
        kept[usize::from(at >= parsing)].extend_from_slice(notice.frame());
    }
    let [parsing, running] = kept.map(BytesMut::freeze);
    Some(Arc::new(Notices { parsing, running }))
}

/// The login that a read needs: its role, and every parameter that may change its answer.
pub(crate) fn login(who: &Who) -> Arc<Login> {
    let mut login = Login::new(&*who.user, &*who.database);
    login.credential = who.credential.as_deref().cloned();
    for (name, value) in who.settings.iter() {
        login = login.parameter(name.as_ref(), value.as_ref());
    }
    Arc::new(login)
}

impl Trouble {
    /// What a client is told.
    fn told(self, replica: &str) -> SqlError {
        match self {
            Self::Exchange(ExchangeError::Server(report)) => SqlError::of_server(&report),
            Self::Behind => SqlError::new(state::INTERNAL_ERROR, self.to_string()),
            Self::Exchange(ExchangeError::Closed(error)) => {
                let message = format!("the connection to replica {replica} was lost: {error}");
                SqlError::new(state::CONNECTION_FAILURE, message)
            }
            Self::Exchange(error) => {
                let message = format!("replica {replica}: {error}");
                SqlError::new(state::INTERNAL_ERROR, message)
            }
            Self::Pool(PoolError::Connect(error)) => {
                if let Some(report) = error.server() {
                    return SqlError::of_server(report);
                }
                let message = format!("replica {replica} can't be reached: {error}");
                SqlError::new(state::CONNECTION_FAILURE, message)
            }
            Self::Pool(error @ PoolError::Closed) => {
                SqlError::new(state::ADMIN_SHUTDOWN, format!("replica {replica}: {error}"))
            }
            Self::Pool(error) => {
                let message = format!("replica {replica}: {error}");
                SqlError::new(state::TOO_MANY_CONNECTIONS, message)
            }
        }
    }
}

impl<T> Classify<T, Trouble> for BySqlstate {
    fn classify(&self, outcome: &Result<T, Trouble>) -> Class {
        match outcome {
            Ok(_) => Class::Win,
            Err(Trouble::Exchange(ExchangeError::Server(report))) => {
                let routine = report.field(b'R').unwrap_or_default();
                let routine = std::str::from_utf8(routine).unwrap_or_default();
                sqlstate::classify(report.sqlstate(), routine, Asked::of_standby()).into()
            }
            Err(Trouble::Behind | Trouble::Exchange(_) | Trouble::Pool(_)) => Class::FailOver,
        }
    }
}

impl From<PoolError> for Trouble {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<ExchangeError> for Trouble {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            Self::Exchange(error) => error.fmt(f),
            Self::Behind => f.write_str("the replica has not replayed what must be read"),
        }
    }
}

impl std::fmt::Debug for PgReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PgReplica").field(&self.0.label).finish()
    }
}

/// The number of rows in a tag: `SELECT 3`.
fn count(tag: &[u8]) -> u64 {
    let number = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(0)
}
