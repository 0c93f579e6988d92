//! Transactions that clients begin and no server knows of, as PostgreSQL would answer them.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::{
    Batch, FaultProxy, Flow, Frame, Metrics, Postgres, Server, Way, Wire, cluster,
};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::relay::{count, start};
use crate::support::among_others;

const ONE: &str = "SELECT user_id, name FROM users WHERE user_id = $1";
pub(crate) const TWO: &str = "SELECT user_id, name, balance FROM users WHERE user_id = 2";
/// It fails when it is run.
const ZERO: &str = "SELECT 1 / (user_id - 2) FROM users WHERE user_id = 2";

/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(20);

fn bound(name: &str) -> Batch {
    Batch::new().bind("", name, (0, &[Some(b"1")]), 0).describe(b'P', "").execute("")
}

/// A statement as drivers run it that send all of it at once.
fn extended(text: &str) -> Batch {
    Batch::new().parse("", text, &[]).bind("", "", (0, &[]), 0).describe(b'P', "").execute("")
}

/// A shared read that fails.
fn failing() -> Batch {
    let parse = Batch::new().parse("", ONE, &[]);
    parse.bind("", "", (0, &[Some(b"x")]), 0).describe(b'P', "").execute("").sync()
}

/// `BEGIN` ahead of the first statement in one batch.
fn in_front() -> Batch {
    Batch::new().parse("", "BEGIN", &[]).bind("", "", (0, &[]), 0).execute("")
}

fn queries(texts: &[&str]) -> Vec<Batch> {
    texts.iter().map(|text| Batch::new().query(text)).collect()
}

/// Transactions that nothing but shared reads is done in.
pub(crate) fn spared() -> Vec<Vec<Batch>> {
    let prepared = || vec![Batch::new().parse("s", ONE, &[]).sync(), bound("s").sync()];
    vec![
        queries(&["BEGIN", TWO, TWO, "COMMIT"]),
        queries(&["start transaction read only;", TWO, "end"]),
        queries(&["/* a */ BEGIN WORK", "ABORT"]),
        [queries(&["BEGIN"]), vec![failing()], queries(&["COMMIT"])].concat(),
        [queries(&["BEGIN"]), vec![failing(), extended("ROLLBACK").sync()]].concat(),
        vec![extended("BEGIN").sync(), extended(TWO).sync(), extended("COMMIT").sync()],
        vec![in_front().then(&extended(TWO)).sync(), extended("ROLLBACK").sync()],
        vec![in_front().then(&failing()), extended("COMMIT").sync()],
        [queries(&["BEGIN"]), prepared(), queries(&["COMMIT"]), vec![bound("s").sync()]].concat(),
        vec![Batch::new().query("BEGIN").query(TWO).query("COMMIT")],
        vec![in_front().flush(), extended(TWO).sync(), Batch::new().sync(), extended("END").sync()],
    ]
}

/// Transactions that come to need a server.
pub(crate) fn needy() -> Vec<Vec<Batch>> {
    vec![
        queries(&["BEGIN", TWO, "SELECT now() = now()", TWO, "COMMIT"]),
        queries(&["BEGIN", TWO, "BEGIN", TWO, "COMMIT"]),
        queries(&["BEGIN", ZERO, TWO, "SELEC", "SET a.b = 1", "SHOW a.b", "COMMIT", TWO]),
        queries(&["BEGIN", ZERO, "BEGIN", "ROLLBACK TO a", "COMMIT AND CHAIN", "ABORT"]),
        queries(&["BEGIN", "SAVEPOINT a", ZERO, "ROLLBACK TO a", TWO, "COMMIT"]),
        queries(&["BEGIN", TWO, "SET LOCAL a.b = 1", "SHOW a.b", "COMMIT", "SHOW a.b"]),
        queries(&["BEGIN", TWO, "SET a.b = 1", "ROLLBACK", TWO]),
        queries(&["BEGIN", "INSERT INTO users VALUES (0, '', 0)", TWO, "ROLLBACK"]),
        queries(&["BEGIN", "COMMIT AND CHAIN", TWO, "SHOW transaction_isolation", "COMMIT"]),
        queries(&["BEGIN ISOLATION LEVEL REPEATABLE READ", TWO, "COMMIT"]),
        queries(&["BEGIN", TWO, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", TWO, "COMMIT"]),
        queries(&["BEGIN", TWO, "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT"]),
        queries(&["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", TWO, "COMMIT"]),
        queries(&["BEGIN READ ONLY", "SHOW transaction_read_only", "COMMIT"]),
        queries(&["BEGIN ISOLATION LEVEL READ UNCOMMITTED", "SHOW transaction_isolation", "END"]),
        vec![
            extended("BEGIN").sync(),
            Batch::new().query(";").parse("", ONE, &[]).execute("").sync().query("END"),
        ],
        vec![
            extended("BEGIN").sync(),
            Batch::new().describe(b'P', "").sync(),
            extended(TWO).sync().execute("").sync().query("END"),
        ],
        queries(&["BEGIN", TWO, "SELECT nobody FROM users", TWO, "COMMIT"]),
        queries(&["BEGIN; SELECT 1", TWO, "COMMIT"]),
        vec![
            Batch::new().query("BEGIN").query(";"),
            extended(TWO).sync(),
            Batch::new().query(";").parse("", ONE, &[]).execute("").sync().query("END"),
        ],
        vec![
            Batch::new().query("BEGIN"),
            extended(TWO).sync(),
            Batch::new().describe(b'P', "").close(b'P', "").sync().query("END"),
        ],
        queries(&["BEGIN", "SELECT 1; SELECT 2", TWO, ";", "COMMIT"]),
        queries(&["COMMIT", "ROLLBACK", TWO]),
        queries(&["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "COMMIT"]),
        queries(&["BEGIN", "COPY (SELECT 1) TO STDOUT", "COMMIT"]),
        queries(&["SET application_name = 'x'", "BEGIN", "SHOW application_name", "COMMIT"]),
        vec![
            in_front().then(&extended("SELEC")).sync(),
            extended(TWO).sync(),
            extended("END").sync(),
        ],
        vec![
            in_front().then(&extended("SELECT 1")).then(&extended(TWO)).sync(),
            extended("END").sync(),
        ],
        [queries(&["BEGIN"]), vec![failing()], queries(&[TWO, "SELEC", "SET a.b = 1", "END"])]
            .concat(),
        [
            queries(&["BEGIN"]),
            vec![failing()],
            queries(&["BEGIN", "SET sortie.lane = pipe", "END"]),
        ]
        .concat(),
        [
            queries(&["BEGIN"]),
            vec![failing(), extended(TWO).sync(), Batch::new().parse("s", ONE, &[]).sync()],
            vec![Batch::new().sync(), extended("ROLLBACK").sync(), bound("s").sync()],
        ]
        .concat(),
        vec![Batch::new().query("BEGIN").query(ZERO).query(TWO).query("COMMIT").query(TWO)],
        misbound(),
    ]
}

/// A statement that no server has yet, bound with too few values in a transaction that has failed.
fn misbound() -> Vec<Batch> {
    let described = Batch::new().parse("s", ONE, &[]).describe(b'S', "s").sync();
    let too_few = Batch::new().bind("", "s", (0, &[]), 0).execute("").sync();
    [
        vec![described],
        queries(&["BEGIN", "SELEC"]),
        vec![too_few, bound("s").sync()],
        queries(&["COMMIT"]),
        vec![bound("s").sync()],
    ]
    .concat()
}

/// An endpoint in front of a server, once its tables are known and statements are shared.
pub(crate) async fn before(url: String, user: &str) -> (Server, NamedTempFile) {
    before_with(url, user, 5).await
}

/// As [`before`], with so many connections to the server.
pub(crate) async fn before_with(
    url: String,
    user: &str,
    connections_max: u32,
) -> (Server, NamedTempFile) {
    let (server, config) = start(&[url], connections_max).await;
    let mut wire = Wire::connect_as(server.listen(), user).await;
    let began = Instant::now();
    while shared(&server.metrics().await) == 0 {
        assert!(began.elapsed() < LOOKED_MAX, "the catalogs are not read");
        wire.rows("SELECT count(*) FROM users WHERE user_id = 1").await;
        sleep(Duration::from_millis(50)).await;
    }
    drop(wire);
    (server, config)
}

pub(crate) fn shared(said: &Metrics) -> i64 {
    count(said, "sortie_lane_statements_total", &["lane=\"shared\""])
}

/// Statements that were sent to read what is shared.
pub(crate) fn attempts(said: &Metrics) -> i64 {
    count(said, "sortie_attempts_total", &[])
}

pub(crate) fn pins(said: &Metrics) -> i64 {
    count(said, "sortie_pins_total", &[])
}

fn transactions(said: &Metrics, server: &str) -> i64 {
    count(said, "sortie_lazy_transactions_total", &[&format!("server=\"{server}\"")])
}

/// All that is said on a new connection.
pub(crate) async fn answers(address: SocketAddr, database: &str, script: &[Batch]) -> Vec<Frame> {
    let wire = Wire::try_connect_to(address, "reader", database).await;
    let mut wire = wire.unwrap_or_else(|said| panic!("{said:?}"));
    let mut said = Vec::new();
    for batch in script {
        wire.send(batch.bytes()).await;
        for _ in 0..batch.ready() {
            said.extend(wire.until_ready().await);
        }
    }
    said
}

#[tokio::test]
async fn transactions_are_answered_as_postgresql_answers_them() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let there = cluster.primary(0).address();
    let (server, _config) = before(format!("postgres://reader@{there}/sortie"), "reader").await;
    let begin = server.metrics().await;
    for (nth, script) in spared().iter().enumerate() {
        let ours = answers(server.listen(), "postgres", script).await;
        let theirs = answers(there, "sortie", script).await;
        assert_eq!(ours, theirs, "spared {nth}");
        let said = server.metrics().await;
        let ended = transactions(&said, "none") - transactions(&begin, "none");
        assert_eq!(ended, i64::try_from(nth).unwrap() + 1, "{nth}");
        assert_eq!(transactions(&said, "needed"), transactions(&begin, "needed"), "{nth}");
        assert_eq!(pins(&said), pins(&begin), "{nth}");
    }
    for (nth, script) in needy().iter().enumerate() {
        let ours = answers(server.listen(), "postgres", script).await;
        let theirs = answers(there, "sortie", script).await;
        assert_eq!(ours, theirs, "needy {nth}");
    }
    assert!(transactions(&server.metrics().await, "needed") > 10);
    server.abandoned().await;
    server.stop().await;
}

/// Whether the second of two reads in a transaction sees what was written between them.
async fn sees(server: &Server, postgres: &Postgres, before: &[&str], begin: &str) -> bool {
    let mut wire = Wire::connect(server.listen()).await;
    for text in before {
        wire.simple(text).await;
    }
    wire.rows(begin).await;
    let read = "SELECT balance FROM users WHERE user_id = 1";
    let first = wire.rows(read).await;
    postgres.script("UPDATE users SET balance = balance + 1 WHERE user_id = 1;").await;
    let second = wire.rows(read).await;
    wire.rows("COMMIT").await;
    first != second
}

#[tokio::test]
async fn who_wants_one_snapshot_gets_one() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    let table =
        "CREATE ROLE tester LOGIN; CREATE TABLE users (user_id int8 PRIMARY KEY, balance int8);
                 INSERT INTO users VALUES (1, 1); GRANT SELECT ON users TO tester;";
    postgres.script(table).await;
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    let (server, _config) = before(url.clone(), "tester").await;
    let level = "default_transaction_isolation = 'repeatable read'";
    let set = format!("SET {level}");
    let characteristics = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    assert!(sees(&server, &postgres, &[], "BEGIN").await);
    assert!(!sees(&server, &postgres, &[&set], "BEGIN").await);
    assert!(!sees(&server, &postgres, &[characteristics], "BEGIN").await);
    assert!(!sees(&server, &postgres, &[], "BEGIN ISOLATION LEVEL SERIALIZABLE").await);
    let reset = [&*set, "RESET default_transaction_isolation"];
    assert!(sees(&server, &postgres, &reset, "BEGIN").await);
    assert!(transactions(&server.metrics().await, "none") >= 2);
    server.stop().await;
    for whose in
        ["ROLE tester", "DATABASE postgres", "ROLE ALL", "ROLE tester IN DATABASE postgres"]
    {
        postgres.script(&format!("ALTER {whose} SET {level};")).await;
        let (server, _config) = before(url.clone(), "tester").await;
        assert!(!sees(&server, &postgres, &[], "BEGIN").await, "{whose}");
        assert_eq!(transactions(&server.metrics().await, "none"), 0, "{whose}");
        server.stop().await;
        postgres.script(&format!("ALTER {whose} RESET ALL;")).await;
    }
    postgres.stop().await;
}

/// Drivers begin a transaction ahead of every read: a herd of them is still a herd.
#[tokio::test]
async fn a_herd_in_transactions_is_one_read() {
    const HERD: usize = 60;
    let _others = among_others().await;
    let cluster = cluster().await;
    let there = cluster.primary(0).address();
    // Whatever a statement takes, its answer is late.
    let proxy = FaultProxy::start(there).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    let (server, _config) = before(url, "reader").await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_millis(400)));
    let mut wires = Vec::new();
    for _ in 0..HERD {
        wires.push(Wire::connect_as(server.listen(), "reader").await);
    }
    let before = attempts(&server.metrics().await);
    let mut herd = JoinSet::new();
    for mut wire in wires {
        herd.spawn(async move {
            wire.send(in_front().then(&extended(TWO)).sync().bytes()).await;
            let answer = wire.until_ready().await;
            assert!(answer.iter().any(|frame| frame.tag == b'D'), "{answer:?}");
            wire.rows("COMMIT").await;
        });
    }
    while let Some(ended) = herd.join_next().await {
        ended.unwrap();
    }
    let sent = attempts(&server.abandoned().await) - before;
    assert!((1..=5).contains(&sent), "{sent}");
    server.stop().await;
}
