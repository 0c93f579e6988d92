//! The end of the startup phase: which cluster, as whom, with what.

use std::sync::Arc;

use bytes::BytesMut;
use sortie_postgres::{Login, Parameters, backend};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::course::Course;
use super::crowd::Counted;
use super::directory::Directory;
use super::effect::{Reason, is_readable};
use super::health::Present;
use super::homes::Homes;
use super::insight::{Lately, Noticed};
use super::lasting::Lasting;
use super::ledger::Ledger;
use super::roster::{Ends, Listed, Meter, Person};
use super::seen::Seen;
use super::session::{Account, Session};
use super::shared::Shared;
use super::switches::{self, Switches};
use super::world::World;
use super::{Inner, client::Client};
use crate::auth::Proof;
use crate::config::{PipeTarget, UserConfig};
use crate::session::code::INVALID_AUTHORIZATION;
use crate::session::drained;
use crate::session::failure::Failure;
use crate::session::keys::Key;
use crate::session::refusal::Refusal;
use crate::session::socket::Socket;
use crate::session::startup::{Asked, Hello, Wish, going_down, greet as greet_client};
use crate::sql::{SqlError, state};

/// The SQLSTATE of a database that does not exist.
const INVALID_CATALOG_NAME: &str = "3D000";

/// The SQLSTATE of a wrong password.
const PASSWORD_WRONG: &str = "28P01";

/// How many roles a hint names.
const ROLES_SHOWN_MAX: usize = 10;

/// What a client came for, and what it has proved itself with.
pub(super) type Entered = (Wish, Proof);

/// What a session begins with of the configuration.
pub(super) type Place<L> = (Arc<World<L>>, Arc<Cluster>);

/// A session that may begin.
pub(super) struct Opened {
    /// Of its cluster, whatever is configured.
    pub(super) lasting: Arc<Lasting>,
    pub(super) account: Account,
    pub(super) switches: Switches,
    /// Whether texts can be read, by the encoding that the session begins with.
    is_readable: bool,
    pub(super) key: Key,
    pub(super) greeting: Arc<Parameters>,
    present: Present,
    _counted: Counted,
    pub(super) listed: Listed,
}

impl<L: Shared> Inner<L> {
    /// Looks whether a client may have the session that it wants, and greets it.
    pub(super) async fn open<S>(
        &self,
        socket: &mut Socket<S>,
        world: &World<L>,
        (hello, proof): (&Hello, Proof),
        ends: Ends,
    ) -> Result<(Arc<Cluster>, Opened), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let refused = |reason| move |error| Failure::Refused(reason, Some(error));
        let asked = hello.read().map_err(refused(Refusal::Protocol))?;
        let (cluster, shard) = world.asked(asked.database).map_err(refused(Refusal::Database))?;
        let user = match (cluster.config.user(asked.user), proof) {
            (Some(user), _) => user.clone(),
            // Whoever has proved who it is may come; what it may do there is the servers' affair.
            (None, proof) if proof.is_given() => UserConfig::of(&cluster.config, asked.user),
            (None, _) => return Err(refused(Refusal::Role)(stranger(asked.user, &cluster))),
        };
        let counted = cluster.lasting.crowd.join(asked.user, user.connections_max);
        let counted = counted.ok_or_else(|| refused(Refusal::RoleSessions)(crowded(asked.user)))?;
        let (mut switches, defaults) = (Switches::default(), Switches::of(&user));
        let mut login = Login::new(asked.user, cluster.database.clone());
        // The keys that a role has proved itself with also log in where it has the same secret.
        let keys = proof.keys().filter(|_| asked.user != cluster.config.role());
        login.credential = user.login(keys);
        let (mut encoding, mut application) = ("", "");
        for (name, value) in asked.parameters {
            match name {
                "user" | "database" | "replication" => continue,
                "options" => {
                    let rest = switches::from_options(value, &mut switches, cluster.shards())
                        .map_err(refused(Refusal::Setting))?;
                    if !rest.is_empty() {
                        login = login.parameter(name, rest);
                    }
                    continue;
                }
                _ if name.starts_with("sortie.") => {
                    let set = switches.set(name, Some(value), cluster.shards());
                    set.map_err(refused(Refusal::Setting))?;
                    continue;
                }
                "client_encoding" => encoding = value,
                "application_name" => application = value,
                _ => {}
            }
            login = login.parameter(name, value);
        }
        let is_readable = encoding.is_empty() || is_readable(encoding.trim_matches(['\'', '"']));
        let key = self.keys.register(hello.secret_len()).ok_or_else(Failure::too_many)?;
        let ends = (ends, socket.is_encrypted());
        let listed = self.enlist(&key, (asked.user, &cluster.config.name), ends, application);
        let at = (shard.unwrap_or(0), user.pipe_target, world.lane.known_at(cluster.index));
        let present = cluster.attend().await;
        let greeting = self.greeted((&cluster, at), &login, &listed).await?.map_err(|error| {
            if error.code.starts_with("22") || error.code.starts_with("42") {
                // A server finds a parameter wrong when it knows already who asks.
                backend::authentication_ok(&mut socket.output);
            }
            let by_keys = keys.is_some() && login.credential != user.credential;
            if by_keys && error.code == PASSWORD_WRONG {
                return refused(Refusal::Server)(other_secret(asked.user));
            }
            refused(Refusal::Server)(error)
        })?;
        let (login, mode, lasting) = (Arc::new(login), user.mode, Arc::clone(&cluster.lasting));
        let account = Account { login, mode, defaults, target: at.1, proof, shard };
        greet(&mut socket.output, &greeting, &key);
        let opened = Opened {
            lasting,
            account,
            switches,
            is_readable,
            key,
            greeting,
            present,
            _counted: counted,
            listed,
        };
        Ok((cluster, opened))
    }

    /// What a server greets such a session with, unless this one drains before that is known.
    async fn greeted(
        &self,
        (cluster, at): (&Cluster, (usize, PipeTarget, u64)),
        login: &Login,
        listed: &Listed,
    ) -> Result<Result<Arc<Parameters>, SqlError>, Failure> {
        let mut drain = self.drain.clone();
        tokio::select! {
            greeting = cluster.greeting(at, login, &listed.entry) => Ok(greeting),
            () = drained(&mut drain) => {
                Err(Failure::Refused(Refusal::Draining, Some(going_down())))
            }
        }
    }

    /// Enters a session in the roster.
    fn enlist(
        &self,
        key: &Key,
        (user, database): (&str, &str),
        (ends, is_encrypted): (Ends, bool),
        application: &str,
    ) -> Listed {
        let (id, user, database) = (key.process(), user.into(), database.into());
        self.roster.enter(Person { id, user, database, ends, is_encrypted }, application)
    }

    /// Learns what a client came for, and lets it prove who it is if that is a session.
    pub(super) async fn enter<S>(
        &self,
        socket: &mut Socket<S>,
        world: &World<L>,
    ) -> Result<Entered, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let deadline = Instant::now() + world.limits.login_max;
        let mut drain = self.drain.clone();
        let mut login = world.gate.logins().begin();
        let entering = async {
            let greeting = greet_client(socket, world.gate.tls(), &self.keys, &mut drain);
            let Ok(wish) = timeout_at(deadline, greeting).await else {
                return Err(Failure::Refused(Refusal::Slow, None));
            };
            let mut proof = Proof::Unasked;
            let wish = wish.map_err(Refusal::Protocol.because())?;
            if let Wish::Session(hello) = &wish {
                hello.negotiate(socket);
                let asked = hello.read().map_err(Failure::Fatal);
                let asked = asked.map_err(Refusal::Protocol.because())?;
                proof = self.prove(socket, world, (&asked, deadline)).await?;
            }
            Ok((wish, proof))
        };
        tokio::select! {
            entered = entering => entered,
            () = login.turned_out() => Err(Failure::Refused(Refusal::MadeRoom, None)),
        }
    }

    /// Lets a client prove who it is, unless the server drains or it takes too long.
    async fn prove<S>(
        &self,
        socket: &mut Socket<S>,
        world: &World<L>,
        (asked, deadline): (&Asked<'_>, Instant),
    ) -> Result<Proof, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut drain = self.drain.clone();
        let user = asked.user;
        let proving = async {
            let directory = world.directory(asked.database);
            let Some(directory) = directory.filter(|_| world.gate.asks(user)) else {
                return world.gate.prove(socket, user, None).await;
            };
            let found = directory.find(user).await.map_err(Failure::Fatal);
            let found = found.map_err(Refusal::Server.because())?;
            let proven = world.gate.prove(socket, user, found).await;
            if proven.is_err() {
                // It may have another password by now.
                directory.doubt(user).await;
            }
            proven
        };
        let because = Refusal::Protocol.because();
        tokio::select! {
            proven = timeout_at(deadline, proving) => match proven {
                Ok(proven) => proven.map_err(because),
                Err(_late) => {
                    let message = "canceling authentication due to timeout";
                    let error = SqlError::new(state::QUERY_CANCELED, message);
                    Err(Failure::Refused(Refusal::Slow, Some(error)))
                }
            },
            () = drained(&mut drain) => {
                Err(Failure::Refused(Refusal::Draining, Some(going_down())))
            }
        }
    }
}

impl<L> World<L> {
    /// Where names are looked up that the users file does not have.
    fn directory(&self, database: &str) -> Option<Directory> {
        self.asked(database).ok()?.0.directory.clone()
    }

    /// The cluster that a database name means, and the shard.
    fn asked(&self, database: &str) -> Result<(Arc<Cluster>, Option<usize>), SqlError> {
        if let Some(cluster) = self.named(database) {
            return Ok((Arc::clone(cluster), None));
        }
        let bound = database.rsplit_once('.').and_then(|(name, shard)| {
            let cluster = self.named(name)?;
            let shard = shard.parse().ok().filter(|shard| *shard < cluster.shards())?;
            Some((Arc::clone(cluster), Some(shard)))
        });
        bound.ok_or_else(|| {
            let message = format!("database \"{database}\" does not exist");
            let mut error = SqlError::new(INVALID_CATALOG_NAME, message);
            let names = self.clusters.iter().map(|cluster| match cluster.shards() {
                1 => cluster.config.name.clone(),
                shards => format!("{0}, {0}.0 to {0}.{1}", cluster.config.name, shards - 1),
            });
            error.hint = Some(format!("There are: {}.", names.collect::<Vec<_>>().join(", ")));
            error
        })
    }
}

/// A role whose secret here is not the one that the servers have.
fn other_secret(role: &str) -> SqlError {
    tracing::warn!(role, "a server does not take the keys that a client has proved itself with");
    let message = format!("password authentication failed for user \"{role}\"");
    SqlError::new(PASSWORD_WRONG, message)
        .detail("sortie has let it in; the server behind it has not.")
        .hint(format!(
            "The role's secret must be the same here and there, with its salt: copy it from \
             pg_authid, or give the role a `password_file`. See docs/auth.md, role \"{role}\"."
        ))
}

/// A role that has as many sessions as it may.
fn crowded(role: &str) -> SqlError {
    let message = format!("too many connections for role \"{role}\"");
    SqlError::new(state::TOO_MANY_CONNECTIONS, message)
}

/// A role that the configuration does not name.
fn stranger(role: &str, cluster: &Cluster) -> SqlError {
    let message = format!("role \"{role}\" may not start a session");
    let users = &cluster.config.users;
    let mut names: Vec<&str> =
        users.iter().take(ROLES_SHOWN_MAX).map(|user| user.name.as_str()).collect();
    if users.len() > names.len() {
        names.push("others");
    }
    let hint = format!(
        "These may: {}. Another one is named in the configuration: [clusters.{}.users.{role}].",
        names.join(", "),
        cluster.config.name,
    );
    SqlError::new(INVALID_AUTHORIZATION, message).hint(hint)
}

fn greet(output: &mut BytesMut, greeting: &Parameters, key: &Key) {
    backend::authentication_ok(output);
    for (name, value) in greeting.iter() {
        let text = |bytes| String::from_utf8_lossy(bytes);
        backend::parameter_status(output, &text(name), &text(value));
    }
    backend::backend_key_data(output, key.process(), key.secret());
}

impl<'a, S, L: Shared> Session<'a, S, L> {
    /// The session that was opened.
    pub(super) fn new(
        inner: &'a Inner<L>,
        client: Client<S>,
        (world, cluster): Place<L>,
        opened: &'a Opened,
    ) -> Self {
        let (mut ledger, lanes) = (Ledger::new(), &opened.lasting.lanes);
        if !opened.is_readable && ledger.soil(Reason::Encoding) {
            lanes.soiled(Reason::Encoding);
        }
        Self {
            inner,
            lanes,
            looked_at: world.number(),
            world,
            cluster,
            client,
            key: &opened.key,
            account: opened.account.clone(),
            ledger,
            homes: Homes::new(),
            switches: opened.switches,
            lazy: None,
            seen: Seen::default(),
            course: Course::new(),
            held: None,
            unready: None,
            cancel_due: false,
            unclean: 0,
            out: BytesMut::new(),
            events: Vec::new(),
            passing: 0,
            dropping: false,
            skipping: false,
            ending: false,
            leaving: None,
            known: Arc::clone(&opened.greeting),
            rested: None,
            lone: None,
            last: None,
            who: None,
            dirty: None,
            present: &opened.present,
            meter: Meter::new(&opened.listed.entry),
            noticed: Noticed::default(),
            timed: None,
            lately: Lately::default(),
        }
    }
}
