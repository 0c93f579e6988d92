//! The admin database: what operators see of sortie, and how they steer it, by the protocol that
//! their tools speak already (`psql -d sortie -c 'SHOW POOLS'`).
//!
//! Commands, columns and their types are `PgBouncer`'s, so that what reads those reads these;
//! what sortie has beside that (`SHOW FLIGHTS`, `SHOW REPLICAS`, `SHOW WHY`) is its own. Numbers
//! are what the process has counted; what it does not know is NULL.
//!
//! # Invariants
//!
//! 1. Who comes has proved who it is as every client has, and every command is checked against
//!    its rank: nobody is asked again, and nothing is done on the strength of a name alone.
//! 2. Nothing here counts: what is shown was counted by those who did it.
//! 3. What a client can make grow has a bound.

mod command;
mod orders;
mod owner;
mod rank;
mod show;
mod table;
mod talk;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_postgres::backend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

use self::talk::Talk;
use crate::budget::BudgetStats;
use crate::config::{Auth, Config};
use crate::logins::Logins;
use crate::read::{AttemptStats, FlightSeen};
use crate::relay::Cluster;
use crate::relay::roster::{Ends, Person, Roster};
use crate::session::code::INVALID_AUTHORIZATION;
use crate::session::failure::Failure;
use crate::session::keys::Keys;
use crate::session::refusal::Refusal;
use crate::session::socket::Socket;
use crate::session::startup::Hello;
use crate::sql::SqlError;

/// The period that averages are of, as in `PgBouncer`.
const STATS_PERIOD: Duration = Duration::from_secs(60);

/// What is shown and steered: the endpoint.
pub(crate) trait Subject: Send + Sync + 'static {
    /// What holds now.
    fn config(&self) -> Arc<Config>;

    /// The clusters, in the order of the configuration.
    fn clusters(&self) -> Vec<Arc<Cluster>>;

    /// The shared reads under way, at most so many of a cluster: the cluster's name, and the
    /// replicas that are being asked.
    fn flights(&self, most: usize) -> Vec<(String, FlightSeen, Vec<String>)>;

    /// The replicas that reads go to: cluster, shard, name, and what became of the attempts there.
    fn replicas(&self) -> Vec<(String, usize, String, AttemptStats)>;

    /// What waits in memory for slow clients.
    fn budget(&self) -> BudgetStats;

    /// Reads the configuration again. Returns what has changed, or why nothing has.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

    /// Has the endpoint stop: when its sessions have ended, or else at once.
    fn stop(&self, now: bool);
}

/// Sessions above `connections_max` that are let in here: whoever wants to know why there is no
/// more room needs some.
const ABOVE_MAX: usize = 8;

/// The admin database of an endpoint.
pub(crate) struct Console {
    subject: Box<dyn Subject>,
    roster: Arc<Roster>,
    logins: Logins,
    drain: watch::Receiver<bool>,
}

impl Console {
    pub(crate) fn new(
        subject: Box<dyn Subject>,
        roster: Arc<Roster>,
        logins: Logins,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self { subject, roster, logins, drain }
    }

    /// Whether that is what a client asks for.
    pub(crate) fn is_asked(&self, hello: &Hello) -> bool {
        let asked = hello.read();
        asked.is_ok_and(|asked| self.subject.config().console.database == asked.database)
    }

    /// Looks again and again how much was done, for averages.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops looking.
    pub(crate) async fn keep_averaged(&self) -> std::convert::Infallible {
        loop {
            sleep(STATS_PERIOD).await;
            self.roster.mark();
        }
    }

    /// Serves a client that has proved who it is, to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection. A command that has begun may have had its
    /// effect.
    pub(crate) async fn serve<S>(
        &self,
        socket: &mut Socket<S>,
        hello: &Hello,
        keys: &Keys,
        ends: Ends,
    ) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let asked = hello.read().map_err(Failure::Fatal)?;
        let config = self.subject.config();
        let rank = rank::of(asked.user, &config.console, config.auth == Auth::Trust, ends);
        let rank =
            rank.ok_or_else(|| Failure::Refused(Refusal::Role, Some(stranger(asked.user))))?;
        let key = keys.register_above(ABOVE_MAX, hello.secret_len());
        let key = key.ok_or_else(Failure::too_many)?;
        let person = Person {
            id: key.process(),
            user: asked.user.into(),
            database: asked.database.into(),
            ends,
            is_encrypted: socket.is_encrypted(),
        };
        let named = asked.parameters.iter().find(|(name, _)| *name == "application_name");
        let listed = self.roster.enter(person, named.map_or("", |(_, value)| value));
        let output = &mut socket.output;
        backend::authentication_ok(output);
        for (name, value) in [
            ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/sortie")),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "GMT"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
        ] {
            backend::parameter_status(output, name, value);
        }
        backend::backend_key_data(output, key.process(), key.secret());
        Talk::new(self, socket, (rank, asked.user), &key, &listed.entry).run().await
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console(..)")
    }
}

fn stranger(user: &str) -> SqlError {
    let message = format!("role \"{user}\" may not use the admin database");
    SqlError::new(INVALID_AUTHORIZATION, message)
        .hint("Name it in `admin_users`, or in `stats_users` to let it look, in the configuration.")
}
