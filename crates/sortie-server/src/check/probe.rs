//! What one server says about itself, and what works there.

use std::time::Duration;

use sortie_postgres::{CancelKey, ConnInfo, Login};
use tokio::time::{Instant, sleep, timeout};

use super::ask::{AskError, Row, Session, told};
use super::lsn::Lsn;
use super::pooling::Pooling;
use super::promise::StandbyNames;
use super::report::Kind;
use crate::config::{ServerConfig, UserConfig};

/// How long the statement runs that is to be cancelled.
const SLEEP: Duration = Duration::from_secs(5);
/// How long it runs before it is cancelled.
const BEFORE_CANCEL: Duration = Duration::from_millis(50);
/// A cancel that takes longer does not work.
const CANCEL_MAX: Duration = Duration::from_secs(3);

/// `server_version` to `server_encoding`, in this order: what every role may read.
const GENERAL: &str = "SELECT current_setting('server_version'), \
    current_setting('server_version_num'), pg_catalog.pg_is_in_recovery(), \
    current_setting('synchronous_commit'), \
    current_setting('synchronous_standby_names'), current_setting('hot_standby_feedback'), \
    current_setting('max_standby_streaming_delay'), current_setting('cluster_name', true), \
    current_setting('max_connections'), current_setting('server_encoding'), \
    (SELECT pg_catalog.split_part(pg_catalog.min(name), '.', 1) FROM pg_catalog.pg_settings \
     WHERE name ~ '^(rds|aurora|cloudsql|alloydb|azure|neon)[.]')";

const POSITION: &str = "SELECT \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
         ELSE pg_catalog.pg_current_wal_lsn() END, \
    pg_catalog.pg_last_wal_receive_lsn(), \
    1000 * EXTRACT(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp())";

const SYSTEM: &str = "SELECT s.system_identifier, \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN c.timeline_id \
         ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name( \
               pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END \
    FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c";

/// On a standby: one row if it has a receiver; its columns are NULL for a role that may not see.
const RECEIVER: &str = "SELECT status, received_tli, conninfo, \
    pg_catalog.pg_is_wal_replay_paused() \
    FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_stat_wal_receiver ON true";

/// On a primary: one row for each standby.
const SENDERS: &str = "SELECT application_name, state FROM pg_catalog.pg_stat_replication";

/// Roles and databases for which writes wait for less than the primary's setting says.
const OVERRIDES: &str = "SELECT coalesce('role ' || r.rolname, 'database ' || d.datname, '?') \
        || ': ' || setting \
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN unnest(s.setconfig) setting \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
    WHERE setting LIKE 'synchronous_commit=%' AND setting <> 'synchronous_commit=remote_apply' \
    LIMIT 5";

/// A server that was asked.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) configured: Kind,
    /// What it said, or why it said nothing.
    pub(super) facts: Result<Facts, String>,
    /// For asking more; none without facts.
    pub(super) session: Option<Session>,
}

/// What a server says about itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) connect: Duration,
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) version_number: u32,
    pub(super) system: Option<String>,
    pub(super) timeline: Option<u32>,
    pub(super) synchronous_commit: String,
    pub(super) standby_names: Option<StandbyNames>,
    pub(super) feedback: bool,
    pub(super) streaming_delay: String,
    pub(super) max_connections: u32,
    pub(super) encoding: String,
    /// The settings of a managed service.
    pub(super) managed: Option<String>,
    pub(super) pooling: Pooling,
    /// Whether the server can be told to notice a vanished client.
    pub(super) notices_vanished: bool,
    pub(super) cancel: Result<Duration, String>,
    pub(super) fence: Result<bool, String>,
    pub(super) standby: StandbyFacts,
    /// On a primary, what streams from it; `None` if this role may not see it.
    pub(super) senders: Option<Vec<Sender>>,
    pub(super) overrides: Vec<String>,
    pub(super) position: Option<Lsn>,
    pub(super) received: Option<Lsn>,
    /// How long ago the transaction that was replayed last was committed.
    pub(super) replayed_age: Option<Duration>,
    /// Further roles that can't log in, and why.
    pub(super) locked_out: Vec<(String, String)>,
}

/// What only a standby has.
#[derive(Clone, Debug, Default)]
pub(super) struct StandbyFacts {
    /// Whether a receiver is there and streams; `None` if this role may not see it.
    pub(super) streaming: Option<bool>,
    /// The name that it streams under.
    pub(super) name: Option<String>,
    pub(super) paused: bool,
}

/// A standby as its primary sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sender {
    pub(super) name: String,
    pub(super) streaming: bool,
}

impl Probe {
    /// Asks a server everything but its position, within `limit`.
    pub(super) async fn of(
        server: ServerConfig,
        configured: Kind,
        users: Vec<UserConfig>,
        limit: Duration,
    ) -> Self {
        let asked = timeout(limit, ask(&server.info, &users)).await;
        let asked = asked.unwrap_or_else(|_elapsed| {
            Err(format!("it did not answer everything within {limit:?}"))
        });
        let (facts, session) = match asked {
            Ok((facts, session)) => (Ok(facts), Some(session)),
            Err(error) => (Err(error), None),
        };
        Self { name: server.name, configured, facts, session }
    }

    /// Reads where it writes or has replayed to. The primary's is read before its standbys', so
    /// that a standby is never called behind for what was written in between.
    pub(super) async fn locate(&mut self, limit: Duration) {
        let (Some(session), Ok(facts)) = (&mut self.session, &mut self.facts) else { return };
        // Without an answer the position stays unknown, which the report says.
        if let Ok(Ok(row)) = timeout(limit, session.row(POSITION)).await {
            facts.position = text(&row, 0).and_then(|lsn| lsn.parse().ok());
            facts.received = text(&row, 1).and_then(|lsn| lsn.parse().ok());
            let age = number::<f64>(&row, 2).map(|ms| ms.max(0.0) / 1_000.0);
            facts.replayed_age = age.and_then(|age| Duration::try_from_secs_f64(age).ok());
        }
    }
}

async fn ask(info: &ConnInfo, users: &[UserConfig]) -> Result<(Facts, Session), String> {
    let login = Login::of(info);
    let began = Instant::now();
    let mut session = Session::open(info, &login).await.map_err(|error| told(&error))?;
    let connect = began.elapsed();
    let mut second = Session::open(info, &login).await.map_err(|error| told(&error))?;
    let failed = |error: AskError| format!("it can't be asked about itself: {error}");
    let general = session.row(GENERAL).await.map_err(failed)?;
    let kind = if text(&general, 2) == Some("t") { Kind::Standby } else { Kind::Primary };
    // Further facts may be denied; then they are unknown.
    let system = session.row(SYSTEM).await.unwrap_or_default();
    let mut timeline = number(&system, 1);
    let (mut standby, mut senders, mut overrides) = (StandbyFacts::default(), None, Vec::new());
    match kind {
        Kind::Standby => {
            let receiver = session.row(RECEIVER).await.unwrap_or_default();
            timeline = number(&receiver, 1).or(timeline);
            standby = standby_facts(&receiver, text(&general, 7));
        }
        Kind::Primary => {
            senders = session.rows(SENDERS).await.ok().and_then(|rows| self::senders(&rows));
            let rows = session.rows(OVERRIDES).await.unwrap_or_default();
            overrides = rows.iter().filter_map(|row| text(row, 0).map(str::to_owned)).collect();
        }
    }
    let pooling = Pooling::of(&mut session, &mut second).await.map_err(failed)?;
    let interval = "SET client_connection_check_interval = '100ms'";
    let notices_vanished = second.rows(interval).await.is_ok();
    let cancel = cancel(&mut second).await;
    second.close().await;
    let facts = Facts {
        connect,
        kind,
        version: own(&general, 0),
        version_number: number(&general, 1).unwrap_or_default(),
        system: text(&system, 0).map(str::to_owned),
        timeline,
        synchronous_commit: own(&general, 3),
        standby_names: StandbyNames::parse(&own(&general, 4)).ok(),
        feedback: text(&general, 5) == Some("on"),
        streaming_delay: own(&general, 6),
        max_connections: number(&general, 8).unwrap_or_default(),
        encoding: own(&general, 9),
        managed: text(&general, 10).map(str::to_owned),
        pooling,
        notices_vanished,
        cancel,
        fence: session.fence().await.map(|at| at.is_some()).map_err(|error| error.to_string()),
        standby,
        senders,
        overrides,
        position: None,
        received: None,
        replayed_age: None,
        locked_out: locked_out(info, users).await,
    };
    Ok((facts, session))
}

/// Cancels a statement, and says how long it took until the statement had ended and the server had
/// closed the connection that the request came by.
async fn cancel(session: &mut Session) -> Result<Duration, String> {
    let key = session.connection().cancel_key().clone();
    let sleeping = format!("SELECT pg_catalog.pg_sleep({})", SLEEP.as_secs());
    let both = async { tokio::join!(session.rows(&sleeping), request(&key)) };
    match timeout(CANCEL_MAX, both).await {
        Err(_elapsed) => Err(format!("a statement went on for {CANCEL_MAX:?} after its cancel")),
        Ok((_statement, Err(error))) => Err(format!("the request was not taken: {error}")),
        Ok((Err(error), Ok(took))) if error.sqlstate.as_deref() == Some("57014") => Ok(took),
        Ok((Err(error), Ok(_took))) => Err(error.to_string()),
        Ok((Ok(_rows), Ok(_took))) => Err("a cancelled statement ran to its end".to_owned()),
    }
}

async fn request(key: &CancelKey) -> std::io::Result<Duration> {
    sleep(BEFORE_CANCEL).await;
    let began = Instant::now();
    key.cancel().await?;
    Ok(began.elapsed())
}

async fn locked_out(info: &ConnInfo, users: &[UserConfig]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for user in users.iter().filter(|user| user.name != info.user) {
        let mut login = Login::of(info);
        login.user.clone_from(&user.name);
        login.credential.clone_from(&user.credential);
        match Session::open(info, &login).await {
            Ok(session) => session.close().await,
            Err(error) => out.push((user.name.clone(), told(&error))),
        }
    }
    out
}

fn standby_facts(receiver: &Row, cluster_name: Option<&str>) -> StandbyFacts {
    let told = text(receiver, 2);
    // Without a receiver all columns are NULL, and also for a role that may not see them.
    let streaming = text(receiver, 0).map(|status| status == "streaming");
    StandbyFacts {
        streaming,
        name: told.and_then(name_of).or_else(|| {
            // What a standby calls itself, if its connection string does not say otherwise.
            cluster_name.filter(|name| !name.is_empty()).map(str::to_owned)
        }),
        paused: text(receiver, 3) == Some("t"),
    }
}

/// The name in a standby's connection string.
fn name_of(conninfo: &str) -> Option<String> {
    let value = |keyword: &str| {
        let (_before, rest) = conninfo.split_once(keyword)?;
        let text = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next()?,
            None => rest.split(' ').next()?,
        };
        (!text.is_empty()).then(|| text.to_owned())
    };
    value(" application_name=").or_else(|| value("fallback_application_name="))
}

/// `None` if rows are there and their insides hidden.
fn senders(rows: &[Row]) -> Option<Vec<Sender>> {
    rows.iter()
        .map(|row| {
            Some(Sender { name: text(row, 0)?.to_owned(), streaming: text(row, 1)? == "streaming" })
        })
        .collect()
}

fn text(row: &Row, column: usize) -> Option<&str> {
    row.get(column)?.as_deref()
}

fn own(row: &Row, column: usize) -> String {
    text(row, column).unwrap_or_default().to_owned()
}

fn number<T: std::str::FromStr>(row: &Row, column: usize) -> Option<T> {
    text(row, column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_a_standby_streams_under() {
        let fallback = "user=r dbname=replication host=a fallback_application_name=s1 sslmode=x";
        assert_eq!(name_of(fallback).as_deref(), Some("s1"));
        let both = "user=r application_name=own fallback_application_name=s1";
        assert_eq!(name_of(both).as_deref(), Some("own"));
        assert_eq!(name_of("a=b application_name='my standby' x=y").as_deref(), Some("my standby"));
        assert_eq!(name_of("user=r host=a"), None);
    }

    #[test]
    fn what_this_role_may_not_see_is_unknown() {
        let hidden = vec![None, None, None, Some("f".to_owned())];
        assert_eq!(standby_facts(&hidden, Some("")).name, None);
        assert_eq!(standby_facts(&hidden, Some("s1")).name.as_deref(), Some("s1"));
        assert_eq!(standby_facts(&hidden, None).streaming, None);
        assert_eq!(senders(&[vec![None, None]]), None);
        assert_eq!(senders(&[]), Some(Vec::new()));
    }
}
