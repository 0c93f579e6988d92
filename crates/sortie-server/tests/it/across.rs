//! Nobody is told another's answer: shared reads at random, by roles who see different rows, with
//! parameters by which answers read otherwise, and with different values, all at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sortie_testkit::{Batch, Frame, Wire};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use crate::relay::count;
use crate::stage::{Setup, Stage};
use crate::support::{Dice, among_others};

/// Reads, unless `SORTIE_SHARED_READS` says how many.
const READS: u64 = 5_000;
const CLIENTS: u64 = 24;
/// Reads that a client has on their way at once.
const BURST_MAX: u64 = 12;
/// Reads after which a client comes again as somebody else.
const STAY_MAX: u64 = 300;

const ROLES: [&str; 3] = ["tester", "narrow", "wide"];

/// What a session has set: each by itself, and some together.
const DRESSES: [&[&str]; 18] = [
    &[],
    &["TimeZone = 'Asia/Tokyo'"],
    &["TimeZone = 'America/St_Johns'"],
    &["DateStyle = 'German'"],
    &["DateStyle = 'SQL, DMY'"],
    &["IntervalStyle = 'iso_8601'"],
    &["IntervalStyle = 'sql_standard'", "bytea_output = 'escape'"],
    &["bytea_output = 'escape'"],
    &["extra_float_digits = 0"],
    &["extra_float_digits = -5", "DateStyle = 'SQL, MDY'"],
    &["search_path = far, public"],
    &["search_path = near, public"],
    &["array_nulls = off"],
    &["transform_null_equals = on"],
    &["default_text_search_config = 'simple'"],
    &["lc_monetary = 'C.UTF-8'"],
    &["my.own = 'nobody'"],
    &["client_encoding = 'LATIN2'"],
];

const TEXTS: [&str; 14] = [
    "SELECT * FROM looks WHERE nth = 1",
    "SELECT at, clock, made_on, took FROM looks ORDER BY nth",
    "SELECT raw, ratio, small, cash FROM looks ORDER BY nth",
    "SELECT at::text, raw::text, ratio::text FROM looks WHERE nth = 1",
    "SELECT to_char(at, 'HH24:MI TZ') FROM looks WHERE nth = 1",
    "SELECT to_tsvector('the ' || word) FROM looks WHERE nth = 1",
    "SELECT '{NULL,1}'::text[] FROM looks WHERE nth = 1",
    "SELECT nth FROM looks WHERE list = NULL",
    "SELECT count(*) FROM items WHERE made = '02/03/2024'",
    "SELECT count(*) FROM items WHERE made < '2024-02-03 03:00+00'::timestamptz",
    "SELECT spot FROM spots ORDER BY 1",
    "SELECT word FROM looks WHERE nth = 2",
    "SELECT sheet FROM papers ORDER BY sheet",
    "SELECT sheet FROM hidden",
];

const ASKED: [(&str, [&str; 4]); 3] = [
    ("SELECT label FROM items WHERE id = $1", ["1", "7", "5000", "x"]),
    ("SELECT nth, at FROM looks WHERE at > $1 ORDER BY nth", ["1999-12-31", "1/2/2000", "-", "?"]),
    ("SELECT 6 / $1::int4, nth, took FROM looks ORDER BY nth", ["2", "0", "-1", "9999999999"]),
];

/// One read: who, dressed how, asks what.
type Key = (usize, usize, Bytes);
type Bytes = Vec<u8>;
type Said = Arc<OnceCell<Vec<Frame>>>;
type Session = Arc<Mutex<Wire>>;

/// What PostgreSQL itself says.
#[derive(Debug)]
struct Oracle {
    server: SocketAddr,
    known: Mutex<HashMap<Key, Said>>,
    sessions: Mutex<HashMap<(usize, usize), Session>>,
}

impl Oracle {
    async fn says(&self, (role, dress): (usize, usize), batch: &Batch) -> Said {
        let key = (role, dress, batch.bytes().to_vec());
        let said = Arc::clone(self.known.lock().await.entry(key).or_default());
        said.get_or_init(|| async {
            let session = {
                let mut sessions = self.sessions.lock().await;
                if let Some(session) = sessions.get(&(role, dress)) {
                    Arc::clone(session)
                } else {
                    let mut wire = Wire::connect_as(self.server, ROLES[role]).await;
                    put_on(&mut wire, dress).await;
                    let session = Arc::new(Mutex::new(wire));
                    sessions.insert((role, dress), Arc::clone(&session));
                    session
                }
            };
            let mut session = session.lock().await;
            session.ask(batch).await
        })
        .await;
        said
    }
}

async fn put_on(wire: &mut Wire, dress: usize) {
    for set in DRESSES[dress] {
        wire.rows(&format!("SET {set}")).await;
    }
}

/// A read as one of the clients asks it.
fn read(dice: &mut Dice) -> Batch {
    let shape = dice.roll(5);
    if dice.roll(3) == 0 {
        let (text, values) = dice.pick(&ASKED);
        let value = dice.pick(values);
        let batch = Batch::new().parse("", text, &[]);
        return batch
            .bind("", "", (0, &[Some(value.as_bytes())]), i16::from(shape == 0))
            .describe(b'P', "")
            .execute("")
            .sync();
    }
    // Often one and the same, so that many ask it at once.
    let text = if dice.roll(3) == 0 { &TEXTS[1] } else { dice.pick(&TEXTS) };
    match shape {
        0 | 1 => Batch::new().query(text),
        2 => Batch::new().query(&format!("/* {} */ {text}", dice.roll(3))),
        3 => Batch::new().statement(text, &[]).sync(),
        _ => Batch::new().parse("", text, &[]).bind("", "", (0, &[]), 1).execute("").sync(),
    }
}

async fn client(seed: u64, listen: SocketAddr, oracle: Arc<Oracle>, left: Arc<AtomicU64>) {
    let mut dice = Dice::new(seed);
    loop {
        let role = usize::try_from(dice.roll(3)).unwrap();
        let mut wire = Wire::connect_as(listen, ROLES[role]).await;
        let mut dress = 0;
        for _ in 0..=dice.roll(STAY_MAX / BURST_MAX) {
            if dice.roll(3) == 0 {
                wire.rows("RESET ALL").await;
                dress = usize::try_from(dice.roll(DRESSES.len() as u64)).unwrap();
                put_on(&mut wire, dress).await;
            }
            let burst: Vec<Batch> = (0..=dice.roll(BURST_MAX)).map(|_| read(&mut dice)).collect();
            let sent = burst.iter().fold(Batch::new(), Batch::then);
            wire.send(sent.bytes()).await;
            for batch in &burst {
                let found = wire.until_ready().await;
                let expected = oracle.says((role, dress), batch).await;
                let (role, dress) = (ROLES[role], DRESSES[dress]);
                assert_eq!(Some(&found), expected.get(), "{seed}: {role} {dress:?} {batch:?}");
            }
            let done = burst.len() as u64;
            let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(done))
            });
            if before.unwrap() <= done {
                return;
            }
        }
    }
}

#[tokio::test]
async fn nobody_is_told_the_answer_of_another() {
    let _others = among_others().await;
    let reads = std::env::var("SORTIE_SHARED_READS").map_or(READS, |reads| reads.parse().unwrap());
    let stage = Stage::take().await;
    let more = "[clusters.postgres.users.tester]\n[clusters.postgres.users.narrow]\n\
                [clusters.postgres.users.wide]";
    let endpoint = stage.endpoint(Setup { more, connections_max: 40, ..Setup::default() }).await;
    let server = stage.primary();
    let oracle = Arc::new(Oracle { server, known: Mutex::default(), sessions: Mutex::default() });
    let left = Arc::new(AtomicU64::new(reads));
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(seed, endpoint.listen(), Arc::clone(&oracle), Arc::clone(&left)));
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let said = endpoint.server.metrics().await;
    let shared = count(&said, "sortie_lane_statements_total", &["lane=\"shared\""]);
    let followers = count(&said, "sortie_flights_total", &["role=\"follower\""]);
    println!("{reads} reads, {shared} in the shared lane, {followers} by another's flight");
    assert!(shared * 2 > i64::try_from(reads).unwrap(), "{shared}");
    assert!(followers > 0);
    endpoint.stop().await;
}
