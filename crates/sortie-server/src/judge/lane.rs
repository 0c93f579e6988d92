//! The shared lane of all clusters: what the relay asks for verdicts and answers.

mod told;
mod view;
mod who;

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use bytes::Bytes;
use sortie::ShardId;
use sortie_postgres::{Bind, Login, Server};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use self::told::{is_of_statement, told};
use super::parameters::unreadable;
use super::past::{Past, is_still_known};
use super::{Judge, Looked, Opinion, look};
use crate::read::{
    Alone, Description, Floors, PgReplica, ReadConfig, ReadPath, ReadStats, Wish, kept, login,
};
use crate::relay;
use crate::relay::{Asked, Outcome, PipeReason, Shared, Values, Valve, Verdict, behind};
use crate::sql::{Bound, Known, Proof, Settings, SqlError, state, utf8};
use crate::{budget::Budget, config::ClusterConfig};

/// How often the servers' catalogs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long after a look nobody looks again, whatever surprises there are.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The shared lane of every cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedLane(pub(super) Arc<All>);

pub(super) struct All {
    pub(super) lanes: Box<[Arc<Lane>]>,
    pub(super) past: Arc<Past>,
}

/// One cluster's.
pub(super) struct Lane {
    config: ClusterConfig,
    database: Arc<str>,
    pub(super) path: ReadPath<PgReplica>,
    judge: Judge,
    /// Those of each shard that reads go to.
    replicas: Vec<Vec<PgReplica>>,
    /// The servers of each shard, in the order in which they are looked at.
    servers: Vec<Vec<Looked>>,
    known: watch::Sender<Option<Arc<Known>>>,
    /// How often that has changed: counted behind the change.
    changes: AtomicU64,
    /// Something was not as it was known.
    surprised: Notify,
    valve: Arc<Valve>,
}

/// A cluster's servers, each with its name.
pub(crate) struct ClusterServers<'a> {
    pub(crate) config: &'a ClusterConfig,
    /// The database on its servers.
    pub(crate) database: &'a str,
    /// Closed while it is paused.
    pub(crate) valve: Arc<Valve>,
    /// Of each shard those that are read from, and those that are not.
    pub(crate) shards: Vec<[Vec<(String, Server)>; 2]>,
}

impl SharedLane {
    /// Creates the lane of these clusters, in the order of the configuration. It knows nothing of
    /// their databases, and so shares nothing, until [`SharedLane::keepers`] have looked; unless
    /// it is known from `before`, the lane that it takes the place of.
    ///
    /// # Panics
    ///
    /// Panics for a cluster without shards.
    pub(crate) fn new<'a>(
        clusters: impl IntoIterator<Item = ClusterServers<'a>>,
        (before, budget): (Option<&Self>, &Budget),
    ) -> Self {
        let lanes = clusters.into_iter().map(|cluster| {
            let known = before.and_then(|before| before.named(&cluster.config.name));
            match known {
                Some(same) if same.config == *cluster.config => Arc::clone(same),
                known => Arc::new(Lane::new(cluster, known.map(|it| &**it), budget)),
            }
        });
        let past = before.map_or_else(Arc::default, |before| Arc::clone(&before.0.past));
        Self(Arc::new(All { lanes: lanes.collect(), past }))
    }

    /// What became of the flights, the attempts and the legs, also of lanes whose place others have
    /// taken.
    pub(crate) fn stats(&self) -> ReadStats {
        let past = self.0.past.read();
        self.0.lanes.iter().map(|lane| lane.path.stats()).chain([past]).sum()
    }

    fn named(&self, name: &str) -> Option<&Arc<Lane>> {
        self.0.lanes.iter().find(|lane| lane.config.name == name)
    }

    /// Waits until every cluster's databases have been looked at.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    pub(crate) async fn looked(&self) {
        for lane in &self.0.lanes {
            let mut known = lane.known.subscribe();
            // The sender is the lane's own: it outlives this.
            let _known = known.wait_for(Option::is_some).await;
        }
    }
}

impl Lane {
    fn new(cluster: ClusterServers<'_>, before: Option<&Self>, budget: &Budget) -> Self {
        let config = cluster.config;
        let replica = |(label, server): &(String, Server)| {
            PgReplica::new(server.clone(), label.clone(), config.timeouts.wait)
        };
        let replicas: Vec<Vec<PgReplica>> =
            cluster.shards.iter().map(|[read, _]| read.iter().map(replica).collect()).collect();
        let way = ReadConfig {
            hedge: config.hedge,
            soft_age: config.soft_age,
            flight_max: config.timeouts.flight,
            behind_max: config.timeouts.wait,
            share_max: config.share_max,
            budget: budget.clone(),
            ..ReadConfig::default()
        };
        let servers = |[read, other]: [Vec<(String, Server)>; 2]| {
            read.iter().chain(&other).map(|(_, server)| Looked::new(server)).collect()
        };
        Self {
            config: config.clone(),
            database: cluster.database.into(),
            path: ReadPath::new(&replicas, &way),
            judge: Judge::new(replicas.len()),
            replicas,
            servers: cluster.shards.into_iter().map(servers).collect(),
            known: watch::Sender::new(before.and_then(|before| {
                before.known().filter(|_| is_still_known(&before.config, config))
            })),
            changes: AtomicU64::new(0),
            surprised: Notify::new(),
            valve: cluster.valve,
        }
    }

    async fn keep_known(&self) -> Infallible {
        let mut said = String::new();
        loop {
            match look(&self.servers, &self.config.tables).await {
                Ok(known) => {
                    let known = Arc::new(known);
                    // What is the same keeps its verdicts.
                    let mut before = None;
                    let changed = self.known.send_if_modified(|now| {
                        let changed = now.as_deref() != Some(&*known);
                        if changed {
                            before = now.replace(Arc::clone(&known));
                        }
                        changed
                    });
                    if before.is_some_and(|before| before.defaults != known.defaults) {
                        // Whoever comes now has them, whichever connection he gets.
                        self.servers.iter().flatten().for_each(Looked::retire);
                    }
                    self.changes.fetch_add(u64::from(changed), Release);
                    said.clear();
                }
                Err(error) => {
                    // The same is said once.
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!(cluster = self.config.name, error, "nothing new is known");
                        said = error;
                    }
                }
            }
            sleep(LOOK_PAUSE).await;
            if self.known.borrow().is_some() {
                let _surprised = timeout(LOOK_EVERY, self.surprised.notified()).await;
                self.valve.opened().await;
            }
        }
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.known.borrow().clone()
    }

    fn is_sharded(&self) -> bool {
        self.servers.len() > 1
    }

    /// Looks again where an error says that a database is not as it was known.
    fn suspect(&self, error: &SqlError) {
        if matches!(error.code, state::UNDEFINED_TABLE | state::UNDEFINED_COLUMN) {
            self.surprised.notify_one();
        }
    }

    async fn read(
        &self,
        who: &relay::Who,
        proof: &Proof,
        bind: Option<(&Bind, u32)>,
        wish: &Wish,
    ) -> Result<Outcome, SqlError> {
        let person = self.who(who);
        let Some(prepared) = &proof.judged.spread else {
            let is_format = |format: &i16| matches!(format, 0 | 1);
            if bind.is_some_and(|(bind, _)| !bind.result_formats.iter().all(is_format)) {
                return Ok(Outcome::Pipe(PipeReason::Types));
            }
            let read = self.path.read_alone(&person, shard(who), proof, bind, wish).await;
            // Rows may have come before an error; and nobody knows how fresh it is.
            let is_doubtful = !proof.judged.is_valid || !wish.floors.is_none();
            return match read {
                Err(error) if is_doubtful && is_of_statement(&error) => {
                    self.suspect(&error);
                    Ok(Outcome::Pipe(PipeReason::Error))
                }
                // A standby does not do what the session's own server may, for example begin
                // transactions that are serializable; and a wrong number of values is told with
                // the statement's name, which is another one here.
                Err(error)
                    if error.report.is_some()
                        && matches!(
                            error.code,
                            state::FEATURE_NOT_SUPPORTED | state::PROTOCOL_VIOLATION
                        ) =>
                {
                    Ok(Outcome::Pipe(PipeReason::Error))
                }
                Err(error) => Err(error),
                Ok(Alone::Large(large)) => Ok(Outcome::Large(large)),
                Ok(Alone::Slow) => Ok(Outcome::Pipe(PipeReason::Size)),
                Ok(Alone::Behind) => Ok(Outcome::Pipe(PipeReason::Behind)),
                Ok(Alone::Landed(landed)) => {
                    Ok(Outcome::Reply(told(landed.reply.head.clone(), &landed.reply), landed))
                }
            };
        };
        let (bind, rows_max) = bind.unzip();
        let (formats, values, results) = bind.map_or_else(Default::default, |bind| {
            (&*bind.formats, &*bind.values, &*bind.result_formats)
        });
        // Copied: what is kept must not pin a client's read buffer.
        let copied = |value: &Bytes| Bytes::copy_from_slice(value);
        let values: Vec<_> = values.iter().map(|value| value.as_ref().map(copied)).collect();
        let moved = |error: SqlError| error.moved(|place| proof.canonical.original(place));
        let Bound::Read(bound) = prepared.bind(formats, &values).map_err(moved)? else {
            return Err(SqlError::new(state::INTERNAL_ERROR, "a proof of what is no read"));
        };
        let read = self.path.read_at(&person, &bound, results, wish).await.map_err(moved)?;
        let Some(landed) = read else { return Err(behind()) };
        let reply = landed.reply.first(rows_max.unwrap_or(0));
        Ok(Outcome::Reply(told(bound.head(results)?, &reply), landed))
    }
}

impl Shared for SharedLane {
    type Plan = Proof;

    fn judge(&self, who: &relay::Who, asked: &Asked<'_>) -> Verdict<Proof> {
        let Some(lane) = self.0.lanes.get(who.cluster) else {
            return Verdict::Pipe(PipeReason::Catalog);
        };
        let spread = lane.is_sharded() && who.shard.is_none();
        let Some(known) = lane.known() else {
            let reason = "nothing is known of the shards' databases yet";
            return if spread {
                Verdict::Refuse(Box::new(SqlError::new(state::CANNOT_CONNECT_NOW, reason)))
            } else {
                Verdict::Pipe(PipeReason::Catalog)
            };
        };
        let opinion = lane.judge.judge(asked.text, asked.oids, !spread, &known);
        match opinion {
            Opinion::Share(plan) => match unreadable(&who.parameters, spread) {
                None => Verdict::Share(plan),
                Some(name) if spread => {
                    let reason = format!("parameter \"{name}\" is not supported across shards");
                    Verdict::Refuse(Box::new(SqlError::unsupported(reason)))
                }
                Some(_) => Verdict::Pipe(PipeReason::Parameters),
            },
            Opinion::Pipe(reason) => Verdict::Pipe(reason),
            Opinion::Refuse(error) => {
                lane.suspect(&error);
                Verdict::Refuse(error)
            }
        }
    }

    fn known_at(&self, cluster: usize) -> u64 {
        self.0.lanes.get(cluster).map_or(0, |lane| lane.changes.load(Acquire))
    }

    fn likeness(&self, who: &relay::Who) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        (who.cluster, who.shard).hash(&mut hasher);
        if let Some(lane) = self.0.lanes.get(who.cluster) {
            lane.who(who).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn reads_committed(&self, who: &relay::Who) -> bool {
        let known = self.0.lanes.get(who.cluster).and_then(|lane| lane.known());
        let is_set = |name: &str| name.contains("transaction") || name == "session characteristics";
        known.is_some_and(|known| known.reads_committed)
            && !who.parameters.iter().any(|(name, value)| match &**name {
                "options" => match Settings::options(value) {
                    Ok(options) => options.iter().any(|(name, _)| is_set(name)),
                    Err(_unreadable) => true,
                },
                name => is_set(name),
            })
    }

    fn hides(&self, cluster: usize, text: &[u8]) -> bool {
        let Some(lane) = self.0.lanes.get(cluster) else { return false };
        let known = lane.known.borrow();
        let vocabulary = known.as_ref().map(|known| &known.vocabulary);
        vocabulary.is_some_and(|it| utf8(text).is_ok_and(|text| it.hides(text)))
    }

    fn prepared(&self, plan: &Proof, number: u64) {
        kept::prepared(plan.judged.key(), number);
    }

    fn kept(&self, who: &relay::Who, plan: &Proof) -> Option<(u64, u64, Arc<Login>)> {
        let lane = self.0.lanes.get(who.cluster)?;
        let judged = &plan.judged;
        kept::is_worth_it(plan).then(|| (judged.number, judged.key(), login(&lane.who(who))))
    }

    async fn describe(
        &self,
        who: &Arc<relay::Who>,
        plan: &Arc<Proof>,
        floors: &Floors,
    ) -> Option<Arc<Description>> {
        let lane = self.0.lanes.get(who.cluster)?;
        let person = lane.who(who);
        let described = lane.path.describe(&person, shard(who), plan, floors).await;
        described.inspect_err(|error| lane.suspect(error)).ok()
    }

    async fn read(
        &self,
        who: &Arc<relay::Who>,
        plan: &Arc<Proof>,
        values: &Values,
        wish: &Wish,
    ) -> Result<Outcome, SqlError> {
        let Some(lane) = self.0.lanes.get(who.cluster) else {
            return Ok(Outcome::Pipe(PipeReason::Catalog));
        };
        let bind = match values {
            Values::Simple if plan.judged.has_params => {
                let message = "there is no parameter $1";
                return Err(SqlError::new(state::UNDEFINED_PARAMETER, message));
            }
            Values::Simple => None,
            Values::Bound { bind, rows_max } => Some((bind, *rows_max)),
        };
        // Each reader's own, never the flight's: others may wait longer.
        let own = who.parameters.iter().find(|(name, _)| &**name == "statement_timeout");
        let own = own.and_then(|(_, value)| Settings::timeout(value));
        let own = own.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = wish.deadline.into_iter().chain(own).min();
        let wish = Wish { deadline, ..wish.clone() };
        let read = Box::pin(lane.read(who, plan, bind, &wish)).await;
        read.inspect_err(|error| lane.suspect(error))
    }
}

/// The one shard that is asked.
fn shard(who: &relay::Who) -> ShardId {
    ShardId::new(u32::try_from(who.shard.unwrap_or(0)).expect("shards are few"))
}

impl std::fmt::Debug for SharedLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.lanes.iter().map(|lane| &lane.config.name)).finish()
    }
}
