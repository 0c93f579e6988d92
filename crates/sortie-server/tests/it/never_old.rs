//! Nobody reads anything older than it may: in all lanes and modes, while replay stands still, and
//! across a promotion.
//!
//! A writer writes the versions 0, 1, 2, … one after the other to the rows of a small table,
//! version `v` to row `v % ROWS`. So whoever has seen a version knows what the other rows had
//! then, at least, and sees it when it gets less.
//!
//! `SORTIE_NEVER_OLD_READS` says how many reads there are in each of the phases.

mod broken;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_testkit::{Cluster, Frame, LabConfig, Node, Wire};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::broken::Broken;
use crate::relay::count;
use crate::stage::{self, Endpoint, Setup};
use crate::support::among_others;

const ROWS: i64 = 4;
/// Readers of each kind.
const READERS: usize = 2;
/// How old a load may be that a reader of the kind [`Kind::Running`] joins.
const AGE: Duration = Duration::from_millis(30);
/// Reads of one phase, unless said.
const READS: usize = 250;
/// Longer than a phase takes where nothing hangs, for each read.
const PHASE_MAX: Duration = Duration::from_secs(120);
/// Has a query take some tenths of a second behind its snapshot.
const SLOW: &str = " AND (SELECT count(*) FROM generate_series(1, 300000)) > 0";
/// Versions whose moments are remembered.
const MOMENTS_MAX: usize = 10_000;

const TABLES: &str = "CREATE ROLE tester LOGIN; CREATE ROLE walker LOGIN;
    CREATE TABLE versions (id int8 PRIMARY KEY, version int8);
    INSERT INTO versions SELECT id, id FROM generate_series(0, 3) AS s (id);
    CREATE TABLE own (id int8 PRIMARY KEY, version int8);
    INSERT INTO own SELECT id, 0 FROM generate_series(0, 9) AS s (id);
    GRANT SELECT, UPDATE ON versions, own TO tester, walker;";

/// Who goes to replicas only, in either lane; the others' statements are piped to the primary.
const WALKER: &str = "[clusters.postgres.timeouts]\nwait = \"30s\"
    [clusters.postgres.users.walker]\npipe_target = \"replica\"";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Shares loads that begin after it asks.
    Fresh,
    /// Shares loads that run, up to an age.
    Running,
    /// Reads in transactions that no server knows of.
    Lazy,
    /// Shares, and reads by the pipe, in turn, always from replicas.
    Both,
    /// Writes to the primary, and shares what replicas have.
    Writer,
}

const KINDS: [Kind; 5] = [Kind::Fresh, Kind::Running, Kind::Lazy, Kind::Both, Kind::Writer];

/// What everybody knows.
#[derive(Debug, Default)]
struct Known {
    /// Where the writer writes.
    primary: Mutex<Option<SocketAddr>>,
    /// Its commits wait until every standby has replayed them.
    is_waiting: AtomicBool,
    /// Each version that every standby had, and when that was known.
    everywhere: Mutex<VecDeque<(Instant, i64)>>,
    written: AtomicI64,
    /// The writer rests between two writes.
    rests: AtomicBool,
    reads: AtomicUsize,
    /// How many readers write.
    writers: AtomicUsize,
    /// The primary is gone: whoever needs it is told so.
    is_promoted: AtomicBool,
    over: AtomicBool,
}

impl Known {
    /// The version that every standby had at that moment.
    fn at(&self, moment: Instant) -> i64 {
        let everywhere = self.everywhere.lock().unwrap();
        everywhere.iter().rev().find(|(known, _)| *known <= moment).map_or(0, |known| known.1)
    }

    /// Writes one version after the other.
    async fn write(self: Arc<Self>) {
        let mut wire: Option<(SocketAddr, bool, Wire)> = None;
        while !self.over.load(SeqCst) {
            let to = *self.primary.lock().unwrap();
            let is_waiting = self.is_waiting.load(SeqCst);
            let Some(to) = to else {
                wire = None;
                self.rests.store(true, SeqCst);
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            self.rests.store(false, SeqCst);
            if wire.as_ref().is_none_or(|known| (known.0, known.1) != (to, is_waiting)) {
                let new = Wire::try_connect_to(to, "tester", "postgres").await;
                let mut new = new.unwrap_or_else(|said| panic!("{said:?}"));
                let level = if is_waiting { "remote_apply" } else { "local" };
                new.simple(&format!("SET synchronous_commit = {level}")).await;
                wire = Some((to, is_waiting, new));
            }
            let version = self.written.load(SeqCst) + 1;
            let (_, _, wire) = wire.as_mut().unwrap();
            let row = version % ROWS;
            wire.simple(&format!("UPDATE versions SET version = {version} WHERE id = {row}")).await;
            self.written.store(version, SeqCst);
            if is_waiting {
                let mut everywhere = self.everywhere.lock().unwrap();
                everywhere.push_back((Instant::now(), version));
                if everywhere.len() > MOMENTS_MAX {
                    everywhere.pop_front();
                }
            }
        }
    }

    /// Lets the writer rest, until [`Known::go_on`].
    async fn rest(&self) {
        *self.primary.lock().unwrap() = None;
        while !self.rests.load(SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn go_on(&self, primary: &Node, is_waiting: bool) {
        self.is_waiting.store(is_waiting, SeqCst);
        *self.primary.lock().unwrap() = Some(primary.address());
    }

    /// Until there were so many reads.
    async fn phase(&self, name: &str, reads: usize) {
        let (began, before) = (Instant::now(), self.reads.load(SeqCst));
        while self.reads.load(SeqCst) < before + reads {
            let patience = PHASE_MAX * u32::try_from(reads / READS + 1).unwrap();
            assert!(began.elapsed() < patience, "{name}: {:?}", self.reads);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One reader, and what it has seen.
struct Reader {
    kind: Kind,
    number: usize,
    wire: Wire,
    broken: Option<(Broken, Wire)>,
    known: Arc<Known>,
    seen: i64,
    own: i64,
    turn: usize,
}

impl Reader {
    async fn new(listen: SocketAddr, kind: Kind, number: usize, known: Arc<Known>) -> Self {
        let user = if kind == Kind::Both { "walker" } else { "tester" };
        let mut wire = Wire::connect_as(listen, user).await;
        if kind == Kind::Running {
            wire.simple("SET sortie.join = running").await;
            wire.simple(&format!("SET sortie.max_join_age = '{AGE:?}'")).await;
        }
        Self { kind, number, wire, broken: None, known, seen: 0, own: 0, turn: number }
    }

    async fn run(mut self) {
        let is_over = |known: &Known, kind| {
            known.over.load(SeqCst) || (kind == Kind::Writer && known.is_promoted.load(SeqCst))
        };
        let is_writer = self.kind == Kind::Writer;
        self.known.writers.fetch_add(is_writer.into(), SeqCst);
        while !is_over(&self.known, self.kind) {
            self.turn += 1;
            match self.kind {
                Kind::Both if self.turn.is_multiple_of(3) => {
                    self.read("/* sortie: lane=pipe */ ").await;
                }
                Kind::Fresh | Kind::Running | Kind::Both => self.read("").await,
                Kind::Lazy => {
                    self.wire.simple("BEGIN").await;
                    self.read("").await;
                    self.read("").await;
                    self.wire.simple("COMMIT").await;
                }
                Kind::Writer if self.turn.is_multiple_of(5) => self.write().await,
                Kind::Writer => {
                    self.read("").await;
                    self.read_own().await;
                }
            }
        }
        self.known.writers.fetch_sub(is_writer.into(), SeqCst);
    }

    /// What a query says; nothing if it fails where it may.
    async fn value(&mut self, text: &str) -> Option<i64> {
        self.swap(Broken::Reads);
        let said = self.wire.simple(text).await;
        let Some(row) = said.iter().find_map(Frame::row) else {
            assert!(self.known.is_promoted.load(SeqCst), "{:?}: {said:?}", self.kind);
            return None;
        };
        self.known.reads.fetch_add(1, SeqCst);
        Some(row[0].as_ref().unwrap().parse().unwrap())
    }

    async fn read(&mut self, hint: &str) {
        // A load that others join is to take longer than they may be late.
        let is_slow = match self.kind {
            Kind::Running => true,
            Kind::Fresh => self.turn.is_multiple_of(2),
            Kind::Lazy | Kind::Both | Kind::Writer => false,
        };
        let turn = i64::try_from(self.turn).unwrap();
        let (row, slow) = if is_slow { (0, SLOW) } else { (turn % ROWS, "") };
        self.come_late().await;
        let asked = Instant::now();
        // What the pipe reads is as old as its replica, and no older; all have what is everywhere.
        let joined = if self.kind == Kind::Running { AGE } else { Duration::ZERO };
        // What the new primary is committing, one version at a time, its standby may show first.
        let first = i64::from(self.known.is_promoted.load(SeqCst));
        let bound = self.known.at(asked.checked_sub(joined).unwrap()).max(self.seen - first);
        let text = format!("{hint}SELECT version FROM versions WHERE id = {row}{slow}");
        let Some(version) = self.value(&text).await else { return };
        let least = bound - (bound - row).rem_euclid(ROWS);
        let (kind, seen) = (self.kind, self.seen);
        assert!(version >= least, "{kind:?} {hint}: {version} < {least}; it had seen {seen}");
        self.seen = seen.max(version);
    }

    async fn write(&mut self) {
        let (own, id) = (self.own + 1, self.number);
        let write = format!(
            "SET synchronous_commit = local; UPDATE own SET version = {own} WHERE id = {id}"
        );
        self.swap(Broken::Writes);
        let said = self.wire.simple(&write).await;
        assert!(said.iter().all(|frame| frame.tag != b'E'), "{said:?}");
        self.own = own;
        self.wire.simple("DISCARD ALL").await;
        self.swap(Broken::Writes);
    }

    async fn read_own(&mut self) {
        let (own, id) = (self.own, self.number);
        let text = format!("SELECT version FROM own WHERE id = {id}");
        let Some(version) = self.value(&text).await else { return };
        assert!(version >= own, "it has written {own}, and read {version}");
    }
}

fn reads() -> usize {
    let said = std::env::var("SORTIE_NEVER_OLD_READS");
    said.map_or(READS, |reads| reads.parse().expect("SORTIE_NEVER_OLD_READS is a number"))
}

/// A primary and its standbys, with an endpoint before them.
async fn set_up() -> (Cluster, Endpoint) {
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 2, false);
    let cluster = Cluster::private(config).await;
    cluster.primary(0).script_in("postgres", TABLES).await;
    let addresses: Vec<_> = cluster.standbys(0).iter().map(Node::address).collect();
    let setup = Setup { more: WALKER, ..Setup::default() };
    let endpoint = stage::endpoint(cluster.primary(0).address(), &addresses, setup).await;
    (cluster, endpoint)
}

/// The writer, at work.
fn writing() -> (Arc<Known>, JoinSet<()>) {
    let known = Arc::new(Known::default());
    known.written.store(ROWS - 1, SeqCst);
    let mut everybody = JoinSet::new();
    everybody.spawn(Arc::clone(&known).write());
    (known, everybody)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_behind_its_moment_its_writes_or_its_reads() {
    let _others = among_others().await;
    let (cluster, endpoint) = set_up().await;
    let (primary, standbys) = (cluster.primary(0), cluster.standbys(0));
    let ((known, mut everybody), reads) = (writing(), reads());
    for number in 0..READERS * KINDS.len() {
        let kind = KINDS[number % KINDS.len()];
        let reader = Reader::new(endpoint.listen(), kind, number, Arc::clone(&known)).await;
        everybody.spawn(reader.run());
    }
    let phases = async {
        known.go_on(&primary, true);
        known.phase("all goes well", reads).await;
        for standby in &standbys {
            known.rest().await;
            standby.pause_replay().await;
            known.go_on(&primary, false);
            known.phase("one lags behind", reads).await;
            standby.resume_replay().await;
            known.phase("it catches up", reads).await;
            // Its commits wait for those that it has not replayed yet.
            known.rest().await;
            known.go_on(&primary, true);
            known.phase("all goes well again", reads).await;
        }
        known.rest().await;
        known.is_promoted.store(true, SeqCst);
        while known.writers.load(SeqCst) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        primary.stop().await;
        standbys[0].promote().await;
        standbys[1].follow(&standbys[0]).await;
        known.go_on(&standbys[0], false);
        known.phase("one is promoted", reads).await;
    };
    let mut phases = pin!(phases);
    loop {
        tokio::select! {
            () = &mut phases => break,
            // Whoever has found something too old.
            Some(ended) = everybody.join_next() => ended.unwrap(),
        }
    }
    known.over.store(true, SeqCst);
    while let Some(ended) = everybody.join_next().await {
        ended.unwrap();
    }
    let said = endpoint.server.abandoned().await;
    let shared = count(&said, "sortie_lane_statements_total", &["lane=\"shared\""]);
    let joined = count(&said, "sortie_flights_total", &["role=\"follower\""]);
    assert!(shared > 0 && joined > 0, "nothing was tested: {shared} shared, {joined} joined");
    endpoint.stop().await;
}
