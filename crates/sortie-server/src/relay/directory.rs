//! Users that the users file does not have, found by a cluster's `auth_query`.
//!
//! It is asked as the cluster's own role, with nothing of what a client has sent but the name,
//! which is a parameter. Only `pg_catalog` is searched for what the query names: all else must say
//! its schema, so that nobody can put something of theirs in front of it.
//!
//! # Invariants
//!
//! 1. Of a herd that comes with one name one asks; so it is with names of nobody's.
//! 2. What is remembered is bounded, and asked anew after a while, or when somebody's proof failed.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sortie::{FlightError, MemoryCache, Read, ReadThrough};
use sortie_postgres::{Bind, Body, Frontend, Login, Request, ScramVerifier, Server};
use tokio::time::Instant;

use crate::read::{checkout, values_of_rows};
use crate::sql::{SqlError, state};

/// Names that are remembered.
const NAMES_MAX: usize = 10_000;

/// How long a secret is believed.
const KNOWN: Duration = Duration::from_secs(60);

/// How long it is believed that there is no such user.
const UNKNOWN: Duration = Duration::from_secs(5);

/// A secret that was found within this time is not asked for anew when a proof fails.
const DOUBT_MIN: Duration = Duration::from_secs(1);

/// How long one server may take.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Bytes of an answer: one row of a name and a secret.
const ANSWER_MAX: usize = 8 << 10;

/// The OID of `text`.
const TEXT: u32 = 25;

type Row = Vec<Option<Bytes>>;

/// Where users are found. Clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Directory(ReadThrough<String, Option<ScramVerifier>, String>);

/// How to ask.
struct Question {
    servers: Vec<Server>,
    login: Login,
    query: Bytes,
}

impl Directory {
    /// Asks `query` of the first of these servers that answers.
    pub(super) fn new(servers: Vec<Server>, role: &str, database: &str, query: &str) -> Self {
        let login = Login::new(role, database)
            .parameter("search_path", "pg_catalog, pg_temp")
            .parameter("application_name", "sortie auth_query");
        let query = Bytes::copy_from_slice(query.as_bytes());
        let question = Arc::new(Question { servers, login, query });
        let load = move |user: String| {
            let question = Arc::clone(&question);
            async move { question.ask(&user).await }
        };
        let cache = MemoryCache::builder(NAMES_MAX).hard_ttl(KNOWN).build();
        Self(ReadThrough::new(cache, load).negative(UNKNOWN, Option::is_none))
    }

    /// What is kept of a user's password, or `None` if there is no such user.
    ///
    /// # Errors
    ///
    /// No server could say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the question to others, or to itself for a while.
    pub(super) async fn find(&self, user: &str) -> Result<Option<ScramVerifier>, SqlError> {
        self.0.get(&user.to_owned()).await.map_err(|error| {
            let why = match &error {
                FlightError::Failed(why) => why.to_string(),
                other => other.to_string(),
            };
            tracing::warn!(why, "the auth_query has no answer");
            let message = "it can't be found out who may connect";
            SqlError::new(state::CONNECTION_FAILURE, message).hint("Try again later.")
        })
    }

    /// A proof has failed: what was found may be outdated.
    pub(super) async fn doubt(&self, user: &str) {
        let user = user.to_owned();
        let Ok(found) = self.0.get_with(&user, Read::new()).await else { return };
        if found.value.is_some() && found.age().is_none_or(|age| age > DOUBT_MIN) {
            self.0.invalidate(&user).await;
        }
    }
}

impl Question {
    async fn ask(&self, user: &str) -> Result<Option<ScramVerifier>, String> {
        let mut why = "there is no server".to_owned();
        for server in &self.servers {
            match self.ask_of(server, user).await {
                Ok(rows) => return secret(&rows),
                Err(error) => why = format!("{}: {error}", server.info().address),
            }
        }
        Err(why)
    }

    async fn ask_of(&self, server: &Server, user: &str) -> Result<Vec<Row>, String> {
        let deadline = Instant::now() + ASK_MAX;
        let mut connection =
            checkout(server, &self.login, deadline).await.map_err(|error| error.to_string())?;
        let request = Request::new(self.frames(user)).whole_max(ANSWER_MAX);
        let asked = tokio::time::timeout_at(deadline, connection.exchange(request)).await;
        let reply = asked.map_err(|_late| format!("no answer within {ASK_MAX:?}"))?;
        let reply = reply.map_err(|error| match error.server() {
            Some(report) => report.to_string(),
            None => error.to_string(),
        })?;
        match reply.body {
            Body::Whole(rows) => values_of_rows(&rows).map_err(|error| error.to_string()),
            _ => Err("it answers with more than one user".to_owned()),
        }
    }

    fn frames(&self, user: &str) -> Bytes {
        let mut frames = BytesMut::new();
        let (statement, portal) = (Bytes::new(), Bytes::new());
        let parse = Frontend::Parse { statement, text: self.query.clone(), oids: vec![TEXT] };
        parse.encode(&mut frames);
        let bind = Bind {
            portal: portal.clone(),
            statement: Bytes::new(),
            formats: Vec::new(),
            values: vec![Some(Bytes::copy_from_slice(user.as_bytes()))],
            result_formats: Vec::new(),
        };
        Frontend::Bind(bind).encode(&mut frames);
        Frontend::Execute { portal, rows_max: 0 }.encode(&mut frames);
        Frontend::Sync.encode(&mut frames);
        frames.freeze()
    }
}

/// The secret of the one user that a query has found: its second column, as in `PgBouncer`.
fn secret(rows: &[Row]) -> Result<Option<ScramVerifier>, String> {
    let secret = match rows {
        [] => return Ok(None),
        [row] => match &row[..] {
            [_name, Some(secret)] => secret,
            // A role without a password has nothing to prove.
            [_name, None] => return Ok(None),
            _ => return Err("its columns are not two: the name, and the secret".to_owned()),
        },
        _ => return Err("it answers with more than one user".to_owned()),
    };
    let text = std::str::from_utf8(secret).unwrap_or_default();
    // Another kind of secret can't be proved by SCRAM: as if there were none.
    let verifier = text.parse().map_err(|error| tracing::warn!(%error, "an auth_query's secret"));
    Ok(verifier.ok())
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Directory(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_of_a_name_and_a_secret_is_an_answer() {
        let verifier = ScramVerifier::of_password("x");
        let cell = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let found = vec![cell("a"), cell(&verifier.to_string())];
        assert_eq!(secret(std::slice::from_ref(&found)), Ok(Some(verifier)));
        assert_eq!(secret(&[]), Ok(None));
        assert_eq!(secret(&[vec![cell("a"), None]]), Ok(None));
        assert_eq!(secret(&[vec![cell("a"), cell("md5abc")]]), Ok(None));
        assert!(secret(&[found.clone(), found]).is_err());
        assert!(secret(&[vec![cell("a")]]).is_err());
    }
}
