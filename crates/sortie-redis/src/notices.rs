//! Notices of other processes: what was outdated, and whose lease has ended.
//!
//! Each master is listened to on a connection of its own, so that what it says comes in order:
//! an answer to a PING means that every notice from before the PING has arrived. Until the next
//! such answer copies in memory are used for a bounded time. After a gap all of them are dropped.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisResult, Value, cmd,
};
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::link::Target;
use crate::names::Place;
use crate::shared::{Pause, Shared};

/// Masters that are listened to; more than a cluster can sensibly have.
const MASTERS_MAX: usize = 1_000;

struct Ears {
    masters: BTreeSet<(String, u16)>,
    conns: Vec<MultiplexedConnection>,
    lost: Arc<Notify>,
}

/// Listens for as long as the cache lives.
pub(crate) async fn listen(shared: Arc<Shared>) {
    let mut pause = Pause::default();
    loop {
        let limit = shared.steps.settings.timeout * 10;
        match timeout(limit, Ears::open(&shared)).await {
            Ok(Ok(ears)) => {
                // What was said in between was missed.
                shared.outdated.everything();
                shared.waits.wake_all();
                pause = Pause::default();
                ears.hear(&shared).await;
            }
            Ok(Err(error)) => debug!(%error, "no notices from the shared cache"),
            Err(_elapsed) => debug!("no notices from the shared cache: no answer in time"),
        }
        pause.pass().await;
    }
}

impl Ears {
    async fn open(shared: &Arc<Shared>) -> RedisResult<Self> {
        let lost = Arc::new(Notify::new());
        let infos = match &shared.steps.link.target {
            Target::Node(info) => vec![info.clone()],
            Target::Cluster(seeds) => of_cluster(seeds).await?,
        };
        let mut conns = Vec::with_capacity(infos.len());
        for info in &infos {
            let heard = Arc::downgrade(shared);
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let config = config.set_push_sender(hear(heard, Arc::clone(&lost)));
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            let client = Client::open(info.clone().set_redis_settings(settings))?;
            let mut conn = client.get_multiplexed_async_connection_with_config(&config).await?;
            conn.subscribe(&*shared.steps.names.channel).await?;
            conns.push(conn);
        }
        let masters = infos.iter().filter_map(|info| host_and_port(info.addr())).collect();
        Ok(Self { masters, conns, lost })
    }

    /// Says how far everything was heard, until something goes wrong.
    async fn hear(mut self, shared: &Shared) {
        let settings = &shared.steps.settings;
        let pause = shared.outdated.bound() / 4;
        loop {
            let asked = Instant::now();
            for conn in &mut self.conns {
                let limit = settings.timeout * 2;
                let answer = timeout(limit, cmd("PING").query_async::<Value>(conn)).await;
                if !matches!(answer, Ok(Ok(_))) {
                    return;
                }
                // A cluster that changed has masters that nobody listens to.
                if let Target::Cluster(seeds) = &shared.steps.link.target {
                    let now = timeout(limit, masters(conn, &seeds[0])).await;
                    if !matches!(now, Ok(Ok(now)) if now == self.masters) {
                        return;
                    }
                }
            }
            shared.outdated.heard_until(asked);
            select! {
                () = sleep(pause) => {}
                () = self.lost.notified() => return,
            }
        }
    }
}

/// What is done with what a connection hears, at once and in order.
fn hear(
    shared: Weak<Shared>,
    lost: Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    move |push| {
        let Some(shared) = shared.upgrade() else { return Err(()) };
        match (push.kind, push.data.as_slice()) {
            (PushKind::Message, [_channel, Value::BulkString(notice)]) => {
                take(&shared, notice);
            }
            (PushKind::Disconnection, _) => lost.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

fn take(shared: &Shared, notice: &[u8]) {
    match notice {
        [b'i', key @ ..] => {
            shared.outdated.key(&Place::of(key.to_vec()));
            shared.waits.wake(key);
        }
        [b'w', key @ ..] => shared.waits.wake(key),
        [b'b', bucket @ ..] => {
            let bucket = std::str::from_utf8(bucket).ok().and_then(|text| text.parse().ok());
            bucket.map_or_else(|| shared.outdated.everything(), |one| shared.outdated.bucket(one));
            shared.waits.wake_all();
        }
        // A newer version's: whatever it says, this is enough.
        _ => shared.outdated.everything(),
    }
}

/// Asks one seed after the other which masters there are.
async fn of_cluster(seeds: &[ConnectionInfo]) -> RedisResult<Vec<ConnectionInfo>> {
    let mut last = Ok(Vec::new());
    for seed in seeds {
        let asked = async {
            let client = Client::open(seed.clone())?;
            let config = AsyncConnectionConfig::new();
            let mut conn = client.get_multiplexed_async_connection_with_config(&config).await?;
            masters(&mut conn, seed).await
        };
        match asked.await {
            Ok(masters) => {
                let info = |(host, port)| seed.clone().set_addr(moved(seed.addr(), host, port));
                return Ok(masters.into_iter().map(info).collect());
            }
            Err(error) => last = Err(error),
        }
    }
    last
}

async fn masters(
    conn: &mut MultiplexedConnection,
    seed: &ConnectionInfo,
) -> RedisResult<BTreeSet<(String, u16)>> {
    let slots: Value = cmd("CLUSTER").arg("SLOTS").query_async(conn).await?;
    let Value::Array(ranges) = slots else { return Ok(BTreeSet::new()) };
    let master = |range: &Value| {
        let Value::Array(parts) = range else { return None };
        let Some(Value::Array(node)) = parts.get(2) else { return None };
        let host: Option<String> = redis::from_redis_value_ref(node.first()?).ok();
        let port: u16 = redis::from_redis_value_ref(node.get(1)?).ok()?;
        // No name: the one under which it was asked.
        let host = host.filter(|host| !host.is_empty());
        Some((host.or_else(|| host_and_port(seed.addr()).map(|(host, _)| host))?, port))
    };
    Ok(ranges.iter().filter_map(master).take(MASTERS_MAX).collect())
}

fn host_and_port(addr: &ConnectionAddr) -> Option<(String, u16)> {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

/// The same kind of address, elsewhere.
fn moved(like: &ConnectionAddr, to: String, at: u16) -> ConnectionAddr {
    match like.clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: to, port: at, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(to, at),
    }
}
